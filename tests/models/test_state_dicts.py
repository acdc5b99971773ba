"""Converters on files that are wrong: a sentence that says so, never a crash."""

import pytest
import torch

import ecg_transformers as ecg
from ecg_transformers.models.registry import get_method, resolve
from ecg_transformers.models.shared.class_token_model import class_token_table
from ecg_transformers.models.shared.state_dicts import CheckpointError, StateDictReader, is_fixed_table

# method, folder and file of reference weights, what its tensors cannot tell
FILES = [
    ("st_mem", "st_mem", "st_mem_a_weights", {}),
    ("mtae", "st_mem", "mtae_a_weights", {}),
    ("mlae", "st_mem", "mlae_b_weights", {}),
    ("ecg_moco_v3", "st_mem", "moco_v3_vit_weights", {"attention_head_size": 32}),
    ("ecg_cpc", "st_mem", "cpc_fc_weights", {}),
    ("ecg_cpc", "st_mem", "cpc_conv_weights", {}),
    ("ecg_cpc", "st_mem", "s4_causal", {}),
    ("ecg_cpc", "st_mem", "s4_bidir", {}),
    ("ecg_resnet", "st_mem", "xresnet1d_basic_weights", {}),
    ("ecg_resnet", "st_mem", "xresnet1d_bottleneck_weights", {}),
    ("ecg_jepa", "ecg_jepa", "lead12_weights", {"num_attention_heads": 4, "predictor_num_attention_heads": 4}),
]


def weights_of(parity, folder, file):
    tensors = parity(folder, file)
    inner = {key.removeprefix("weights."): value for key, value in tensors.items() if key.startswith("weights.")}
    return inner or tensors


@pytest.mark.parametrize(("method", "folder", "file", "overrides"), FILES, ids=[file for _, _, file, _ in FILES])
def test_a_tensor_of_another_rank_is_named(parity, method, folder, file, overrides):
    weights, convert = weights_of(parity, folder, file), resolve(get_method(method).convert)
    assert convert(weights, **overrides)
    repeated = [f"{name}{index}." for name in ("block", "blocks.", "layers.", "norms.") for index in range(1, 12)]
    for key, value in weights.items():
        if value.ndim == 0 or any(name in key for name in repeated):
            continue
        for wrong in (value.flatten()[0], value.flatten(), value[None]):
            if wrong.shape == value.shape:
                continue
            try:
                convert({**weights, key: wrong}, **overrides)
            except ValueError:
                continue
            except Exception as error:
                pytest.fail(f"{key} of shape {tuple(wrong.shape)} gave {type(error).__name__}: {error}")


def test_a_reader_says_what_it_found_and_what_it_expected():
    reader = StateDictReader({"a.weight": torch.zeros(6)}, "ABC")
    with pytest.raises(
        CheckpointError, match=r"no ABC checkpoint: the tensor 'a\.weight' has shape \(6,\), expected 2"
    ):
        reader.take("a.weight", ndim=2)
    assert reader.take("a.weight", ndim=1).shape == (6,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_fixed_table_is_recognised_in_any_precision_and_a_trained_one_is_not(dtype):
    table = class_token_table(20, 32)
    assert is_fixed_table(table.to(dtype), table)
    assert not is_fixed_table((table + 0.05 * torch.randn(table.shape)).to(dtype), table)


@pytest.mark.parametrize(("method", "file"), [("mtae", "mtae_a_weights"), ("st_mem", "st_mem_a_weights")])
def test_half_precision_files_can_be_made_longer(parity, method, file):
    weights = parity("st_mem", file)
    full = ecg.convert_checkpoint(method, weights)
    half = {key: value.half() for key, value in weights.items()}
    longer = ecg.convert_checkpoint(method, half, seq_len=full.config.seq_len + 4 * full.config.patch_size)
    rows = longer.base_model.embeddings.position_embeddings.shape[1]
    assert rows == full.base_model.embeddings.position_embeddings.shape[1] + 4
