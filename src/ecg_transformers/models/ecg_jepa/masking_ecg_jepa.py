"""ECG-JEPA's masks in time."""

import torch
from torch import Tensor

from ecg_transformers.layers.masking import multi_block_time_mask, random_time_mask
from ecg_transformers.models.ecg_jepa.configuration_ecg_jepa import ECGJEPAConfig


def draw_time_mask(config: ECGJEPAConfig, num_patches: int, generator: torch.Generator | None = None) -> Tensor:
    """Bool `(num_patches,)`, True = masked; the draws of the released code, on the CPU, in its order."""
    if config.mask_type == "random":
        return random_time_mask(num_patches, config.mask_ratios, generator=generator)
    return multi_block_time_mask(
        num_patches,
        config.mask_ratios,
        config.num_mask_blocks,
        generator=generator,
        include_last=config.block_mask_include_last,
    )


def draw_time_masks(
    config: ECGJEPAConfig, num_patches: int, batch: int, generator: torch.Generator | None = None
) -> Tensor:
    """Bool `(batch, num_patches)`: one mask a record, all with as many masked patches as the smallest of them.

    The grid of visible patches stays rectangular that way; which patches a larger mask gives back is drawn.
    """
    masks = torch.stack([draw_time_mask(config, num_patches, generator) for _ in range(batch)])
    count = int(masks.sum(dim=1).min())
    ranks = torch.rand(masks.shape, generator=generator).masked_fill(~masks, 2.0).argsort(dim=1)
    return torch.zeros_like(masks).scatter(1, ranks[:, :count], True)
