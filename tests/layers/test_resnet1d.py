"""Properties of the one-dimensional residual network."""

import pytest
import torch

from ecg_transformers.layers.resnet1d import XResNet1d, XResNetBlock1d


def official_state(weights):
    """Published keys -> ours: stem 0..2, pooling 3, stages from 4 on."""
    state = {}
    for key, value in weights.items():
        parts = key.split(".")
        kind = {"0": "conv", "1": "norm"}
        if int(parts[0]) < 3:
            state[f"stem.{parts[0]}.{kind[parts[1]]}.{parts[2]}"] = value
        elif "convpath" in parts:
            state[f"stages.{int(parts[0]) - 4}.{parts[1]}.path.{parts[4]}.{kind[parts[5]]}.{parts[6]}"] = value
        elif "idpath" in parts:
            state[f"stages.{int(parts[0]) - 4}.{parts[1]}.shortcut.{kind[parts[4]]}.{parts[5]}"] = value
    return state


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("basic", {"in_dim": 3, "stem_dims": [8, 8, 64], "stage_dims": [16, 16], "depths": [2, 1]}),
        (
            "bottleneck",
            {"in_dim": 12, "stem_dims": [32, 32, 64], "stage_dims": [16] * 4, "depths": [1] * 4, "expansion": 4},
        ),
    ],
)
def test_stages_equal_the_published_ones(parity, name, arguments):
    weights, tensors = parity("st_mem", f"xresnet1d_{name}_weights"), parity("st_mem", f"xresnet1d_{name}_io")
    net = XResNet1d(**arguments).eval()
    net.load_state_dict(official_state(weights))
    for i, stage in enumerate(net.forward_stages(tensors["x"])):
        torch.testing.assert_close(stage[:1], tensors[f"stage{i + 3}"], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("length", [64, 65, 67])
@pytest.mark.parametrize("expansion", [1, 4])
def test_strided_block_halves_the_length_rounding_up(length, expansion):
    block = XResNetBlock1d(8, 4, 5, stride=2, expansion=expansion)
    assert block(torch.randn(2, 8, length)).shape == (2, 4 * expansion, (length + 1) // 2)


@torch.no_grad()
def test_new_block_is_its_shortcut():
    block = XResNetBlock1d(8, 8, 5).eval()
    x = torch.rand(2, 8, 20)
    torch.testing.assert_close(block(x), x)


def test_every_parameter_gets_a_gradient():
    net = XResNet1d(3, [4, 8], [8, 16], [1, 2], kernel_size=3)
    for block in net.modules():
        if isinstance(block, XResNetBlock1d):
            torch.nn.init.ones_(block.last_norm.weight)  # at zero, the path before it waits for the first update
    net(torch.randn(4, 3, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_stage_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="one entry a stage"):
        XResNet1d(3, [8], [8, 8], [1])
