"""Scaled gradients: the forward pass does not see them."""

import pytest
import torch

from ecg_transformers.layers.gradients import scale_gradient


@pytest.mark.parametrize("factor", [0.0, 0.1, 1.0])
def test_only_the_gradient_is_scaled(factor):
    x = torch.randn(5, requires_grad=True)
    y = scale_gradient(x, factor)
    assert torch.equal(y, x)
    (y * torch.arange(5.0)).sum().backward()
    torch.testing.assert_close(x.grad, factor * torch.arange(5.0))


def test_a_tensor_without_gradient_passes():
    x = torch.randn(3)
    assert scale_gradient(x, 0.1) is x
