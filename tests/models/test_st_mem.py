"""ST-MEM: equality with the reference tensors, and the invariants of the method."""

import numpy as np
import pytest
import torch

import ecg_transformers as ecg
from ecg_transformers.layers.masking import gather_tokens, rank_noise
from ecg_transformers.layers.patching import patchify
from ecg_transformers.layers.positions import sincos_1d
from ecg_transformers.models.registry import get_method
from ecg_transformers.models.shared.state_dicts import CheckpointError
from ecg_transformers.models.st_mem.configuration_st_mem import STMEMConfig
from ecg_transformers.models.st_mem.convert_st_mem import convert_st_mem
from ecg_transformers.models.st_mem.modeling_st_mem import (
    STMEMForPreTraining,
    STMEMForSequenceClassification,
    STMEMModel,
)

TOLERANCE = 1e-5
CASES = ("st_mem_a", "st_mem_b", "st_mem_c")


def close(actual, expected, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    assert float((actual.detach() - expected).abs().max()) <= tolerance


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return STMEMForPreTraining(STMEMConfig(**get_method("st_mem").tiny_config)).eval()


@pytest.mark.parametrize("case", CASES)
def test_pretraining_forward_equals_the_reference(parity, case):
    model = convert_st_mem(
        parity("st_mem", f"{case}_weights"), mask_ratio=parity.config("st_mem", f"{case}_io")["mask_ratio"]
    )
    tensors = parity("st_mem", f"{case}_io")
    x, noise = tensors["input.series"], tensors["input.noise"]
    close(patchify(x, model.config.patch_size), tensors["patches"], 0)
    for norm, key in ((False, "raw"), (True, "norm")):
        model.config.norm_pix_loss = norm
        output = model(x, noise=noise)
        close(output.reconstruction, tensors["pred"])
        close(output.last_hidden_state, tensors["latent"])
        close(output.loss, tensors[f"loss.{key}"])
        assert torch.equal(output.mask, tensors["mask"])
        assert torch.equal(output.ids_restore, tensors["ids_restore"])


@pytest.mark.parametrize("case", CASES)
def test_stages_equal_the_reference(parity, case):
    model = convert_st_mem(parity("st_mem", f"{case}_weights"))
    tensors = parity("st_mem", f"{case}_io")
    patches = tensors["patches"]
    embedding = model.st_mem.embeddings.patch_embeddings
    close(embedding.norm_in(patches), tensors["tokens.patch_norm"])
    close(embedding(patches), tensors["tokens.embed"])
    ranking = model.rank(patches, tensors["input.noise"], parity.config("st_mem", f"{case}_io")["mask_ratio"])
    assert torch.equal(ranking.ids_keep, tensors["ids_keep"])
    leads = torch.arange(patches.shape[1])
    close(model.st_mem.embeddings(patches, leads, ranking.ids_keep).flatten(1, 2), tensors["encoder.block0.input"])
    model.config.norm_pix_loss = True
    close(model.target(patches), tensors["target.norm"])


@pytest.mark.parametrize("case", CASES)
def test_other_mask_ratios_equal_the_reference(parity, case):
    tensors = parity("st_mem", f"{case}_io")
    ratio = parity.config("st_mem", f"{case}_io")["extra_ratio"]
    model = convert_st_mem(parity("st_mem", f"{case}_weights"), norm_pix_loss=True)
    for further in () if ratio is None else (ratio,):
        output = model(tensors["input.series"], noise=tensors["input.noise"], mask_ratio=further)
        close(output.reconstruction, tensors["ratio2.pred"])
        close(output.loss, tensors["ratio2.loss.norm"])
        assert torch.equal(output.mask, tensors["ratio2.mask"])
    unmasked = model(tensors["input.series"], mask_ratio=0)
    close(unmasked.reconstruction, tensors["unmasked.pred"])
    close(unmasked.last_hidden_state, tensors["unmasked.latent"])
    assert torch.isnan(unmasked.loss)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["raw", "norm"])
def test_gradients_equal_the_reference(parity, case, kind):
    ratio = parity.config("st_mem", f"{case}_io")["mask_ratio"]
    model = convert_st_mem(parity("st_mem", f"{case}_weights"), norm_pix_loss=kind == "norm", mask_ratio=ratio)
    tensors = parity("st_mem", f"{case}_io")
    model(tensors["input.series"], noise=tensors["input.noise"]).loss.backward()
    embeddings, attention = model.st_mem.embeddings, model.st_mem.encoder.layer[0].attention
    prefix = f"grad.{kind}"
    close(embeddings.sep_token.grad, tensors[f"{prefix}.encoder.sep_embedding"])
    close(embeddings.lead_embeddings.weight.grad[0], tensors[f"{prefix}.encoder.lead_embeddings.0"])
    close(embeddings.patch_embeddings.projection.weight.grad, tensors[f"{prefix}.encoder.to_patch_embedding.2.weight"])
    close(model.decoder.mask_token.grad, tensors[f"{prefix}.mask_embedding"])
    close(model.decoder.pred.weight.grad, tensors[f"{prefix}.decoder_head.weight"])
    packed = torch.cat([attention.query.weight.grad, attention.key.weight.grad, attention.value.weight.grad])
    close(packed, tensors[f"{prefix}.encoder.block0.attn.fn.to_qkv.weight"])
    assert embeddings.position_embeddings.grad is None


def encoder_with_head(parity, tensors, **overrides):
    weights = {
        key.removeprefix("encoder."): value
        for key, value in parity("st_mem", "st_mem_a_weights").items()
        if key.startswith("encoder.")
    }
    weights |= {"head.weight": tensors["head.weight"], "head.bias": tensors["head.bias"]}
    return convert_st_mem(weights, **overrides)


@pytest.mark.parametrize(
    ("case", "overrides", "lead_indices"),
    [
        ("full", {}, None),
        ("limb", {}, None),
        ("lead_first", {}, None),
        ("lead_second_as_first", {}, None),
        ("short", {}, None),
        ("single_broadcast", {"lead_mode": "official_broadcast"}, None),
        ("limb", {"lead_mode": "official_broadcast"}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_downstream_cases_equal_the_reference(parity, case, overrides, lead_indices):
    tensors = parity("st_mem", "st_mem_a_encoder")
    model = encoder_with_head(parity, tensors, **overrides)
    x = tensors[f"{case}.input"]
    close(model.st_mem(x, lead_indices=lead_indices).pooler_output, tensors[f"{case}.features"])
    close(model(x, lead_indices=lead_indices).logits, tensors[f"{case}.logits"])


def test_fine_tuning_gradients_equal_the_reference(parity):
    tensors = parity("st_mem", "st_mem_a_encoder")
    model = encoder_with_head(parity, tensors)
    output = model(tensors["full.input"], labels=tensors["finetune.labels"])
    close(output.loss, tensors["finetune.loss"])
    output.loss.backward()
    embeddings = model.st_mem.embeddings
    close(embeddings.position_embeddings.grad, tensors["finetune.grad.pos_embedding"])
    close(embeddings.sep_token.grad, tensors["finetune.grad.sep_embedding"])
    close(embeddings.lead_embeddings.weight.grad[0], tensors["finetune.grad.lead_embeddings.0"])
    close(model.st_mem.layernorm.weight.grad, tensors["finetune.grad.norm.weight"])
    close(model.classifier.weight.grad, tensors["finetune.grad.head.weight"])


def test_attention_maps_equal_the_reference(parity):
    tensors = parity("st_mem", "st_mem_a_encoder")
    model = encoder_with_head(parity, tensors)
    model.set_attn_implementation("eager")
    attentions = model(tensors["limb.input"], output_attentions=True).attentions
    assert len(attentions) == sum(name.endswith(".attention") and name.startswith("limb.block") for name in tensors)
    for index, weights in enumerate(attentions):
        close(weights[:1], tensors[f"limb.block{index}.attention"])


def test_position_tables_equal_the_reference(parity):
    for name, table in parity("st_mem", "sincos_tables").items():
        kind, width, positions = name.split(".")
        rows = sincos_1d(int(positions[1:]), int(width[1:]))
        pads = {"plain": (0, 0), "cls": (1, 0), "sep": (1, 1)}[kind]
        close(torch.nn.functional.pad(rows, (0, 0, *pads)), table, 1e-6)


def test_every_epsilon_is_the_published_one(parity):
    tensors = parity("st_mem", "norm_eps_probe")
    model = convert_st_mem(parity("st_mem", "st_mem_a_weights"))
    encoder, embedding = model.st_mem, model.st_mem.embeddings.patch_embeddings
    norms = {
        "encoder.to_patch_embedding.1": embedding.norm_in,
        "encoder.to_patch_embedding.3": embedding.norm_out,
        "encoder.block0.attn.norm": encoder.encoder.layer[0].layernorm_before,
        "encoder.block0.ff.norm": encoder.encoder.layer[0].layernorm_after,
        "encoder.norm": encoder.layernorm,
        "decoder_blocks.0.attn.norm": model.decoder.layer[0].layernorm_before,
        "decoder_norm": model.decoder.norm,
    }
    for name, norm in norms.items():
        close(norm(tensors[f"{name}.in"]), tensors[f"{name}.out"])
    patches = patchify(tensors["loss.series"], 75)
    for norm_pix_loss, key, mask in (
        (False, "loss.raw", "loss.mask"),
        (True, "loss.norm", "loss.mask"),
        (True, "loss.norm_flat_patch", "loss.mask_flat_patch"),
        (True, "loss.norm_tiny_patch", "loss.mask_tiny_patch"),
    ):
        model.config.norm_pix_loss = norm_pix_loss
        close(model.reconstruction_loss(tensors["loss.pred"], patches, tensors[mask]), tensors[key])


def test_masked_patches_do_not_reach_the_encoder(tiny):
    inputs = tiny.dummy_inputs
    before = tiny(**inputs)
    masked = before.mask[..., None].expand(-1, -1, -1, tiny.config.patch_size).flatten(2).bool()
    changed = torch.where(masked, inputs["input_values"] + 3.0, inputs["input_values"])
    after = tiny(changed, noise=inputs["noise"])
    assert torch.equal(before.last_hidden_state, after.last_hidden_state)
    assert torch.equal(before.reconstruction, after.reconstruction)
    tiny.config.norm_pix_loss = False
    assert tiny(**inputs).loss != tiny(changed, noise=inputs["noise"]).loss


def test_loss_ignores_visible_patches(tiny):
    output = tiny(**tiny.dummy_inputs)
    predicted = output.reconstruction.detach().requires_grad_()
    patches = patchify(tiny.dummy_inputs["input_values"], tiny.config.patch_size)
    tiny.reconstruction_loss(predicted, patches, output.mask).backward()
    visible = output.mask == 0
    assert predicted.grad[visible].abs().max() == 0
    assert predicted.grad[~visible].abs().max() > 0


def test_every_lead_keeps_the_same_number_of_patches(tiny):
    mask = tiny(tiny.dummy_inputs["input_values"]).mask
    assert (mask == 0).sum(-1).unique().tolist() == [int(tiny.config.num_patches * 0.25)]


@pytest.mark.parametrize(
    ("model_class", "answer"), [(STMEMModel, "pooler_output"), (STMEMForSequenceClassification, "logits")]
)
def test_permuting_leads_with_their_indices_changes_no_answer(model_class, answer):
    torch.manual_seed(0)
    model = model_class(STMEMConfig(**get_method("st_mem").tiny_config)).eval()
    x = model.dummy_inputs["input_values"]
    order = torch.randperm(12)
    plain = model(x)
    close(model(x[:, order], lead_indices=order)[answer], plain[answer])
    assert float((model(x[:, order])[0] - plain[0]).abs().max()) > 1e-4


def test_permuting_leads_with_their_indices_permutes_their_tokens():
    torch.manual_seed(0)
    model = STMEMModel(STMEMConfig(**get_method("st_mem").tiny_config)).eval()
    x, order = model.dummy_inputs["input_values"], torch.randperm(12)
    plain, permuted = model(x).last_hidden_state, model(x[:, order], lead_indices=order).last_hidden_state
    close(model.tokens_by_lead(permuted, 12), model.tokens_by_lead(plain, 12)[:, order])


def test_lead_indices_of_a_record_are_its_own():
    torch.manual_seed(0)
    model = STMEMModel(STMEMConfig(**get_method("st_mem").tiny_config)).eval()
    x = model.dummy_inputs["input_values"][:, :2]
    rows = [[1, 5], [7, 0]]
    together = model(x, lead_indices=rows).pooler_output
    alone = torch.cat([model(x[i : i + 1], lead_indices=rows[i]).pooler_output for i in range(2)])
    close(together, alone)


def test_leads_are_decoded_alone_unless_the_decoder_is_joint(tiny):
    inputs = tiny.dummy_inputs
    output = tiny(**inputs)
    changed = output.last_hidden_state.clone().unflatten(1, (12, -1))
    changed[:, 3] += 1.0
    difference = (tiny.decode(changed.flatten(1, 2), output.ids_restore) - output.reconstruction).abs().amax((0, 2, 3))
    assert difference[3] > 1e-3
    assert difference[[lead for lead in range(12) if lead != 3]].max() == 0
    tiny.config.decoder_mode = "joint"
    joint = tiny.decode(changed.flatten(1, 2), output.ids_restore)
    tiny_joint = tiny.decode(output.last_hidden_state, output.ids_restore)
    assert (joint - tiny_joint).abs().amax((0, 2, 3)).min() > 0


def test_position_table_is_frozen_in_pretraining_and_trainable_downstream(tmp_path, tiny):
    tiny.save_pretrained(tmp_path)
    again = STMEMForPreTraining.from_pretrained(tmp_path)
    for model in (tiny, again):
        assert not model.st_mem.embeddings.position_embeddings.requires_grad
        assert "decoder.position_embeddings" not in dict(model.named_parameters())
    assert STMEMForSequenceClassification.from_pretrained(tmp_path).st_mem.embeddings.position_embeddings.requires_grad


def test_switched_off_lead_indicators_leave_no_parameters():
    config = STMEMConfig(**get_method("st_mem").tiny_config, use_sep_embedding=False, use_lead_embedding=False)
    model = STMEMForPreTraining(config).eval()
    assert not [name for name, _ in model.named_parameters() if "sep_token" in name or "lead_embeddings" in name]
    output = model(**model.dummy_inputs)
    assert output.last_hidden_state.shape[1] == 12 * int(config.num_patches * 0.25)
    order = torch.randperm(12)
    x, noise = model.dummy_inputs["input_values"], model.dummy_inputs["noise"]
    close(model(x[:, order], noise=noise[:, order]).reconstruction, output.reconstruction[:, order])


def test_a_series_that_is_no_ecg_is_taken():
    config = STMEMConfig(
        **{**get_method("st_mem").tiny_config, "num_leads": 5, "lead_names": None, "sampling_rate": None}
    )
    output = STMEMForPreTraining(config)(torch.randn(3, 5, 120))
    assert output.reconstruction.shape == (3, 5, 8, 15)
    assert config.lead_names is None


def test_one_patch_too_many_is_taken_as_published_and_refused_when_strict():
    settings = get_method("st_mem").tiny_config
    model = STMEMModel(STMEMConfig(**settings))
    assert model(torch.randn(1, 12, 135)).pooler_output.shape == (1, 32)
    with pytest.raises(ValueError, match="10 patches"):
        model(torch.randn(1, 12, 150))
    with pytest.raises(ValueError, match="9 patches"):
        STMEMModel(STMEMConfig(**settings, strict_length=True))(torch.randn(1, 12, 135))


def test_loss_at_initialisation_is_near_its_analytic_value():
    torch.manual_seed(0)
    config = STMEMConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=1, intermediate_size=64,
                         decoder_num_hidden_layers=1, norm_pix_loss=True)  # fmt: skip
    loss = STMEMForPreTraining(config)(torch.randn(4, 12, 2250)).loss
    assert 2.3 < float(loss) < 2.9  # target variance 74/75 and about 1.6 from the Xavier head of width 256


def test_subsets_of_leads_compile_without_graph_breaks(tiny):
    encoder, x = tiny.base_model.eval(), torch.randn(2, tiny.config.num_leads, tiny.config.seq_len)
    torch.compiler.reset()
    compiled = torch.compile(encoder, fullgraph=True, backend="eager")
    for leads in (list(range(tiny.config.num_leads)), [0, 1], [1, 0, 2]):  # the second one makes sizes dynamic
        inputs = {"input_values": x[:, leads], "lead_indices": leads}
        torch.testing.assert_close(compiled(**inputs).pooler_output, encoder(**inputs).pooler_output)
    torch.compiler.reset()


def test_a_dropped_key_is_noticed(parity):
    weights = parity("st_mem", "st_mem_a_weights")
    last_lead = f"encoder.lead_embeddings.{sum('lead_embeddings' in key for key in weights) - 1}"
    for missing in weights:
        if missing == last_lead:
            continue  # a smaller file: how many leads there are is told by these tensors alone
        with pytest.raises(ValueError, match=r"(?i)st.?mem"):
            convert_st_mem({key: value for key, value in weights.items() if key != missing})


def test_the_first_leads_of_a_file_keep_their_names(tmp_path, parity):
    weights = parity("st_mem", "st_mem_a_weights")
    limb = ecg.convert_checkpoint("st_mem", weights, num_leads=6)
    assert limb.config.lead_names == ["I", "II", "III", "aVR", "aVL", "aVF"]
    limb.save_pretrained(tmp_path)
    extractor = ecg.ECGFeatureExtractor.from_pretrained(tmp_path)
    record = np.random.default_rng(0).standard_normal((extractor.seq_len, 6))
    with pytest.raises(ValueError, match="lead"):
        extractor(record, sampling_rate=extractor.sampling_rate, lead_names=[f"V{i}" for i in range(1, 7)])
    two = extractor(record[:, :2], sampling_rate=extractor.sampling_rate, lead_names=["I", "II"])
    assert np.asarray(two["input_values"]).shape[1] == 6  # the other limb leads are derived


def test_a_key_nobody_takes_is_named(parity):
    weights = parity("st_mem", "st_mem_a_weights") | {"stray.weight": torch.zeros(2)}
    with pytest.raises(CheckpointError, match=r"stray\.weight"):
        convert_st_mem(weights)


def test_a_tensor_missing_from_a_saved_encoder_is_an_error(tmp_path, tiny):
    from safetensors.torch import load_file, save_file

    tiny.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["st_mem.encoder.layer.0.attention.query.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"layer\.0\.attention\.query\.weight"):
        STMEMForPreTraining.from_pretrained(tmp_path)


def test_ranking_is_the_inverse_of_itself():
    noise = torch.rand(3, 4, 10)
    ranking = rank_noise(noise, 4)
    tokens = torch.randn(3, 4, 10, 2)
    order = noise.argsort(-1)
    shuffled = gather_tokens(tokens, order)
    assert torch.equal(gather_tokens(shuffled, ranking.ids_restore), tokens)


def test_the_large_initialisation_of_training_from_scratch_is_an_option():
    torch.manual_seed(0)
    config = STMEMConfig(**{**get_method("st_mem").tiny_config, "hidden_size": 256}, initializer="torch_default")
    embeddings = STMEMModel(config).embeddings
    for tensor in (embeddings.position_embeddings, embeddings.sep_token, embeddings.lead_embeddings.weight):
        assert 0.85 < float(tensor.std()) < 1.15


def test_broadcasting_a_single_lead_leaves_pretraining_alone():
    settings = {**get_method("st_mem").tiny_config, "num_leads": 1, "lead_names": None}
    model = STMEMForPreTraining(STMEMConfig(**settings, lead_mode="official_broadcast")).eval()
    output = model(**model.dummy_inputs)
    assert output.last_hidden_state.shape[1] == 2 + int(model.config.num_patches * 0.25)
