"""The released S4 encoders (ECG-CPC and its siblings): real key layout, leads, units, windows, read-out."""

import numpy as np
import pytest
import torch
from support.published import named

from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor
from ecg_transformers.models.ecg_cpc.configuration_ecg_cpc import ECGCPCConfig
from ecg_transformers.models.ecg_cpc.convert_ecg_cpc import convert_ecg_cpc
from ecg_transformers.models.ecg_cpc.modeling_ecg_cpc import ECGCPCForPreTraining, ECGCPCModel
from ecg_transformers.models.registry import method_of
from ecg_transformers.models.shared.state_dicts import CheckpointError
from ecg_transformers.signal.leads import STANDARD_LEADS
from tests.support.released_files import s4_keys as released_layout

GROUP = "zoo/ecg_cpc_s4"


def small_model(**overrides):
    torch.manual_seed(0)
    sizes = {"num_leads": 12, "seq_len": 80, "sampling_rate": 240, "conv_dims": [16, 16], "conv_kernels": [3, 1]}
    sizes |= {"conv_strides": [2, 1], "hidden_size": 16, "state_size": 4, "context": "s4", "pooling": ["mean"]}
    return ECGCPCModel(ECGCPCConfig(**{**sizes, **overrides})).eval()


@pytest.mark.parametrize("case", ["a", "b"])
def test_encoder_and_its_gradients_equal_the_published_ones(parity, case):
    io = parity(GROUP, f"{case}_io")
    model = convert_ecg_cpc(parity(GROUP, f"{case}_weights"))
    base = model.base_model
    output = base(io["input_values"])
    torch.testing.assert_close(output.last_hidden_state, io["last_hidden_state"], rtol=0, atol=1e-5)
    torch.testing.assert_close(output.pooler_output, io["pooler_output"], rtol=0, atol=1e-5)
    for key in named(io, "other_length.", "input_values"):
        found = base(io[key]).pooler_output
        torch.testing.assert_close(found, io[key.replace("input_values", "pooler_output")], rtol=0, atol=1e-5)
    output.pooler_output.square().mean().backward()
    expected = io["grad.ts_encoder.predictor.predictor.s4_layers.0.kernel.kernel.C"]
    assert (base.layers[0].s4.kernel.C.grad - expected).abs().max() < 1e-4 * expected.abs().max()


def test_the_projection_of_a_cpc_file_equals_the_published_one(parity):
    io = parity(GROUP, "a_io")
    model = convert_ecg_cpc(parity(GROUP, "a_weights"), num_negatives=4)
    assert isinstance(model, ECGCPCForPreTraining)
    torch.testing.assert_close(model(io["input_values"]).predicted, io["predicted"], rtol=0, atol=1e-5)


def test_preprocessing_equals_the_published_evaluation(parity):
    tensors = parity(GROUP, "preprocess")
    extractor = ECGFeatureExtractor.for_method("ecg_cpc", variant="s4")
    for key in named(tensors, "out."):
        case = key.partition(".")[2]
        signal, rate = tensors[f"signal.{case}"].numpy(), float(tensors[f"rate.{case}"])
        found = extractor(signal, sampling_rate=rate, lead_names=STANDARD_LEADS, crop_start=0)["input_values"][0]
        np.testing.assert_allclose(found, tensors[key].numpy(), atol=1e-5)


def test_files_come_back_as_they_were_written_with_leads_units_and_read_out_of_these_files():
    model = small_model()
    again = convert_ecg_cpc(released_layout(model))
    x = torch.randn(2, 12, 80)
    assert torch.equal(again(x).pooler_output, model(x).pooler_output)
    config = again.config
    assert (config.lead_names, config.sampling_rate, config.pooling) == (list(STANDARD_LEADS), 240, ["mean"])
    preset = method_of(config).preprocessing
    assert preset["lead_names"] == list(STANDARD_LEADS)
    assert preset.get("normalize") is None


def test_what_the_authors_do_not_load_is_ignored_and_a_teacher_is_not_the_encoder():
    model = small_model(s4_bidirectional=True)
    tensors = released_layout(model, head=torch.ones(16, 16))
    teacher = {key.replace("ts_encoder.", "ts_encoder.ema."): torch.zeros_like(value) for key, value in tensors.items()}
    others = {
        "ts_encoder.masking.token": torch.ones(3),
        "loss.weight": torch.ones(2),
        "ts_encoder.head.weight": torch.ones(2),
    }
    again = convert_ecg_cpc({**teacher, **others, **tensors})
    assert isinstance(again, ECGCPCModel)
    x = torch.randn(1, 12, 80)
    assert torch.equal(again(x).pooler_output, model(x).pooler_output)


def test_a_linear_map_stands_where_the_widths_differ():
    model = small_model(hidden_size=12)
    again = convert_ecg_cpc(released_layout(model))
    x = torch.randn(2, 12, 80)
    assert again(x).last_hidden_state.shape == (2, 40, 12)
    assert torch.equal(again(x).pooler_output, model(x).pooler_output)


def test_a_hole_in_encoder_or_context_is_an_error():
    tensors = released_layout(small_model())
    for missing in ("ts_encoder.encoder.layers.1.0.weight", "ts_encoder.predictor.predictor.norms.1.weight"):
        with pytest.raises(CheckpointError):
            convert_ecg_cpc({key: value for key, value in tensors.items() if key != missing})
    with pytest.raises(CheckpointError, match=r"predictor\.surprise"):
        convert_ecg_cpc(tensors | {"ts_encoder.predictor.surprise": torch.zeros(2)})


def test_the_windows_of_a_record_are_cut_before_they_are_resampled():
    record = np.random.default_rng(0).standard_normal((5000, 12))
    extractor = ECGFeatureExtractor.for_method("ecg_cpc", variant="s4")
    windows = extractor(record, sampling_rate=500)["input_values"][0]
    assert windows.shape == (4, 12, 600)
    second = extractor(record[1250:2500], sampling_rate=500, crop_start=0)["input_values"][0]
    np.testing.assert_allclose(windows[1], second, atol=1e-6)
    assert ECGFeatureExtractor.for_method("ecg_cpc").sampling_rate == 100  # the method's own preset is untouched
