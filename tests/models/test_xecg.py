"""Parity with xECG, and what is particular to it."""

import numpy as np
import pytest
import torch
from support.published import named

from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor
from ecg_transformers.models.shared.state_dicts import CheckpointError
from ecg_transformers.models.xecg.configuration_xecg import XECGConfig
from ecg_transformers.models.xecg.convert_xecg import convert_xecg
from ecg_transformers.models.xecg.modeling_xecg import XECGModel
from tests.support.xecg_files import published_layout, small_model

GROUP = "zoo/xecg"


@pytest.mark.parametrize("case", ["a", "b"])
def test_encoder_and_its_gradients_equal_the_published_ones(parity, case):
    config, io = parity.config(GROUP, f"{case}_weights"), parity(GROUP, f"{case}_io")
    model = convert_xecg(parity(GROUP, f"{case}_weights"), **config["overrides"])
    output = model(io["input_values"], output_hidden_states=True)
    torch.testing.assert_close(output.last_hidden_state, io["last_hidden_state"], rtol=0, atol=5e-5)
    torch.testing.assert_close(output.pooler_output, io["pooler_output"], rtol=0, atol=1e-5)
    torch.testing.assert_close(output.hidden_states[1], io["hidden_states.1"], rtol=0, atol=5e-5)
    output.pooler_output.square().mean().backward()
    pairs = {
        "patch_embedding.conv.weight": model.embeddings.projection.weight,
        "core.model.blocks.0.xlstm.zgate.weight": model.layers[0].cell.cell_input.weight,
        "core.model.blocks.1.xlstm_norm.weight": model.layers[1].norm.weight,
    }
    for key, parameter in pairs.items():
        expected = io[f"grad.{key}"]
        assert (parameter.grad - expected).abs().max() < 1e-4 * expected.abs().max()


def test_preprocessing_equals_the_published_chain(parity):
    tensors = parity(GROUP, "preprocess")
    for key in named(tensors, "out."):
        case = key.partition(".")[2]
        extractor = ECGFeatureExtractor.for_method("xecg", seq_len=tensors[key].shape[1])
        signal, rate = tensors[f"signal.{case}"].numpy(), float(tensors[f"rate.{case}"])
        found = extractor(signal, sampling_rate=rate, crop_start=0)["input_values"][0]
        np.testing.assert_allclose(found, tensors[key].numpy(), atol=2e-6)


@pytest.mark.parametrize("overrides", [{}, {"use_final_layer_norm": True, "block_types": ["m", "s", "s"]}])
def test_both_layouts_of_a_file_give_the_same_model(overrides):
    model, x = small_model(**overrides), torch.randn(2, 12, 120)
    for cuda in (True, False):
        tensors = published_layout(model, cuda) | {"mask_token": torch.ones(32)}
        again = convert_xecg(tensors)
        assert torch.equal(again(x).pooler_output, model(x).pooler_output)
        assert again.config.block_types == model.config.block_types
        assert again.config.num_attention_heads == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: {k: v for k, v in t.items() if "ffn_norm" not in k}, "ffn_norm"),
        (lambda t: {k: v for k, v in t.items() if "blocks" not in k}, "missing"),
        (lambda t: t | {"head.weight": torch.zeros(2)}, "head.weight"),
        (lambda t: t | {"core.model.blocks.0.xlstm.slstm_cell._bias_": torch.zeros(7)}, "four slots"),
    ],
)
def test_a_file_that_does_not_fit_is_one_sentence(change, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        convert_xecg(change(published_layout(small_model())))


def test_padding_is_left_out_of_the_embedding_but_runs_through_the_network():
    model = small_model()
    x = torch.randn(1, 12, 120)
    x[..., 90:] = 0
    output = model(x)
    torch.testing.assert_close(output.pooler_output, output.last_hidden_state[:, :9].mean(1))
    alone = model(x[..., :90])
    torch.testing.assert_close(alone.pooler_output, alone.last_hidden_state.mean(1))
    assert (alone.pooler_output - output.pooler_output).abs().max() > 1e-5


def test_a_patch_is_padding_by_its_first_sample_and_a_record_of_zeros_has_the_zero_embedding():
    for pooling in ("avg", "max"):
        model = small_model(pooling=pooling)
        x = torch.randn(2, 12, 120)
        x[0, :, 20] = 0  # first sample of the third patch
        x[1] = 0
        output = model(x)
        kept = output.last_hidden_state[0][[index for index in range(12) if index != 2]]
        expected = kept.mean(0) if pooling == "avg" else kept.amax(0)
        torch.testing.assert_close(output.pooler_output[0], expected)
        assert not output.pooler_output[1].any()


def test_the_second_block_reads_backwards():
    model = small_model(block_types=["s", "s"])
    x = torch.randn(1, 12, 120)
    changed = x.clone()
    changed[..., :10] += 1  # the first patch, which the second block sees last; the order comes out reversed
    before, after = (model(v, output_hidden_states=True) for v in (x, changed))
    assert (before.hidden_states[1] - after.hidden_states[1]).abs().max() > 1e-3
    first_block = small_model(block_types=["s"])
    late = x.clone()
    late[..., 60:] += 1
    torch.testing.assert_close(first_block(x).last_hidden_state[:, :6], first_block(late).last_hidden_state[:, :6])


def test_missing_leads_are_zeros_for_extractor_and_model():
    extractor = ECGFeatureExtractor.for_method("xecg")
    record = np.random.default_rng(0).standard_normal((1000, 2))
    with pytest.warns(UserWarning, match="filled with zeros"):
        values = extractor(record, sampling_rate=100, lead_names=["I", "V2"])["input_values"]
    assert not values[0, [i for i in range(12) if i not in (0, 7)]].any()
    model = small_model()
    x = torch.randn(1, 2, 120)
    full = torch.zeros(1, 12, 120)
    full[:, [0, 7]] = x
    torch.testing.assert_close(model(x, lead_indices=[0, 7]).pooler_output, model(full).pooler_output)


def test_the_released_configuration_has_the_released_number_of_parameters():
    with torch.device("meta"):
        model = XECGModel(XECGConfig())
    mask_token = 1024  # of the pre-training, which is dropped
    assert sum(parameter.numel() for parameter in model.parameters()) + mask_token == 57_021_472
