"""ECG-JEPA's masks in time, as indices of visible and masked patches."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ecg_transformers.layers.masking import multi_block_time_mask, random_time_mask
from ecg_transformers.models.ecg_jepa.configuration_ecg_jepa import ECGJEPAConfig


@dataclass(frozen=True)
class TimeSplit:
    """A mask as index lists.

    Attributes:
        order: `(n,)` or `(B, n)` times: the visible ones ascending, then the masked ones ascending.
        num_visible: how many of them are visible.
    """

    order: Tensor
    num_visible: int

    @property
    def visible(self) -> Tensor:
        return self.order[..., : self.num_visible]

    @property
    def masked(self) -> Tensor:
        return self.order[..., self.num_visible :]


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


def split_times(mask: Tensor, batch: int, num_patches: int, device: torch.device) -> TimeSplit:
    """Indices of a mask that was drawn or handed in.

    Args:
        mask: bool (or 0/1) `(n,)` for the whole batch, or `(B, n)`.
        batch, num_patches: of the input.
        device: of the input.

    Raises:
        ValueError: for a wrong shape, when nothing is masked, or when records mask different numbers of patches.
    """
    if mask.shape not in ((num_patches,), (batch, num_patches)):
        raise ValueError(
            f"mask must have shape ({num_patches},) or ({batch}, {num_patches}), one value a patch in time; "
            f"got {tuple(mask.shape)}."
        )
    mask = mask.cpu().bool()  # counts decide shapes, so they are needed here anyway
    counts = mask.sum(dim=-1).reshape(-1)
    if int(counts.min()) != int(counts.max()):
        raise ValueError(
            "Every record of a batch must mask the same number of patches; "
            f"these mask between {int(counts.min())} and {int(counts.max())}."
        )
    if int(counts[0]) == 0:
        raise ValueError("The mask hides no patch, so there is nothing to predict; hide at least one.")
    order = mask.to(torch.uint8).argsort(dim=-1, stable=True)
    return TimeSplit(order.to(device), num_patches - int(counts[0]))
