"""A loss or gradient that is not finite: the state before the step is saved, and the records to blame are named."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ecg_transformers.training.checkpoints.saving import save
from ecg_transformers.training.errors import CheckpointWriteError, NonFiniteError
from ecg_transformers.training.report.log import Reporter

if TYPE_CHECKING:
    from ecg_transformers.training.loop import Run

Batch = dict[str, Any]


def stop_as_not_finite(run: Run, step: int, loss: float, grad_norm: float, seen: list[Batch]) -> NonFiniteError:
    """Save the state before the step and name the records that are to blame."""
    micro_batches = run.plan.micro_batches(step, run.accelerator.process_index)
    blamed = [
        run.record_ids[index]
        for micro_batch, batch in zip(micro_batches, seen, strict=True)
        for position, index in enumerate(micro_batch.indices)
        if not _sample_is_finite(run, batch, position)
    ]
    everything = [run.record_ids[index] for index in run.plan.global_batch(step)]
    if run.accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        blamed = gather_object(blamed)
    blamed = sorted(set(blamed))
    run.optimizer.zero_grad(set_to_none=True)
    what = f"loss {loss}" if not math.isfinite(loss) else f"gradient norm {grad_norm}"
    quiet = Reporter(run.output_dir, first_step=0, total_steps=1, is_main=False)
    folder = run.output_dir / "crash"
    crash = {"failed_step": run.offset + step + 1, "what": what, "blamed_records": blamed, "records": everything}
    saved = f"the state before the step is in {folder / f'step-{run.offset + step}'}"
    try:
        save(run, quiet, step, folder=folder, crash=crash)
    except CheckpointWriteError as error:
        saved = f"the state could not be saved ({error})"
    names = blamed or everything
    listed = ", ".join(names[:16]) + (", …" if len(names) > 16 else "")
    which = "Records that give it by themselves" if blamed else "No single record gives it; the batch holds the records"
    return NonFiniteError(f"The {what} of step {run.offset + step + 1} is not finite; {saved}. {which}: {listed}.")


def _sample_is_finite(run: Run, batch: Batch, position: int) -> bool:
    import torch

    one = {key: value[position : position + 1] if value.ndim else value for key, value in batch.items()}
    if not all(bool(torch.isfinite(value).all()) for value in one.values() if value.is_floating_point()):
        return False
    if run.plain_model.compares_records:  # it cannot be asked about one record
        return True
    was_training = run.plain_model.training
    run.plain_model.eval()
    try:
        with torch.no_grad():
            loss = run.plain_model(**one, **run.forward_arguments).loss
    except (RuntimeError, ValueError, IndexError):  # batch norm cannot be asked about one record either
        return True
    finally:
        run.plain_model.train(was_training)
    return bool(torch.isfinite(loss).all())
