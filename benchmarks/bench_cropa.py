"""Cross-Pattern Attention against its competitors: time, memory and exactness, forms side by side in one run.

    python benchmarks/bench_cropa.py          # one thread; about three minutes of CPU

Only ratios inside one run mean anything on a shared machine. Every row says how many times the form of the package is
better than another; the goal is a floor.
"""

import torch
from timing import Form, Row, gemm, rotate, row, share_of_peak
from torch import Tensor

from ecg_transformers.layers.cross_pattern_attention import cross_pattern_attention
from ecg_transformers.models.base import ECGLayer
from ecg_transformers.models.ecg_jepa.configuration_ecg_jepa import ECGJEPAConfig
from ecg_transformers.models.ecg_jepa.layers_ecg_jepa import JEPABlocks

# leads, patches, batch, heads, head width; goals over eager dense and over masked SDPA, forward and forward + backward
GRIDS = (
    (8, 50, 4, 16, 48, (3.2, 2.2), (1.25, 1.5)),
    (12, 100, 2, 12, 64, (8.5, 7.0), (3.2, 3.8)),
    (12, 400, 1, 6, 64, (19.0, 16.0), (7.0, 8.0)),
    (8, 17, 8, 12, 64, None, (0.9, 0.9)),
)
MEMORY_GOALS = {(8, 50): 0.50, (12, 100): 0.22, (12, 400): 0.07}


def rows() -> list[Row]:
    """One dict a goal: `name`, `forms` (name to median CPU seconds, bytes or errors), `ratio`, least `goal`."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table: list[Row] = []
    for leads, patches, batch, heads, width, over_dense, over_sdpa in GRIDS:
        table += attention_rows(leads, patches, batch, heads, width, over_dense, over_sdpa)
    table += block_rows()
    table += [memory_row(*grid, share) for grid, share in MEMORY_GOALS.items()]
    table.append(exactness_row())
    return table


def attention_inputs(leads: int, patches: int, batch: int, heads: int, width: int) -> list[Tensor]:
    """Query, key, value and an output gradient, laid out as a model's projections leave them."""
    shape = (batch, leads * patches, heads, width)
    return [torch.randn(shape).transpose(1, 2) for _ in range(4)]


def attention_rows(
    leads: int,
    patches: int,
    batch: int,
    heads: int,
    width: int,
    over_dense: tuple[float, float] | None,
    over_sdpa: tuple[float, float],
) -> list[Row]:
    """The chosen path ("auto") against eager dense and masked SDPA."""
    *inputs, grad = attention_inputs(leads, patches, batch, heads, width)

    def forward(form: str) -> Form:
        def run() -> None:
            with torch.no_grad():
                cross_pattern_attention(*inputs, leads, implementation=form)

        return run

    def both(form: str) -> Form:
        def run() -> None:
            leaves = [tensor.detach().requires_grad_() for tensor in inputs]
            cross_pattern_attention(*leaves, leads, implementation=form).backward(grad)

        return run

    table = []
    repeats = 3 if leads * patches > 2000 else 7
    for index, (kind, make) in enumerate((("forward", forward), ("forward + backward", both))):
        forms = {name: make(name) for name in ("dense", "sdpa", "structured", "auto")}
        seconds = rotate(forms | {"GEMM 1024": gemm()}, repeats)
        name = f"attention {leads} x {patches}, B{batch} H{heads} d{width}, {kind}"
        for competitor, goals in (("dense", over_dense), ("sdpa", over_sdpa)):
            if goals is not None:
                label = {"dense": "eager dense", "sdpa": "masked SDPA"}[competitor]
                table.append(row(f"{name}: over {label}", seconds, competitor, "auto", goals[index]))
    return table


def block_flops(leads: int, patches: int, batch: int, width: int) -> float:
    """Multiplications and additions of one block's forward pass with structured attention (MLP four times as wide)."""
    tokens = batch * leads * patches
    return tokens * (24.0 * width**2 + 4.0 * width * (leads + patches))


def block(width: int, heads: int, implementation: str) -> ECGLayer:
    config = ECGJEPAConfig(
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=heads,
        cross_pattern_implementation=implementation,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    layer: ECGLayer = JEPABlocks(config, "", 0.0, cross_pattern=True).layer[0]
    return layer


def block_rows() -> list[Row]:
    """A whole transformer block of the published width, linear layers included."""
    table = []
    for leads, patches, batch, heads, share_goal, ratio_goals in (
        (8, 50, 2, 16, 0.75, None),
        (12, 100, 1, 12, None, (1.2, 1.2)),
    ):
        tokens = torch.randn(batch, leads * patches, 768)
        grad = torch.randn_like(tokens)
        layers = {form: block(768, heads, form) for form in ("auto", "sdpa", "dense")}

        def forward(layer: ECGLayer, tokens: Tensor = tokens, leads: int = leads) -> Form:
            def run() -> None:
                with torch.no_grad():
                    layer(tokens, None, num_leads=leads)

            return run

        def both(layer: ECGLayer, tokens: Tensor = tokens, grad: Tensor = grad, leads: int = leads) -> Form:
            return lambda: layer(tokens.detach().requires_grad_(), None, num_leads=leads).backward(grad)

        for index, (kind, make) in enumerate((("forward", forward), ("forward + backward", both))):
            forms = {form: make(layer) for form, layer in layers.items()}
            seconds = rotate(forms | {"GEMM 1024": gemm()}, 5)
            name = f"block {leads} x {patches} of width 768, B{batch} H{heads}, {kind}"
            if ratio_goals is not None:
                table.append(row(f"{name}: over masked SDPA", seconds, "sdpa", "auto", ratio_goals[index]))
            elif index == 1:
                flops = 3.0 * block_flops(leads, patches, batch, 768)
                share = share_of_peak(flops, seconds["auto"], seconds["GEMM 1024"])
                table.append(
                    {"name": f"{name}: share of GEMM peak", "forms": seconds, "ratio": share, "goal": share_goal}
                )
    return table


def kept_for_backward(leads: int, patches: int, form: str) -> int:
    """Bytes of the distinct storages that autograd keeps."""
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    inputs = [torch.randn(1, 2, leads * patches, 64, requires_grad=True) for _ in range(3)]
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = cross_pattern_attention(*inputs, leads, implementation=form)
    assert output.requires_grad
    return sum(storages.values())


def memory_row(leads: int, patches: int, share: float) -> Row:
    """How many times less the structured form keeps for its backward pass than eager dense."""
    kept = {form: float(kept_for_backward(leads, patches, form)) for form in ("dense", "sdpa", "structured")}
    return {
        "name": f"attention {leads} x {patches}: memory kept for backward, eager dense over structured",
        "forms": kept,
        "ratio": kept["dense"] / kept["structured"],
        "goal": 1.0 / share,
    }


def exactness_row() -> Row:
    """Largest error of outputs and gradients against float64, d 64, 12 x 100: how many times it fits into 1e-5."""
    *inputs, grad = attention_inputs(12, 100, 1, 4, 64)

    def results(form: str, dtype: torch.dtype) -> list[Tensor]:
        leaves = [tensor.detach().to(dtype).requires_grad_() for tensor in inputs]
        output = cross_pattern_attention(*leaves, 12, implementation=form)
        return [output.detach(), *torch.autograd.grad(output, leaves, grad.to(dtype))]

    exact = results("dense", torch.float64)
    errors = {
        form: max(
            float((found.double() - true).abs().max())
            for found, true in zip(results(form, torch.float32), exact, strict=True)
        )
        for form in ("dense", "sdpa", "structured")
    }
    name = "attention 12 x 100: exactness, 1e-5 over the error against float64"
    return {"name": name, "forms": errors, "ratio": 1e-5 / errors["structured"], "goal": 1.0}


if __name__ == "__main__":
    from run import main

    raise SystemExit(main(["--only", "cropa"]))
