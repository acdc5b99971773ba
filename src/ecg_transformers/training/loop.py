"""The training loop that pre-training and fine-tuning share. It reads from top to bottom and knows no method."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from transformers.utils import ModelOutput

from ecg_transformers.training.checkpoints.freezing import BeforeStep
from ecg_transformers.training.errors import Interrupted, TrainingError, UsageError
from ecg_transformers.training.plan.batches import MicroBatch
from ecg_transformers.training.plan.randomness import seed_global_generators, torch_generator
from ecg_transformers.training.process.signals import StopRequest
from ecg_transformers.training.report.failures import listed, stop_as_not_finite
from ecg_transformers.training.report.log import Reporter
from ecg_transformers.training.run import Run
from ecg_transformers.training.samples.loader import BadSample, Batch


@dataclass
class StepResult:
    """What the forward and backward passes of one step gave.

    Attributes:
        loss: mean over the global batch.
        monitored: figures that the model wants in the log.
        exit_code: of a stop signal that some process got, else 0.
        batches: of this process.
    """

    loss: float = math.nan
    monitored: dict[str, float] = field(default_factory=dict)
    exit_code: int = 0
    batches: list[Batch] = field(default_factory=list)


def train(
    run: Run,
    reporter: Reporter,
    stop: StopRequest,
    first_step: int,
    after_step: Callable[[int], None] = lambda done: None,
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
    batches = run.data.batches(run.accelerator, first_step, total_steps)
    before = BeforeStep(run.plain_model)
    reporter.skip_time()
    for step in range(first_step, total_steps):
        before.remember()
        run.train_mode(run.plain_model)
        run.plain_model.training_step_started(step, total_steps)
        run.schedule.set(run.optimizer, step)
        try:
            result = accumulate_gradients(run, step, batches, stop)
        except UsageError as error:  # records that cannot be used: the steps before them are not lost
            before.restore()
            if step > first_step and (error.is_shared or run.accelerator.num_processes == 1):
                run.save(step, before=reporter.sync)
            raise
        grad_norm = finish_gradients(run)
        if not is_finite(run, result.loss, grad_norm):
            before.restore()
            raise stop_as_not_finite(run, step, result.loss, grad_norm, result.batches)
        skipped = update(run, step)
        reporter.step(log_row(run, step, result, grad_norm, skipped), run.plan.global_batch_size)
        done = step + 1
        after_step(done)
        stopping = result.exit_code != 0 or (done == run.saving.stop_after_step and done < total_steps)
        if done % run.saving.every == 0 or done == total_steps or stopping:
            run.save(done, before=reporter.sync)
            reporter.skip_time()
        if stopping:
            raise Interrupted(
                f"Stopped after step {run.number(step)}; continue with --resume_from_checkpoint latest.",
                exit_code=result.exit_code,
            )


def accumulate_gradients(run: Run, step: int, batches: Iterator[Batch | BadSample], stop: StopRequest) -> StepResult:
    """Forward and backward passes of one step.

    Every pass is weighted by the number of terms its mean loss is over, so that the gradient is that of the mean over
    the global batch, however unevenly the terms (masked patches, say) fall on passes and processes.
    """
    result = StepResult()
    micro_batches = run.plan.micro_batches(step, run.rank)
    usual_count = run.plan.per_device_batch_size * run.plan.accumulation
    loss_sum, count_sum = torch.zeros((), dtype=torch.float64), 0.0
    for micro_batch in micro_batches:
        batch = next_batch(run, batches, micro_batch)
        result.batches.append(batch)
        check_patients(run, micro_batch)
        seed_global_generators(run.plan.seed, "dropout", run.place.offset + step, micro_batch.micro, run.rank)
        last = micro_batch is micro_batches[-1]
        with contextlib.nullcontext() if last else run.accelerator.no_sync(run.model):
            outputs = run.model(**batch, **run.forward_arguments)
            count = loss_count(outputs, micro_batch)
            run.accelerator.backward(outputs.loss * (count / usual_count))
        loss_sum += outputs.loss.detach().double().cpu() * count
        count_sum += count
        for name, value in run.plain_model.monitor(outputs).items():
            result.monitored[name] = result.monitored.get(name, 0.0) + float(value) / len(micro_batches)
    loss_total, count_total = reduce_over_processes(run, result, float(loss_sum), count_sum, stop.exit_code)
    if count_total == 0:
        what = "is over nothing: none of its records has anything to predict (no masked part, or no label)"
        raise useless_records(run, step, what, run.plan.global_batch(step).tolist())
    result.loss = loss_total / count_total
    correct_gradients(run, usual_count * run.accelerator.num_processes / count_total)
    return result


def next_batch(run: Run, batches: Iterator[Batch | BadSample], micro_batch: MicroBatch) -> Batch:
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
    model, seed = run.plain_model, run.plan.seed
    draws = [
        model.draw_sample_noise(torch_generator(seed, "noise", micro_batch.epoch, index))
        for index in micro_batch.indices
    ]
    batch.update({key: torch.stack([draw[key] for draw in draws]) for key in draws[0]})
    batch.update(model.draw_batch_noise(torch_generator(seed, "batch", run.place.offset + micro_batch.step), batch))
    return {key: value.to(run.accelerator.device, non_blocking=True) for key, value in batch.items()}


def check_patients(run: Run, micro_batch: MicroBatch) -> None:
    """Refuse a pass over records of one patient where the loss contrasts patients; all processes meet it together."""
    if not run.plain_model.compares_patients:
        return
    own = run.plan.pass_over_processes(micro_batch.step, micro_batch.micro)
    contrasted = [list(chain(*own))] if run.plain_model.gathers_patients else own
    where = "" if len(contrasted) == 1 else " on one of the processes"
    for indices in contrasted:
        if len({run.data.samples.patient_keys[index] for index in indices}) == 1:
            what = f"has nothing to contrast: all records of a forward pass{where} belong to one patient"
            raise useless_records(run, micro_batch.step, what, indices)


def useless_records(run: Run, step: int, what: str, indices: Sequence[int]) -> UsageError:
    """The error of all processes about a step that the records named teach nothing."""
    names = [run.data.samples.record_ids[index] for index in indices]
    error = UsageError(
        f"The loss of step {run.number(step)} {what}. Leave them out or take a larger batch. The records: {listed(names)}."
    )
    error.is_shared = True
    return error


def loss_count(outputs: ModelOutput, micro_batch: MicroBatch) -> float:
    """Number of terms that the mean loss of this pass is over."""
    if not micro_batch.counted:
        return 0.0
    terms = getattr(outputs, "num_loss_terms", None)
    return float(len(micro_batch.indices)) if terms is None else float(terms)


def reduce_over_processes(
    run: Run, result: StepResult, loss_sum: float, count_sum: float, exit_code: int
) -> tuple[float, float]:
    """Sum of losses and of counts over all processes; the largest exit code and the mean figures go into `result`."""
    result.exit_code = exit_code
    if run.accelerator.num_processes == 1:
        return loss_sum, count_sum
    names = sorted(result.monitored)
    own = [loss_sum, count_sum, exit_code, *(result.monitored[name] for name in names)]
    packed = torch.tensor(own, dtype=torch.float64, device=run.accelerator.device)
    gathered = run.accelerator.gather(packed[None]).cpu()
    result.exit_code = int(gathered[:, 2].max())
    result.monitored = {name: float(value) for name, value in zip(names, gathered[:, 3:].mean(dim=0), strict=True)}
    return float(gathered[:, 0].sum()), float(gathered[:, 1].sum())


def correct_gradients(run: Run, factor: float) -> None:
    """Bring the gradients to the mean over the terms that there really were."""
    if factor == 1.0:
        return
    for parameter in parameters_with_gradient(run):
        assert parameter.grad is not None
        parameter.grad.mul_(factor)


def finish_gradients(run: Run) -> float:
    """Unscale, measure and clip; returns the norm before clipping."""
    run.accelerator.unscale_gradients(run.optimizer)
    parameters = parameters_with_gradient(run)
    norm: Any = torch.nn.utils.get_total_norm(
        [parameter.grad for parameter in parameters if parameter.grad is not None]
    )
    norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    if run.clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, run.clip_norm, norm)
    return float(norm)


def parameters_with_gradient(run: Run) -> list[torch.nn.Parameter]:
    """The parameters of the optimiser that the step's loss depends on, group by group."""
    groups = run.optimizer.param_groups
    return [parameter for group in groups for parameter in group["params"] if parameter.grad is not None]


def is_finite(run: Run, loss: float, grad_norm: float) -> bool:
    """Whether the optimiser may take this step; in fp16 its gradient scaler looks after the gradients."""
    return math.isfinite(loss) and (math.isfinite(grad_norm) or run.accelerator.scaler is not None)


def update(run: Run, step: int) -> bool:
    """The optimiser's step, and what the model does after it; True when the gradient scaler of fp16 skipped both."""
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    skipped = run.accelerator.scaler is not None and run.accelerator.optimizer_step_was_skipped
    if not skipped:
        run.plain_model.training_step_finished(step, run.schedule.total_steps)
    return bool(skipped)


def log_row(run: Run, step: int, result: StepResult, grad_norm: float, skipped: bool) -> dict[str, Any]:
    """One line of the train log; it holds nothing of the clock, so that a repeated run repeats it digit by digit."""
    row = {
        "step": run.number(step),
        **run.place.row_head,
        "epoch": (step + 1) / run.plan.steps_per_epoch,
        "loss": result.loss,
        "lr": run.schedule(step),
        "grad_norm": grad_norm if math.isfinite(grad_norm) else None,
        **{name: value if math.isfinite(value) else None for name, value in result.monitored.items()},
    }
    return {**row, "skipped": True} if skipped else row
