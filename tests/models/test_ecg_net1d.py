"""Parity with ECGFounder's Net1D and the properties of our class."""

import re

import pytest
import torch

import ecg_transformers as ecg
from ecg_transformers.layers.net1d import Net1DBlock, SameConv1d
from ecg_transformers.models.ecg_net1d.convert_ecg_net1d import convert_ecg_net1d
from ecg_transformers.models.ecg_net1d.labels_ecg_net1d import ECGFOUNDER_LABELS
from ecg_transformers.models.ecg_net1d.modeling_ecg_net1d import ECGNet1DModel
from ecg_transformers.models.shared.state_dicts import CheckpointError
from tests.support.net1d_files import published_keys, small
from tests.support.published import (
    check_gradients,
    check_outputs,
    check_preprocessing,
    published_case,
    released_file,
)

FOLDER = "zoo/ecg_net1d"


@pytest.mark.parametrize("case", ["a", "b", "c", "full"])
def test_every_published_output_is_reproduced(parity, case):
    weights, io, config = published_case(parity, FOLDER, case)
    check_outputs(ecg.convert_checkpoint(config["method"], weights, **config["overrides"]), io, config)


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_every_published_gradient_is_reproduced(parity, case):
    weights, io, config = published_case(parity, FOLDER, case)
    check_gradients(ecg.convert_checkpoint(config["method"], weights, **config["overrides"]), weights, io, config)


def test_the_released_reader_is_reproduced(parity):
    check_preprocessing(parity, FOLDER)


def test_a_file_laid_out_as_the_released_ones_converts(parity):
    file, case = released_file(parity, FOLDER)
    _, io, config = published_case(parity, FOLDER, case)
    model = ecg.convert_checkpoint("ecg_net1d", file)
    check_outputs(model, {name: io[name] for name in ("input_values", "pooler_output", "logits")}, config)
    assert (model.config.converted_from, model.config.problem_type) == (file.name, "multi_label_classification")


@torch.no_grad()
@pytest.mark.parametrize("settings", [{}, {"use_batch_norm": True}, {"kernel_size": 5}, {"inner_dims": [4, 10]}])
def test_published_layout_of_any_size_converts(settings):
    model = small(**settings)
    converted = convert_ecg_net1d(published_keys(model), use_batch_norm=model.config.use_batch_norm)
    x = torch.randn(2, 3, 101)
    torch.testing.assert_close(converted(x).logits, model(x).logits)
    assert converted.config.groups == model.config.groups


def test_batch_norms_that_are_not_used_are_passed_over():
    plain, state = small(), published_keys(small())
    norms = {key: value for key, value in published_keys(small(use_batch_norm=True)).items() if "bn" in key}
    x = torch.randn(1, 3, 64)
    assert norms
    assert torch.equal(convert_ecg_net1d({**state, **norms})(x).logits, plain(x).logits)
    with pytest.raises(CheckpointError, match="first_bn"):
        convert_ecg_net1d(state, use_batch_norm=True)


def test_a_file_without_a_head_is_a_base_model():
    state = {key: value for key, value in published_keys(small()).items() if not key.startswith("dense")}
    assert type(convert_ecg_net1d(state)) is ECGNet1DModel


def test_every_key_is_used_or_named():
    state = published_keys(small())
    with pytest.raises(CheckpointError, match="extra"):
        convert_ecg_net1d({**state, "extra": torch.zeros(1)})
    for lost in (
        "stage_list.1.block_list.1.conv2.conv.weight",
        "first_conv.conv.bias",
        "stage_list.0.block_list.0.se_fc1.bias",
    ):
        with pytest.raises(CheckpointError, match=re.escape(lost)):
            convert_ecg_net1d({key: value for key, value in state.items() if key != lost})


def test_the_published_head_has_its_names(parity):
    weights, _, _ = published_case(parity, FOLDER, "a")
    config = ecg.convert_checkpoint("ecg_net1d", weights).config
    assert list(config.id2label.values()) == list(ECGFOUNDER_LABELS)
    assert config.label2id["ATRIAL FIBRILLATION"] == 5
    assert len(set(ECGFOUNDER_LABELS)) == 150


@pytest.mark.parametrize("kernel", [1, 2, 3, 7, 8, 16])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_keep_the_length_divided_by_their_stride(kernel, stride):
    conv = SameConv1d(1, 1, kernel, stride)
    for length in (1, 2, 5, 8, 33):
        x = torch.randn(1, 1, length)
        got = conv(x)
        steps = -(-length // stride)
        zeros = max(0, (steps - 1) * stride + kernel - length)  # the published rule, for every length
        padded = torch.nn.functional.pad(x, (zeros // 2, zeros - zeros // 2))
        want = torch.nn.functional.conv1d(padded, conv.weight, conv.bias, stride)
        torch.testing.assert_close(got, want[..., :steps])
        assert got.shape[-1] == steps == want.shape[-1]


def test_the_last_sample_of_an_odd_length_is_clamped_at_zero_in_the_shortcut():
    block = Net1DBlock(2, 2, 4, 16, 1, strided=True)
    x = -torch.ones(1, 2, 5)
    shortcut = block.shortcut(x)
    assert shortcut.shape == (1, 4, 3)
    assert shortcut[0, 1].tolist() == [-1.0, -1.0, 0.0]
    assert not shortcut[0, [0, 3]].any()  # features of zeros on both sides


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 256, 1000, 1250])
def test_any_length_runs(length):
    assert small()(torch.randn(1, 3, length)).logits.isfinite().all()


@torch.no_grad()
def test_leads_that_are_named_go_to_their_places():
    model = small()
    x = torch.randn(2, 2, 64)
    whole = torch.zeros(2, 3, 64)
    whole[:, [2, 0]] = x
    torch.testing.assert_close(model(x, lead_indices=[2, 0]).logits, model(whole).logits)


def test_sizes_that_contradict_are_refused():
    for wrong in ({"depths": [1]}, {"num_groups": [3, 5]}, {"stage_dims": [8, 0]}):
        with pytest.raises(ValueError, match="ECGNet1DConfig"):
            small(**wrong)
