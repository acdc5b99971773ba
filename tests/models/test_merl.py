"""Parity with MERL's encoders and the properties of our class."""

import pytest
import torch
from transformers import AutoModel

import ecg_transformers as ecg
from ecg_transformers.models.merl.configuration_merl import MERLConfig
from ecg_transformers.models.merl.convert_merl import convert_merl
from ecg_transformers.models.merl.modeling_merl import MERLForSequenceClassification, MERLModel
from ecg_transformers.models.shared.state_dicts import CheckpointError
from tests.support.published import check_gradients, check_outputs, check_preprocessing, published_case

RESNET, VIT = "zoo/merl_resnet", "zoo/merl_vit"
CASES = [(folder, case) for folder in (RESNET, VIT) for case in ("a", "b", "c")]
SMALL = {
    "resnet": {"stem_dim": 6, "stage_dims": [8, 12], "depths": [1, 2], "seq_len": 100},
    "vit": {"patch_size": 20, "seq_len": 100, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
}


def small(backbone, model_class=MERLModel, **overrides):
    torch.manual_seed(0)
    sizes = {"backbone": backbone, "num_leads": 3, "sampling_rate": None, "intermediate_size": 24, **SMALL[backbone]}
    return model_class(MERLConfig(**{**sizes, **overrides})).eval()


@pytest.mark.parametrize(("folder", "case"), [*CASES, (RESNET, "full"), (VIT, "full")])
def test_every_published_output_is_reproduced(parity, folder, case):
    weights, io, config = published_case(parity, folder, case)
    model = ecg.convert_checkpoint("merl", weights, **config["overrides"])
    check_outputs(model, io, config)
    assert isinstance(model, MERLForSequenceClassification) == ("logits" in io)


@pytest.mark.parametrize(("folder", "case"), CASES)
def test_every_published_gradient_is_reproduced(parity, folder, case):
    weights, io, config = published_case(parity, folder, case)
    check_gradients(ecg.convert_checkpoint("merl", weights, **config["overrides"]), weights, io, config)


def test_the_downstream_reader_is_reproduced(parity):
    check_preprocessing(parity, RESNET)


def test_an_encoder_file_has_no_embedding_in_the_shared_space(parity):
    weights, io, _ = published_case(parity, RESNET, "c")
    assert convert_merl(weights)(io["input_values"]).ecg_embeds is None


def test_the_untrained_linear_layer_is_a_head_only_when_asked_for(parity):
    weights, _, _ = published_case(parity, RESNET, "b")
    assert type(convert_merl(weights)) is MERLModel
    assert convert_merl(weights, num_labels=10).config.num_labels == 10
    with pytest.raises(CheckpointError, match="num_labels=7"):
        convert_merl(weights, num_labels=7)


@pytest.mark.parametrize(("folder", "case"), CASES)
def test_every_key_is_used_or_named(parity, folder, case):
    weights, _, config = published_case(parity, folder, case)
    with pytest.raises(CheckpointError, match="extra"):
        convert_merl({**weights, "extra": torch.zeros(1)}, **config["overrides"])
    ignored = (*config.get("ignored_prefixes", ()), "linear.", "head.", "lm_model.", "proj_t.")
    needed = [key for key in weights if not key.startswith(ignored)]
    for lost in (needed[0], needed[len(needed) // 2], needed[-1]):
        with pytest.raises(CheckpointError, match="MERL"):
            convert_merl({key: value for key, value in weights.items() if key != lost}, **config["overrides"])


def test_leads_are_those_of_the_corpus_it_was_trained_on(parity):
    weights, _, _ = published_case(parity, RESNET, "a")
    extractor = ecg.ECGFeatureExtractor.for_method("merl")
    assert extractor.lead_names == convert_merl(weights).config.lead_names
    assert extractor.lead_names.index("aVF") < extractor.lead_names.index("aVL")


@pytest.mark.parametrize("backbone", ["resnet", "vit"])
@pytest.mark.parametrize("projection", [None, 8])
def test_both_networks_are_saved_and_loaded_bit_equal(tmp_path, backbone, projection):
    model = small(backbone, projection_size=projection)
    with torch.no_grad():
        for buffer in model.buffers():
            buffer.add_(1)
        model.save_pretrained(tmp_path)
        again = AutoModel.from_pretrained(tmp_path).eval()
        x = torch.rand(2, 3, 100)
        for name, value in model(x).items():
            assert torch.equal(value, again(x)[name]), name


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["resnet", "vit"])
def test_records_of_a_batch_do_not_meet(backbone):
    model, x = small(backbone, projection_size=8), torch.rand(3, 3, 100)
    together = model(x)
    for index in range(3):
        alone = model(x[index : index + 1])
        torch.testing.assert_close(alone.ecg_embeds[0], together.ecg_embeds[index], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_other_lengths_fail_where_positions_are_learned_and_run_where_not():
    with pytest.raises(ValueError, match="built for 100 samples"):
        small("vit")(torch.rand(1, 3, 120))
    with pytest.raises(ValueError, match="one length only"):
        small("resnet", projection_size=8)(torch.rand(1, 3, 120))
    assert small("resnet")(torch.rand(1, 3, 120)).pooler_output.isfinite().all()


@torch.no_grad()
def test_the_vit_norms_after_pooling():
    model, x = small("vit"), torch.rand(2, 3, 100)
    with torch.no_grad():
        model.backbone.layernorm.weight.normal_()
        model.backbone.layernorm.bias.normal_()
    captured = []
    handle = model.backbone.encoder.register_forward_hook(lambda *args: captured.append(args[2]))
    output = model(x)
    handle.remove()
    torch.testing.assert_close(output.pooler_output, model.backbone.layernorm(captured[0].mean(dim=1)))
    assert not torch.allclose(output.pooler_output, output.last_hidden_state.mean(dim=1), atol=1e-3)


@pytest.mark.parametrize("backbone", ["resnet", "vit"])
def test_a_training_step_reaches_every_parameter_of_the_classifier(backbone):
    model = small(backbone, MERLForSequenceClassification, num_labels=3).train()
    model(torch.rand(4, 3, 100), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_sizes_that_contradict_are_refused():
    for backbone, wrong in (("resnet", {"depths": [1]}), ("vit", {"seq_len": 110}), ("resnet", {"projection_size": 6})):
        with pytest.raises(ValueError, match="MERLConfig"):
            small(backbone, **wrong)
    with pytest.raises(ValueError, match="backbone"):
        MERLConfig(backbone="lstm")
