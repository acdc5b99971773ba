"""The training loop that pre-training and fine-tuning share. It reads from top to bottom and knows no method."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_transformers.training.checkpoints.saving import save
from ecg_transformers.training.checkpoints.tensors import BeforeStep
from ecg_transformers.training.errors import Interrupted, TrainingError, UsageError
from ecg_transformers.training.plan.batches import BatchPlan, MicroBatch, StepSampler
from ecg_transformers.training.plan.optimization import Schedule, set_learning_rate, set_weight_decay
from ecg_transformers.training.plan.randomness import seed_global_generators, torch_generator
from ecg_transformers.training.process.signals import StopRequest, ignore_stop_signals_in_worker
from ecg_transformers.training.report.failures import stop_as_not_finite
from ecg_transformers.training.report.log import Reporter
from ecg_transformers.training.samples.views import BadSample, TrainingSamples, collate

if TYPE_CHECKING:
    import numpy as np
    import torch
    from accelerate import Accelerator
    from torch import nn

Batch = dict[str, Any]


@dataclass
class Run:
    """Everything one run of the loop needs.

    Attributes:
        accelerator: devices, processes, precision.
        model: as `accelerator.prepare` gave it; `plain_model` is the model inside.
        optimizer: prepared, too.
        samples: the training set.
        plan: which records a step sees.
        schedule: the learning rate of a step.
        seed: key of noise and dropout.
        output_dir: of the run; checkpoints go to `checkpoints/` in it.
        identity: what must not change when the run is resumed, as plain JSON.
        record_ids: of the training set, to name records in errors.
        train_mode: puts the model into training mode (a frozen encoder stays in evaluation mode).
        clip_norm: bound of the gradient norm.
        weight_decay: the weight decay of a step, where a recipe lets it change.
        save_steps, keep: checkpoints every so many steps, and how many stay.
        forward_arguments: fixed keyword arguments of each forward pass (lead indices).
        offset: steps of the runs before this one in the same log (seeds of fine-tuning).
        row_head: entries that each log row begins with.
        extra_tensors, extra_state: what else a checkpoint holds (the best model so far, say).
    """

    accelerator: Accelerator
    model: nn.Module
    plain_model: Any
    optimizer: Any
    samples: TrainingSamples
    plan: BatchPlan
    schedule: Schedule
    seed: int
    output_dir: Path
    identity: dict[str, Any]
    record_ids: list[str]
    train_mode: Callable[[], Any]
    clip_norm: float | None = None
    weight_decay: Callable[[int], float] | None = None
    save_steps: int = 1000
    keep: int = 3
    num_workers: int = 0
    stop_after_step: int | None = None
    forward_arguments: dict[str, Any] = field(default_factory=dict)
    offset: int = 0
    row_head: dict[str, Any] = field(default_factory=dict)
    extra_tensors: Callable[[], Mapping[str, Mapping[str, Any]]] = dict
    extra_state: Callable[[], Mapping[str, Any]] = dict


def train(
    run: Run, reporter: Reporter, stop: StopRequest, first_step: int, after_step: Callable[[int], None] | None = None
) -> None:
    """Train from optimiser step `first_step` (counted from 0) to the end of the schedule.

    Args:
        after_step: called with the number of steps done after each step, before a checkpoint is written.

    Raises:
        NonFiniteError: loss or gradient norm not finite; the state before the step is in `crash/`.
        CheckpointWriteError: a checkpoint or log could not be written.
        Interrupted: a signal asked to stop; a checkpoint was written.
        UsageError: a record cannot be made into a sample, or the loss of a step is over nothing.
    """
    total_steps = run.schedule.total_steps
    batches = load_batches(run, first_step)
    reporter.skip_time()
    before = before_step(run)
    for step in range(first_step, total_steps):
        before.remember()
        run.train_mode()
        run.plain_model.training_step_started(step, total_steps)
        lr = run.schedule(step)
        set_learning_rate(run.optimizer, lr)
        if run.weight_decay is not None:
            set_weight_decay(run.optimizer, run.weight_decay(step))
        try:
            loss, monitored, stop_code, seen = accumulate_gradients(run, step, batches, stop)
        except UsageError as error:  # records that cannot be used: the steps before them are not lost
            before.restore()
            if step > first_step and (error.is_shared or run.accelerator.num_processes == 1):
                save(run, reporter, step)
            raise
        grad_norm = finish_gradients(run)
        fp16 = run.accelerator.scaler is not None
        if not math.isfinite(loss) or (not math.isfinite(grad_norm) and not fp16):
            before.restore()
            raise stop_as_not_finite(run, step, loss, grad_norm, seen)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        skipped = fp16 and run.accelerator.optimizer_step_was_skipped
        if not skipped:
            run.plain_model.training_step_finished(step, total_steps)
        reporter.step(log_row(run, step, loss, lr, grad_norm, monitored, skipped), run.plan.global_batch_size)
        done = step + 1
        if after_step is not None:
            after_step(done)
        stopping = stop_code != 0 or (done == run.stop_after_step and done < total_steps)
        if done % run.save_steps == 0 or done == total_steps or stopping:
            save(run, reporter, done)
        if stopping:
            raise Interrupted(
                f"Stopped after step {run.offset + done}; continue with --resume_from_checkpoint latest.",
                exit_code=stop_code,
            )


# ---- one step
# --------------------------------------------------------------------------------------------------------


def accumulate_gradients(
    run: Run, step: int, batches: Iterator[Batch], stop: StopRequest
) -> tuple[float, dict[str, float], int, list[Batch]]:
    """Forward and backward passes of one step.

    Every pass is weighted by the number of terms its mean loss is over, so that the gradient is that of the mean over
    the global batch, however unevenly the terms (masked patches, say) fall on passes and processes.

    Returns:
        mean loss over the global batch, mean monitored figures, exit code of a stop signal on any process, the
        batches.
    """
    import torch

    from ecg_transformers.layers.objectives import OnePatientError

    accelerator, micro_batches = run.accelerator, run.plan.micro_batches(step, accelerator_rank(run))
    usual_count = run.plan.per_device_batch_size * run.plan.accumulation
    totals = torch.zeros(3, dtype=torch.float64)  # loss x count, count, exit code
    monitored: dict[str, float] = {}
    seen = []
    for micro_batch in micro_batches:
        batch = next_batch(run, batches, micro_batch)
        seen.append(batch)
        seed_global_generators(run.seed, "dropout", run.offset + step, micro_batch.micro, accelerator_rank(run))
        last = micro_batch is micro_batches[-1]
        with contextlib.nullcontext() if last else accelerator.no_sync(run.model):
            try:
                outputs = run.model(**batch, **run.forward_arguments)
            except OnePatientError as error:
                raise one_patient(run, micro_batch) from error
            count = loss_count(outputs, micro_batch)
            accelerator.backward(outputs.loss * (count / usual_count))
        totals += torch.stack(
            [outputs.loss.detach().double().cpu() * count, torch.tensor(count), torch.tensor(0.0)]
        ).double()
        for name, value in run.plain_model.monitor(outputs).items():
            monitored[name] = monitored.get(name, 0.0) + float(value) / len(micro_batches)
    totals[2] = stop.exit_code
    totals, monitored = reduce_over_processes(run, totals, monitored)
    loss_sum, count_sum, code = totals.tolist()
    if count_sum == 0:
        raise nothing_to_learn(run, step)
    correct_gradients(run, usual_count * accelerator.num_processes / count_sum)
    return loss_sum / count_sum, monitored, int(code), seen


def before_step(run: Run) -> BeforeStep:
    """Keeps what a step changes before the optimiser does, for the state that is saved when the step fails."""
    from ecg_transformers.models.base import ECGPreTrainedModel

    has_hook = type(run.plain_model).training_step_started is not ECGPreTrainedModel.training_step_started
    return BeforeStep(run.plain_model, parameters=has_hook)


def nothing_to_learn(run: Run, step: int) -> UsageError:
    """The error of a batch whose loss is a mean over nothing; all processes meet it together."""
    what = "is over nothing: none of its records has anything to predict (no masked part, or no label)"
    return useless_records(run, step, what, run.plan.global_batch(step))


def one_patient(run: Run, micro_batch: MicroBatch) -> UsageError:
    """The error of a forward pass over records of one patient; all processes compare the same ones, so meet it
    together."""
    first = micro_batch.micro * run.plan.num_processes
    records = run.plan.pieces(micro_batch.step)[first : first + run.plan.num_processes]
    what = "has nothing to contrast: all records of a forward pass belong to one patient"
    return useless_records(run, micro_batch.step, what, [index for piece in records for index in piece])


def useless_records(run: Run, step: int, what: str, indices: Sequence[int] | np.ndarray) -> UsageError:
    """The error of all processes about a step that the records named teach nothing."""
    names = [run.record_ids[index] for index in indices]
    listed = ", ".join(names[:16]) + (", …" if len(names) > 16 else "")
    error = UsageError(
        f"The loss of step {run.offset + step + 1} {what}. Leave them out or take a larger batch. The records: {listed}."
    )
    error.is_shared = True
    return error


def loss_count(outputs: Any, micro_batch: MicroBatch) -> float:
    """Number of terms that the mean loss of this pass is over."""
    if not micro_batch.counted:
        return 0.0
    terms = getattr(outputs, "num_loss_terms", None)
    return float(len(micro_batch.indices)) if terms is None else float(terms)


def reduce_over_processes(
    run: Run, totals: torch.Tensor, monitored: dict[str, float]
) -> tuple[torch.Tensor, dict[str, float]]:
    """Sum of losses and counts, largest exit code, mean of what is monitored."""
    import torch

    accelerator = run.accelerator
    if accelerator.num_processes == 1:
        return totals, monitored
    names = sorted(monitored)
    packed = torch.tensor([*totals.tolist(), *(monitored[name] for name in names)], dtype=torch.float64)
    gathered = accelerator.gather(packed.to(accelerator.device)[None]).cpu()
    totals = torch.stack([gathered[:, 0].sum(), gathered[:, 1].sum(), gathered[:, 2].max()])
    return totals, {name: float(value) for name, value in zip(names, gathered[:, 3:].mean(dim=0), strict=True)}


def correct_gradients(run: Run, factor: float) -> None:
    """Bring the gradients to the mean over the terms that there really were."""
    if factor == 1.0:
        return
    for group in run.optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)


def finish_gradients(run: Run) -> float:
    """Unscale, measure and clip; returns the norm before clipping."""
    import torch

    run.accelerator.unscale_gradients(run.optimizer)
    parameters = [
        parameter for group in run.optimizer.param_groups for parameter in group["params"] if parameter.grad is not None
    ]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters])
    norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    if run.clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, run.clip_norm, norm)
    return float(norm)


def log_row(
    run: Run, step: int, loss: float, lr: float, grad_norm: float, monitored: dict[str, float], skipped: bool
) -> dict[str, Any]:
    """One line of the train log; it holds nothing of the clock, so that a repeated run repeats it digit by digit."""
    row = {
        "step": run.offset + step + 1,
        **run.row_head,
        "epoch": (step + 1) / run.plan.steps_per_epoch,
        "loss": loss,
        "lr": lr,
        "grad_norm": grad_norm if math.isfinite(grad_norm) else None,
        **{name: value if math.isfinite(value) else None for name, value in monitored.items()},
    }
    return {**row, "skipped": True} if skipped else row


# ---- batches
# ---------------------------------------------------------------------------------------------------------


def load_batches(run: Run, first_step: int) -> Iterator[Any]:
    """The batches of this process from `first_step` to the end of the run."""
    import torch

    loader: Any = torch.utils.data.DataLoader(
        run.samples,  # type: ignore[arg-type]  # map-style access is all it needs
        batch_sampler=StepSampler(run.plan, accelerator_rank(run), first_step, run.schedule.total_steps),
        num_workers=run.num_workers,
        collate_fn=collate,
        worker_init_fn=ignore_stop_signals_in_worker,
        pin_memory=run.accelerator.device.type == "cuda",
        generator=torch.Generator(),  # its own: creating an iterator must not draw from the global generator
        multiprocessing_context="fork" if run.num_workers and run.accelerator.device.type == "cpu" else None,
    )
    return iter(loader)


def next_batch(run: Run, batches: Iterator[Any], micro_batch: MicroBatch) -> Batch:
    """The next batch with its noise, on the device."""
    try:
        batch = next(batches)
    except RuntimeError as error:
        if "DataLoader worker" in str(error):
            raise TrainingError(
                f"A data worker died ({error}); resume with --resume_from_checkpoint latest."
            ) from error
        raise
    if isinstance(batch, BadSample):
        raise UsageError(batch.message)
    if len(micro_batch.indices) != len(next(iter(batch.values()))):
        raise TrainingError(
            f"The data loader and the plan of the run disagree at step {micro_batch.step}: this is a defect."
        )
    batch.update(sample_noise(run, micro_batch))
    batch.update(
        run.plain_model.draw_batch_noise(torch_generator(run.seed, "batch", run.offset + micro_batch.step), batch)
    )
    return {key: value.to(run.accelerator.device, non_blocking=True) for key, value in batch.items()}


def sample_noise(run: Run, micro_batch: MicroBatch) -> Batch:
    """The noise that the model asks for, drawn sample by sample and stacked."""
    import torch

    draws = [
        run.plain_model.draw_sample_noise(torch_generator(run.seed, "noise", micro_batch.epoch, index))
        for index in micro_batch.indices
    ]
    return {key: torch.stack([draw[key] for draw in draws]) for key in draws[0]}


def accelerator_rank(run: Run) -> int:
    """The number of this process."""
    return int(run.accelerator.process_index)
