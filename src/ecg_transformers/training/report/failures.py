"""A loss or gradient that is not finite: the state before the step is saved, and the records to blame are named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from accelerate.utils import gather_object

from ecg_transformers.layers.frozen import eval_mode
from ecg_transformers.training.errors import CheckpointWriteError, NonFiniteError
from ecg_transformers.training.run import Run
from ecg_transformers.training.samples.loader import Batch


def stop_as_not_finite(run: Run, step: int, loss: float, grad_norm: float, seen: Sequence[Batch]) -> NonFiniteError:
    """Save the state before the step and name the records that are to blame."""
    names = run.data.samples.record_ids
    blamed = [
        names[index]
        for micro_batch, batch in zip(run.plan.micro_batches(step, run.rank), seen, strict=True)
        for position, index in enumerate(micro_batch.indices)
        if not _sample_is_finite(run, batch, position)
    ]
    if run.accelerator.num_processes > 1:
        blamed = gather_object(blamed)
    blamed = sorted(set(blamed))
    everything = [names[index] for index in run.plan.global_batch(step)]
    what = f"loss {loss}" if not math.isfinite(loss) else f"gradient norm {grad_norm}"
    number, done = run.number(step), run.place.offset + step
    folder = run.saving.output_dir / "crash"
    crash = {"failed_step": number, "what": what, "blamed_records": blamed, "records": everything}
    run.optimizer.zero_grad(set_to_none=True)
    saved = f"the state before the step is in {folder / f'step-{done}'}"
    try:
        run.save(step, folder=folder, crash=crash)
    except CheckpointWriteError as error:
        saved = f"the state could not be saved ({error})"
    which = "Records that give it by themselves" if blamed else "No single record gives it; the batch holds the records"
    return NonFiniteError(
        f"The {what} of step {number} is not finite; {saved}. {which}: {listed(blamed or everything)}."
    )


def listed(names: Sequence[str]) -> str:
    """The first sixteen of some records."""
    return ", ".join(names[:16]) + (", …" if len(names) > 16 else "")


def _sample_is_finite(run: Run, batch: Mapping[str, torch.Tensor], position: int) -> bool:
    one = {key: value[position : position + 1] if value.ndim else value for key, value in batch.items()}
    if not all(bool(torch.isfinite(value).all()) for value in one.values() if value.is_floating_point()):
        return False
    if run.plain_model.compares_records:  # it cannot be asked about one record
        return True
    try:
        with eval_mode(run.plain_model), torch.no_grad():
            loss = run.plain_model(**one, **run.forward_arguments).loss
    except (RuntimeError, ValueError, IndexError):  # batch norm cannot be asked about one record either
        return True
    return bool(torch.isfinite(loss).all())
