"""What depends on the other records of a forward pass: losses that compare records, and batch norm."""

from __future__ import annotations

import sys

from accelerate import Accelerator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.training.errors import UsageError
from ecg_transformers.training.plan.batches import BatchPlan


def check_passes(model: ECGPreTrainedModel, plan: BatchPlan) -> None:
    """Refuse sizes with which a loss that compares the records of a pass has nothing to compare, or not everywhere.

    Raises:
        UsageError: a pass of one record, or, on several processes, an incomplete batch that gives them unequal numbers.
    """
    if not model.compares_records:
        return
    last = [len(piece) for piece in plan.pieces(plan.steps_per_epoch - 1)]  # incomplete with drop_last=False
    if min(*last, len(plan.pieces(0)[0])) < 2 or (plan.num_processes > 1 and min(last) < max(last)):
        error = UsageError(
            "This loss compares the records of a forward pass with one another, so every pass needs at least two and "
            f"all processes as many, but the passes of a step have {plan.per_device_batch_size} records and those of "
            f"the last one in an epoch {', '.join(map(str, last))}: take a larger --per_device_batch_size or "
            "--drop_last true."
        )
        error.is_shared = True
        raise error


def check_head(model: ECGPreTrainedModel, plan: BatchPlan) -> None:
    """Refuse a pass of one record where the head normalises over the records of a pass: it fails in the step that has it.

    Raises:
        UsageError: some pass has one record.
    """
    pieces = [*plan.pieces(0), *plan.pieces(plan.steps_per_epoch - 1)]
    smallest = min(max(len(piece), 1) for piece in pieces)  # a process without a record of its own takes one
    head = [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    if smallest == 1 and not all(name.startswith(f"{model.base_model_prefix}.") for name in head):
        error = UsageError(
            "The head of this classifier has batch norm, which needs two records in every forward pass, and some pass has "
            f"one (of {plan.num_records} training records): take another --per_device_batch_size, --drop_last true, more "
            "records, or --config_overrides head_norm=none."
        )
        error.is_shared = True
        raise error


def warn_of_divided_batches(title: str, model: ECGPreTrainedModel, plan: BatchPlan) -> None:
    """Say at the start, on the main process, when a loss over a whole batch is computed on parts of it.

    Losses that compare records gather them over processes, but not over accumulated passes; batch norm does neither,
    unless it is synchronised.
    """
    norms = batch_norms(model)
    over_passes = plan.accumulation > 1 and (model.compares_records or bool(norms))
    over_processes = plan.num_processes > 1 and any(not isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    if over_passes or over_processes:
        print(
            f"warning: the loss of {title} depends on all records of a forward pass together, so {plan.num_processes} x "
            f"{plan.accumulation} passes of {plan.per_device_batch_size} records do not give the results of one batch of "
            f"{plan.global_batch_size}.",
            file=sys.stderr,
            flush=True,
        )


def with_sync_batch_norm(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The model with batch norm over all processes, where it has batch norm and runs on several GPUs."""
    if accelerator.num_processes == 1 or accelerator.device.type != "cuda":
        return model
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return converted


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """The modules of a model that take statistics of a batch, synchronised over processes or not."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]
