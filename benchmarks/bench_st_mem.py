"""ST-MEM's training step: the forms that the package uses against the plain ones, and the share of the matmul rate.

    python benchmarks/bench_st_mem.py          # one thread; some minutes of CPU

12 leads of 30 patches, mask ratio 0.75: 7 visible patches a lead and two separators, 108 tokens in the encoder, 32 a
lead in the decoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from timing import Form, Row, gemm, rotate, row, share_of_peak
from torch import Tensor, nn

from ecg_transformers.layers.masked_autoencoder import MaskedDecoder
from ecg_transformers.layers.masking import gather_tokens, num_visible, rank_noise
from ecg_transformers.layers.patching import PatchEmbedding, patchify
from ecg_transformers.models.st_mem.configuration_st_mem import STMEMConfig
from ecg_transformers.models.st_mem.modeling_st_mem import STMEMForPreTraining
from ecg_transformers.training.plan.optimization import build_optimizer, parameter_groups


@dataclass(frozen=True)
class Setting:
    """A model size and what it must reach: `goals` by the name of the comparison, none where it is for information."""

    name: str
    batch: int
    config: dict[str, Any]
    goals: dict[str, float] = field(default_factory=dict)
    repeats: int = 7


TINY = Setting(
    name="tiny",
    batch=8,
    config={
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "attention_head_size": 32,
        "intermediate_size": 512,
        "decoder_hidden_size": 64,
        "decoder_num_hidden_layers": 2,
        "decoder_num_attention_heads": 2,
        "decoder_attention_head_size": 32,
        "decoder_intermediate_size": 256,
    },
    goals={"decoder": 1.3, "foreach": 2.5, "for-loop": 3.0, "Conv1d": 1.3, "gather": 1.2, "peak": 0.25},
)
BASE = Setting(
    name="base",
    batch=2,
    config={},
    goals={"decoder": 1.4, "foreach": 3.0, "for-loop": 3.5, "Conv1d": 1.3, "gather": 1.2, "peak": 0.60},
    repeats=5,
)


def rows(settings: Sequence[Setting] = (TINY, BASE)) -> list[Row]:
    """One dictionary a comparison: `name`, `forms` (median CPU seconds), `ratio` (plain over ours) and `goal`."""
    torch.set_num_threads(1)
    table: list[Row] = []
    for setting in settings:
        torch.manual_seed(0)
        table.append(decoder_row(setting))
        table.append(patch_embedding_row(setting))
        table.append(gather_row(setting))
        table += step_rows(setting)
    return table


def model_of(setting: Setting) -> STMEMForPreTraining:
    torch.manual_seed(0)
    return STMEMForPreTraining(STMEMConfig(**setting.config)).train()


def inputs_of(setting: Setting, config: STMEMConfig) -> dict[str, Tensor]:
    signal = torch.randn(setting.batch, config.num_leads, config.seq_len)
    return {"input_values": signal, "noise": torch.rand(setting.batch, config.num_leads, config.num_patches)}


def both_ways(function: Any, *inputs: Tensor) -> Form:
    """Forward and backward with gradients for inputs and weights."""
    with torch.no_grad():
        grad = torch.randn_like(function(*inputs))

    def run() -> None:
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        function(*leaves).backward(grad)

    return run


def decoder_row(setting: Setting) -> Row:
    """The decoder that all leads share: leads folded into the batch against a loop on leads."""
    config = STMEMConfig(**setting.config)
    visible = num_visible(config.num_patches, config.mask_ratio)
    decoder: MaskedDecoder = model_of(setting).decoder
    latent = torch.randn(setting.batch, config.num_leads, visible + 2, config.hidden_size)
    ids = rank_noise(torch.rand(setting.batch, config.num_leads, config.num_patches), visible).ids_restore

    def folded(latent: Tensor) -> Tensor:
        return decoder(latent.flatten(0, 1), ids.flatten(0, 1)).unflatten(0, ids.shape[:2])

    def loop(latent: Tensor) -> Tensor:
        return torch.stack([decoder(latent[:, lead], ids[:, lead]) for lead in range(config.num_leads)], dim=1)

    torch.testing.assert_close(folded(latent), loop(latent), rtol=1e-4, atol=1e-5)
    forms = {"folded": both_ways(folded, latent), "loop on leads": both_ways(loop, latent)}
    seconds = rotate(forms, setting.repeats)
    name = f"ST-MEM {setting.name}: decoder folded over loop on leads, fb"
    return row(name, seconds, "loop on leads", "folded", setting.goals.get("decoder"))


def patch_embedding_row(setting: Setting) -> Row:
    """The projection of all patches: a linear layer on a reshape against a convolution of the same weights."""
    config = STMEMConfig(**setting.config)
    linear = PatchEmbedding(config.patch_size, config.hidden_size, norm=False)
    conv = nn.Conv1d(1, config.hidden_size, config.patch_size, config.patch_size)
    with torch.no_grad():
        conv.weight.copy_(linear.projection.weight[:, None])
        conv.bias.copy_(linear.projection.bias)
    signal = torch.randn(setting.batch, config.num_leads, config.seq_len)

    def as_linear(signal: Tensor) -> Tensor:
        return linear(patchify(signal, config.patch_size))

    def as_conv(signal: Tensor) -> Tensor:
        return conv(signal.flatten(0, 1)[:, None]).transpose(1, 2).unflatten(0, signal.shape[:2])

    torch.testing.assert_close(as_linear(signal), as_conv(signal), rtol=1e-4, atol=1e-4)
    forms = {"Linear": both_ways(as_linear, signal), "Conv1d": both_ways(as_conv, signal)}
    seconds = rotate(forms, 3 * setting.repeats)
    name = f"ST-MEM {setting.name}: patch embedding Linear over Conv1d, fb"
    return row(name, seconds, "Conv1d", "Linear", setting.goals.get("Conv1d"))


def gather_row(setting: Setting) -> Row:
    """The visible tokens: one flat `index_select` against `gather` with expanded indices."""
    config = STMEMConfig(**setting.config)
    visible = num_visible(config.num_patches, config.mask_ratio)
    tokens = torch.randn(setting.batch, config.num_leads, config.num_patches, config.hidden_size)
    ids = rank_noise(torch.rand(tokens.shape[:3]), visible).ids_keep

    def plain(tokens: Tensor) -> Tensor:
        return tokens.gather(2, ids[..., None].expand(*ids.shape, tokens.shape[-1]))

    torch.testing.assert_close(gather_tokens(tokens, ids), plain(tokens), rtol=0, atol=0)
    forms = {
        "index_select": both_ways(lambda tokens: gather_tokens(tokens, ids), tokens),
        "gather": both_ways(plain, tokens),
    }
    seconds = rotate(forms, 3 * setting.repeats)
    name = f"ST-MEM {setting.name}: flat index_select over gather(expand), fb"
    return row(name, seconds, "gather", "index_select", setting.goals.get("gather"))


def step_rows(setting: Setting) -> list[Row]:
    """The whole step: forward and backward, the optimiser's forms, and the matmul rate, all in one rotation."""
    model = model_of(setting)
    inputs = inputs_of(setting, model.config)

    def forward_backward() -> None:
        model.zero_grad(set_to_none=True)
        model(**inputs).loss.backward()

    forward_backward()
    forms = {"forward + backward": forward_backward, "GEMM 1024": gemm()}
    seconds = rotate(forms, setting.repeats) | rotate(optimizer_forms(model), setting.repeats)
    table = [
        row(
            f"ST-MEM {setting.name}: AdamW fused over {other}, {count_parameters(model)}",
            {name: seconds[name] for name in ("fused", other)},
            other,
            "fused",
            setting.goals.get(other),
        )
        for other in ("foreach", "for-loop")
    ]
    flops = setting.batch * step_flops(model.config)
    table.append(
        {
            "name": f"ST-MEM {setting.name}, B{setting.batch}, fb: share of GEMM peak ({flops / 1e9:.3g} GFLOP)",
            "forms": {name: seconds[name] for name in forms},
            "ratio": share_of_peak(flops, seconds["forward + backward"], seconds["GEMM 1024"]),
            "goal": setting.goals.get("peak"),
        }
    )
    whole = {name: seconds["forward + backward"] + seconds[name] for name in ("fused", "foreach", "for-loop")}
    name = f"ST-MEM {setting.name}, B{setting.batch}: whole step, AdamW fused over"
    return [*table, *(row(f"{name} {other}", whole, other, "fused", None) for other in ("foreach", "for-loop"))]


def optimizer_forms(model: nn.Module) -> dict[str, Form]:
    """The optimiser that training builds, and AdamW's two other forms, on the same parameters, gradients and moments."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ours = build_optimizer(parameter_groups(model, weight_decay=0.01, decay_one_dimensional=True), lr=1e-6)
    others = {
        "foreach": torch.optim.AdamW(parameters, lr=1e-6, foreach=True),
        "for-loop": torch.optim.AdamW(parameters, lr=1e-6, foreach=False, fused=False),
    }
    ours.step()  # makes the moments, which the others share: three copies of the base model's would need gigabytes
    for optimizer in others.values():
        optimizer.state.update(ours.state)
    return {"fused": ours.step} | {name: optimizer.step for name, optimizer in others.items()}


def count_parameters(model: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.1f} M parameters"


def step_flops(config: STMEMConfig) -> float:
    """Multiplications and additions of one sample's forward and backward pass: matrix products and attention."""
    visible = num_visible(config.num_patches, config.mask_ratio)
    encoder_tokens = config.num_leads * (visible + 2)
    decoder_tokens = config.num_patches + 2

    def block(tokens: int, width: int, inner: int, hidden: int) -> float:
        projections = 8.0 * width * inner + 4.0 * width * hidden  # query, key, value, output; the two of the MLP
        return tokens * projections + 4.0 * tokens**2 * inner  # scores, and the weighted sum of values

    encoder_inner = config.num_attention_heads * config.attention_head_size
    decoder_inner = config.decoder_num_attention_heads * config.decoder_attention_head_size
    encoder = config.num_hidden_layers * block(
        encoder_tokens, config.hidden_size, encoder_inner, config.intermediate_size
    )
    decoder = config.decoder_num_hidden_layers * block(
        decoder_tokens, config.decoder_hidden_size, decoder_inner, config.decoder_intermediate_size
    )
    patches = config.num_leads * visible * 2.0 * config.patch_size * config.hidden_size
    into = encoder_tokens * 2.0 * config.hidden_size * config.decoder_hidden_size
    out = config.num_leads * decoder_tokens * 2.0 * config.decoder_hidden_size * config.patch_size
    return 3.0 * (encoder + config.num_leads * decoder + patches + into + out)


if __name__ == "__main__":
    from run import main

    raise SystemExit(main(["--only", "st_mem"]))
