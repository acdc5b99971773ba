"""The cells of xLSTM against the recurrences they stand for."""

import pytest
import torch

from ecg_transformers.layers.xlstm import (
    CausalConv,
    HeadwiseLinear,
    MatrixMemoryCell,
    ResidualScaleNorm,
    ScalarMemoryCell,
    gated_attention,
)


def test_gated_attention_equals_the_recurrence_of_its_matrix_memory():
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 3, 7, 5, generator=generator, dtype=torch.float64)
    enter, keep = torch.randn(2, 2, 3, 7, generator=generator, dtype=torch.float64) * 2
    memory, norm = torch.zeros(2, 3, 5, 5, dtype=torch.float64), torch.zeros(2, 3, 5, dtype=torch.float64)
    expected = []
    for t in range(7):  # C = f C + i k vᵀ, n = f n + i k, h = qᵀ C / max(|qᵀ n|, 1)
        f, i = keep[..., t].sigmoid()[..., None], enter[..., t].exp()[..., None]
        scaled = key[..., t, :] / 5**0.5
        memory = f[..., None] * memory + i[..., None] * scaled[..., :, None] * value[..., t, None, :]
        norm = f * norm + i * scaled
        top = torch.einsum("bhd,bhdv->bhv", query[..., t, :], memory)
        bottom = (query[..., t, :] * norm).sum(-1, keepdim=True).abs().clamp(min=1)
        expected.append(top / bottom)
    found = gated_attention(query, key, value, enter, keep)
    torch.testing.assert_close(found.double(), torch.stack(expected, dim=2), rtol=1e-4, atol=1e-4)


def test_scalar_memory_equals_its_recurrence_without_a_running_maximum():
    torch.manual_seed(0)
    cell = ScalarMemoryCell(8, 2, 4)
    with torch.no_grad():
        cell.recurrent.normal_(std=0.3)
        cell.bias.normal_(std=0.3)
    slots = torch.randn(3, 6, 4, 8)
    recurrent, bias = cell.recurrent.double(), cell.bias.double().view(2, 4, 4)
    y = c = n = torch.zeros(3, 2, 4, dtype=torch.float64)
    expected = []
    for t in range(6):
        fed = torch.einsum("bnd,ndk->bnk", y, recurrent).view(3, 2, 4, 4)
        i, f, z, o = (slots[:, t].double().view(3, 4, 2, 4).transpose(1, 2) + fed + bias).unbind(2)
        c = f.sigmoid() * c + i.exp() * z.tanh()
        n = f.sigmoid() * n + i.exp()
        y = o.sigmoid() * c / n
        expected.append(y.flatten(1))
    torch.testing.assert_close(cell.recurrence(slots).double(), torch.stack(expected, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", [ScalarMemoryCell(8, 2, 4), MatrixMemoryCell(8, 16, 2, 4, 4)])
def test_a_cell_does_not_look_ahead(cell):
    x = torch.randn(2, 9, 8)
    changed = x.clone()
    changed[:, 5:] += 1
    with torch.no_grad():
        before, after = cell(x), cell(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert (before[:, 5:] - after[:, 5:]).abs().max() > 1e-3


def test_large_gates_do_not_overflow():
    big = torch.full((1, 1, 6), 200.0)
    x = torch.randn(1, 1, 6, 4)
    assert torch.isfinite(gated_attention(x, x, x, big, -big)).all()
    cell = ScalarMemoryCell(4, 1, 4)
    assert torch.isfinite(cell.recurrence(torch.full((1, 6, 4, 4), 200.0))).all()


def test_norm_weights_are_differences_from_one():
    x = torch.randn(2, 3, 8)
    torch.testing.assert_close(ResidualScaleNorm(8)(x), torch.nn.functional.layer_norm(x, (8,)))
    grouped = torch.nn.functional.layer_norm(x.view(2, 3, 2, 4), (4,)).flatten(-2)
    torch.testing.assert_close(ResidualScaleNorm(8, 2)(x), grouped)


def test_pieces_are_mapped_each_by_itself():
    layer = HeadwiseLinear(6, 3)
    x = torch.randn(4, 6)
    expected = torch.cat([x[:, 2 * n : 2 * n + 2] @ layer.weight[n].T for n in range(3)], dim=1)
    torch.testing.assert_close(layer(x), expected)
    with pytest.raises(ValueError, match="equal pieces"):
        HeadwiseLinear(6, 4)


def test_the_convolution_sees_the_last_tokens_only():
    conv = CausalConv(2, 3)
    x = torch.randn(1, 5, 2)
    expected = conv.bias[0] + (conv.weight[0, 0] * x[0, 1:4, 0]).sum()
    torch.testing.assert_close(conv(x)[0, 3, 0], expected)
