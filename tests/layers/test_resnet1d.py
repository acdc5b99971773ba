"""Properties of the one-dimensional residual network."""

import pytest
import torch

from ecg_transformers.layers.resnet1d import XResNetBlock1d, XResNetStage1d, XResNetStem1d, ZeroBatchNorm1d


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


def test_stem_quarters_the_length_and_later_stages_halve_it():
    stem = XResNetStem1d(3, [4, 8], 5)
    x = stem(torch.randn(2, 3, 100))
    assert x.shape == (2, 8, 25)
    stage = XResNetStage1d(8, 6, depth=3, kernel_size=5, stride=2, expansion=4)
    assert stage(x).shape == (2, 24, 13)
    assert len(stage) == 3


def test_every_parameter_gets_a_gradient():
    stage = XResNetStage1d(4, 8, depth=2, kernel_size=3, stride=2)
    for module in stage.modules():
        if isinstance(module, ZeroBatchNorm1d):
            torch.nn.init.ones_(module.weight)  # at zero, the path before it waits for the first update
    stage(torch.randn(4, 4, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in stage.parameters())
