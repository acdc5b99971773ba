"""Cross-Pattern Attention: all forms are one function, with all its derivatives, on any rectangular grid."""

import json
import math

import pytest
import torch
from torch import Tensor

from ecg_transformers.layers import cross_pattern_attention as module
from ecg_transformers.layers.cross_pattern_attention import (
    choose_implementation,
    cross_pattern_attention,
    cross_pattern_mask,
    dense_cross_pattern_attention,
)

FORMS = ("structured", "dense", "sdpa", "auto")
GRIDS = [(1, 1), (1, 7), (5, 1), (2, 3), (8, 17), (3, 60), (12, 20)]


def random_heads(leads: int, patches: int, dtype: torch.dtype = torch.float32, contiguous: bool = True) -> list[Tensor]:
    """Query, key, value and an output gradient, as leaves."""
    generator = torch.Generator().manual_seed(leads * 100 + patches)
    shape = (2, 3, leads * patches, 8)
    if not contiguous:
        shape = (2, leads * patches, 3, 8)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(4)]
    if not contiguous:
        tensors = [tensor.transpose(1, 2) for tensor in tensors]
    return [tensor.requires_grad_() for tensor in tensors[:3]] + tensors[3:]


def reference(query: Tensor, key: Tensor, value: Tensor, leads: int, scale: float | None = None) -> Tensor:
    """Softmax over the pattern, written token by token's rule, in float64."""
    query, key, value = (tensor.double() for tensor in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    patches = query.shape[2] // leads
    allowed = torch.tensor(
        [
            [a // patches == b // patches or a % patches == b % patches for b in range(query.shape[2])]
            for a in range(query.shape[2])
        ]
    )
    scores = (query @ key.transpose(-1, -2) * scale).masked_fill(~allowed, -math.inf)
    return scores.softmax(dim=-1) @ value


def gradients(output: Tensor, inputs: list[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(output, inputs, grad.to(output.dtype))


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("leads", "patches"), GRIDS)
def test_every_form_equals_the_definition_in_output_and_gradients(
    leads: int, patches: int, form: str, contiguous: bool
) -> None:
    *inputs, grad = random_heads(leads, patches, contiguous=contiguous)
    expected = reference(*inputs, leads)
    found = cross_pattern_attention(*inputs, leads, implementation=form)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)
    for ours, theirs in zip(gradients(found, inputs, grad), gradients(expected, inputs, grad), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [0.05, 1.0, 10.0])
def test_any_scale_is_honoured(form: str, scale: float) -> None:
    *inputs, grad = random_heads(4, 9)
    expected = reference(*inputs, 4, scale)
    found = cross_pattern_attention(*inputs, 4, implementation=form, scale=scale)
    torch.testing.assert_close(found.double(), expected, atol=1e-5 * max(1.0, scale), rtol=0)
    for ours, theirs in zip(gradients(found, inputs, grad), gradients(expected, inputs, grad), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5 * max(1.0, scale) ** 2, rtol=1e-5)


@pytest.mark.parametrize("limit", [0, 10**9])
def test_auto_is_the_same_function_on_both_sides_of_its_break_even(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRUCTURED_FROM_CPU", limit)
    query, key, value, _ = random_heads(3, 5)
    assert choose_implementation(query, 3) == ("structured" if limit == 0 else "sdpa")
    found = cross_pattern_attention(query, key, value, 3)
    torch.testing.assert_close(found.double(), reference(query, key, value, 3), atol=1e-5, rtol=0)


def test_auto_takes_the_structured_form_for_large_grids_only() -> None:
    assert choose_implementation(torch.empty(1, 1, 8 * 17, 4), 8) == "sdpa"
    assert choose_implementation(torch.empty(1, 1, 8 * 50, 4), 8) == "structured"
    assert choose_implementation(torch.empty(1, 1, 400, 4), 1) == "sdpa"
    assert choose_implementation(torch.empty(1, 1, 400, 4), 8, has_mask=True) == "sdpa"


@pytest.mark.parametrize("fused", [True, False])
def test_first_and_second_derivatives_are_those_of_the_function(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fused:
        monkeypatch.setattr(module, "_FUSED", "no_such_operator")
    inputs = [
        tensor.detach()[:1, :1, :, :2].clone().requires_grad_() for tensor in random_heads(3, 2, torch.float64)[:3]
    ]

    def attend(*tensors: Tensor) -> Tensor:
        return cross_pattern_attention(*tensors, 3, implementation="structured")

    assert module.fused_rows_available(inputs[0]) is fused
    assert torch.autograd.gradcheck(attend, inputs)
    assert torch.autograd.gradgradcheck(attend, inputs)


def test_second_derivatives_are_right_when_query_key_and_value_are_one_tensor() -> None:
    tokens = random_heads(3, 2, torch.float64)[0]

    def curvature(form: str) -> Tensor:
        output = cross_pattern_attention(tokens, tokens, tokens, 3, implementation=form)
        (first,) = torch.autograd.grad(output.square().sum(), tokens, create_graph=True)
        return torch.autograd.grad(first.square().sum(), tokens)[0]

    torch.testing.assert_close(curvature("structured"), curvature("dense"))


def test_inputs_without_gradient_get_none() -> None:
    query, key, value, grad = random_heads(3, 4)
    key = key.detach()
    output = cross_pattern_attention(query, key, value, 3, implementation="structured")
    expected = cross_pattern_attention(query, key, value, 3, implementation="dense")
    for ours, theirs in zip(
        gradients(output, [query, value], grad), gradients(expected, [query, value], grad), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_a_patch_reaches_its_own_row_and_column_only() -> None:
    leads, patches = 8, 50
    query, key, value, _ = (tensor.detach() for tensor in random_heads(leads, patches))
    before = cross_pattern_attention(query, key, value, leads, implementation="structured").unflatten(
        2, (leads, patches)
    )
    token = 2 * patches + 7
    for tensor in (query, key, value):
        tensor[:, :, token] += 1.0
    after = cross_pattern_attention(query, key, value, leads, implementation="structured").unflatten(
        2, (leads, patches)
    )
    changed = (before != after).any(dim=-1).any(dim=1).any(dim=0)
    elsewhere = changed.clone()
    elsewhere[2] = False
    elsewhere[:, 7] = False
    assert not elsewhere.any()  # bit for bit
    assert changed[2].all()
    assert changed[:, 7].all()


@pytest.mark.parametrize("form", FORMS)
def test_low_precision_is_as_exact_as_fused_attention(form: str) -> None:
    query, key, value, _ = (tensor.detach().bfloat16() for tensor in random_heads(8, 30))
    found = cross_pattern_attention(query, key, value, 8, implementation=form)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), reference(query, key, value, 8), atol=2e-2, rtol=0)


def test_the_structured_form_is_at_home_under_autocast() -> None:
    *inputs, grad = random_heads(8, 30)
    with torch.autocast("cpu", torch.bfloat16):
        found = cross_pattern_attention(*inputs, 8, implementation="structured")
        gradients(found, inputs, grad)
    torch.testing.assert_close(found.double(), reference(*inputs, 8), atol=1e-5, rtol=0)


def test_large_scores_stay_finite_and_exact() -> None:
    *inputs, grad = random_heads(4, 50)
    scaled = [30 * inputs[0].detach(), *inputs[1:]]
    scaled[0].requires_grad_()
    found = cross_pattern_attention(*scaled, 4, implementation="structured")
    torch.testing.assert_close(found.double(), reference(*scaled, 4), atol=2e-5, rtol=0)
    assert all(gradient.isfinite().all() for gradient in gradients(found, scaled, grad))


def test_a_further_mask_closes_more_and_is_the_same_in_both_forms_that_take_it() -> None:
    query, key, value, _ = random_heads(3, 4)
    present = torch.ones(2, 1, 1, 12, dtype=torch.bool)
    present[1, ..., 5] = False  # a hole in the grid of the second record
    options = {"attention_mask": present}
    dense = cross_pattern_attention(query, key, value, 3, implementation="dense", **options)
    torch.testing.assert_close(cross_pattern_attention(query, key, value, 3, implementation="sdpa", **options), dense)
    torch.testing.assert_close(cross_pattern_attention(query, key, value, 3, **options), dense)
    torch.testing.assert_close(dense[0], cross_pattern_attention(query, key, value, 3)[0])
    _, weights = dense_cross_pattern_attention(query, key, value, 3, attention_mask=present)
    assert (weights[1, ..., 5] == 0).all()
    with pytest.raises(ValueError, match="structured"):
        cross_pattern_attention(query, key, value, 3, implementation="structured", **options)


def test_weights_are_zero_outside_the_pattern_and_sum_to_one() -> None:
    query, key, value, _ = random_heads(3, 4)
    _, weights = dense_cross_pattern_attention(query, key, value, 3)
    assert (weights.masked_select(~cross_pattern_mask(3, 4)) == 0).all()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3, 12))


@pytest.mark.parametrize("form", FORMS)
def test_dropout_keeps_the_mean(form: str) -> None:
    torch.manual_seed(0)
    query, key, value, _ = (tensor.detach()[:1, :1].expand(400, 1, -1, -1) for tensor in random_heads(3, 4))
    dropped = cross_pattern_attention(query, key, value, 3, implementation=form, dropout_p=0.3)
    kept = cross_pattern_attention(query, key, value, 3, implementation=form)
    assert not torch.equal(dropped[0], dropped[1])
    torch.testing.assert_close(dropped.mean(dim=0), kept.mean(dim=0), atol=0.15, rtol=0)


def test_a_mask_first_built_in_inference_mode_serves_training() -> None:
    *inputs, grad = random_heads(2, 13)  # a grid of a size that no other test builds: its mask is made here
    with torch.inference_mode():
        cross_pattern_attention(*(tensor.detach() for tensor in inputs), 2, implementation="sdpa")
    for form in ("sdpa", "dense"):
        found = gradients(cross_pattern_attention(*inputs, 2, implementation=form), inputs, grad)
        assert all(gradient.isfinite().all() for gradient in found)


@pytest.mark.parametrize(("leads", "patches", "share"), [(8, 50, 0.50), (12, 100, 0.22)])
def test_what_backward_keeps_never_grows_to_all_scores(leads: int, patches: int, share: float) -> None:
    def kept(form: str) -> int:
        storages: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        inputs = [torch.randn(1, 2, leads * patches, 64, requires_grad=True) for _ in range(3)]
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            output = cross_pattern_attention(*inputs, leads, implementation=form)
        assert output.requires_grad
        return sum(storages.values())

    assert kept("structured") <= share * kept("dense")


def test_the_function_can_be_traced() -> None:
    query, key, value, _ = (tensor.detach() for tensor in random_heads(8, 30))
    expected = cross_pattern_attention(query, key, value, 8)

    class Attend(torch.nn.Module):
        def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return cross_pattern_attention(query, key, value, 8)

    program = torch.export.export(Attend(), (query, key, value))
    torch.testing.assert_close(program.module()(query, key, value), expected, atol=1e-5, rtol=0)
    assert not any("flash_attention_for_cpu" in str(node.target) for node in program.graph.nodes)


def test_wrong_arguments_are_named() -> None:
    query, key, value, _ = random_heads(3, 4)
    with pytest.raises(ValueError, match="12 tokens are no grid of 5 leads"):
        cross_pattern_attention(query, key, value, 5)
    with pytest.raises(ValueError, match="one shape"):
        cross_pattern_attention(query, key[:, :, :4], value, 3)
    with pytest.raises(ValueError, match="auto, structured, dense, sdpa"):
        cross_pattern_attention(query, key, value, 3, implementation="fast")


def test_an_empty_grid_gives_nothing() -> None:
    for nothing in (torch.empty(2, 3, 0, 8), torch.empty(0, 3, 12, 8)):
        for form in FORMS:
            assert cross_pattern_attention(nothing, nothing, nothing, 4, implementation=form).shape == nothing.shape


def test_the_pattern_is_that_of_the_reference(parity) -> None:
    tensors = parity("ecg_jepa", "cropa")
    grids = {
        name: tuple(int(part[1:]) for part in name.split("_")[1:]) for name in tensors if name.startswith("full_c")
    }
    for name in (name for name in tensors if ".mask_c8_p" in name):  # absent leads drop out, whichever they are
        grids[name] = (len(name.split(".")[0].split("_")) - 1, int(name.rpartition("p")[2]))
    assert len(grids) > 2
    for name, (leads, patches) in grids.items():
        assert torch.equal(cross_pattern_mask(leads, patches), tensors[name].bool()), name
    visible = int((~tensors["vis.time_mask"]).sum())
    expected = tensors["vis.cropa"].bool()
    assert torch.equal(cross_pattern_mask(expected.shape[0] // visible, visible), expected)


def test_reduced_lead_positions_keep_the_rows_of_the_full_table(parity) -> None:
    from ecg_transformers.layers.positions import sincos_lead_time

    tables = {name: table for name, table in parity("ecg_jepa", "cropa").items() if ".pos_D" in name}
    assert tables
    for name, expected in tables.items():
        indices = [int(part) for part in name.split(".")[0].split("_")[1:]]
        patches = expected.shape[0] // len(indices)
        table = sincos_lead_time(8, patches, expected.shape[1]).view(8, patches, -1)
        torch.testing.assert_close(table[indices].flatten(0, 1), expected, atol=1e-6, rtol=0)


def test_position_tables_are_those_of_the_reference(parity) -> None:
    from ecg_transformers.layers.positions import sincos_lead_time

    tables = {name: table for name, table in parity("ecg_jepa", "positions").items() if not name.endswith(".rows")}
    assert tables
    for name, expected in tables.items():
        kind, *parts = name.split(".")[0].split("_")
        sizes = {part[0]: int(part[1:]) for part in parts}
        table = sincos_lead_time(sizes.get("c", 1) if kind == "enc" else 1, sizes["p"], sizes["D"])
        if name.endswith(".values"):
            table = table[parity("ecg_jepa", "positions")[name.replace(".values", ".rows")]]
        torch.testing.assert_close(table, expected, atol=1e-6, rtol=0)


def test_masks_are_those_of_the_reference(parity) -> None:
    from safetensors import safe_open

    from ecg_transformers.layers.masking import multi_block_time_mask, random_time_mask

    tensors = parity("ecg_jepa", "masks")
    with safe_open(parity.path("ecg_jepa", "masks"), framework="pt") as file:
        seeds = json.loads(file.metadata()["seeds"])
    drawn = {name: masks for name, masks in tensors.items() if not name.endswith((".freq", ".count_hist"))}
    assert drawn
    for name, expected in drawn.items():
        kind, patches, low, high = name.split("_")
        draw = random_time_mask if kind == "random" else multi_block_time_mask
        for seed, masks in zip(seeds, expected, strict=True):
            torch.manual_seed(seed)
            for mask in masks:
                assert torch.equal(draw(int(patches[1:]), (float(low), float(high))), mask), name
