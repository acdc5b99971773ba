"""The Gumbel quantiser: what it chooses, its gradient, and its perplexities."""

import pytest
import torch

from ecg_transformers.layers.quantizer import GumbelQuantizer


def quantizer(codes=4, groups=2, dim=6):
    torch.manual_seed(0)
    module = GumbelQuantizer(5, codes, groups, dim)
    torch.nn.init.uniform_(module.vars)
    return module


def test_without_noise_the_most_probable_code_of_each_group_is_taken():
    module = quantizer()
    x = torch.randn(7, 5)
    chosen = module.weight_proj(x).view(7, 2, 4).argmax(dim=-1)
    tables = module.vars.view(2, 4, 3)
    expected = torch.stack([torch.cat([tables[0, a], tables[1, b]]) for a, b in chosen.tolist()])
    torch.testing.assert_close(module(x, 1.0).vectors, expected)


def test_noise_decides_and_its_gradient_is_that_of_the_softmax():
    module = quantizer(groups=1)
    x = torch.randn(1, 5)
    noise = torch.tensor([[0.0, 0.0, 100.0, 0.0]])
    codes = module(x, 0.5, noise)
    torch.testing.assert_close(codes.vectors, module.vars[:, 2])
    weights = torch.randn(6)
    (codes.vectors * weights).sum().backward()
    logits = module.weight_proj(x).detach().requires_grad_()
    soft = ((logits + noise) / 0.5).softmax(dim=1)
    (soft @ module.vars[0].detach() * weights).sum().backward()
    torch.testing.assert_close(module.weight_proj.bias.grad, logits.grad[0])


@pytest.mark.parametrize(("used", "expected"), [(1, 2.0), (4, 8.0)])
def test_code_perplexity_counts_the_codes_in_use(used, expected):
    module = quantizer()
    with torch.no_grad():
        module.weight_proj.weight.zero_()
        module.weight_proj.weight.view(2, 4, 5)[:, :4, :4] = torch.eye(4)
        module.weight_proj.bias.zero_()
    x = 50 * torch.nn.functional.one_hot(torch.arange(8) % used, 5).float()
    codes = module(x, 1.0)
    assert float(codes.code_perplexity) == pytest.approx(expected, rel=1e-4)
    assert float(codes.prob_perplexity) == pytest.approx(expected, rel=1e-4)
