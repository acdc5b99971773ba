"""The position convolution against torch's own weight norm."""

import pickle

import pytest
import torch
from torch import nn

from ecg_transformers.layers.position_convolution import PositionConvolution


@pytest.mark.parametrize("kernel", [5, 8])
def test_it_is_a_weight_normed_convolution_that_keeps_the_length(kernel):
    torch.manual_seed(0)
    module = PositionConvolution(12, kernel, 3)
    nn.init.uniform_(module.conv.gain, 0.5, 2.0)
    nn.init.normal_(module.conv.bias)
    plain = nn.utils.parametrizations.weight_norm(nn.Conv1d(12, 12, kernel, padding=kernel // 2, groups=3), dim=2)
    names = {
        "bias": "bias",
        "gain": "parametrizations.weight.original0",
        "direction": "parametrizations.weight.original1",
    }
    plain.load_state_dict({names[key]: value for key, value in module.conv.state_dict().items()})
    x = torch.randn(2, 9, 12)
    expected = nn.functional.gelu(plain(x.transpose(1, 2))[..., :9]).transpose(1, 2)
    torch.testing.assert_close(module(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(module))(x), module(x))


def test_a_fresh_one_has_its_directions_norm_as_gain():
    module = PositionConvolution(16, 6, 4).conv
    torch.testing.assert_close(module.gain, module.norm())
    assert not module.bias.any()
