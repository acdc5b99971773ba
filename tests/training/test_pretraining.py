import json
import os
import resource
import signal
import time
from pathlib import Path

import pytest
from support.small_runs import exit_code, in_child, run_files, small_pretraining

from ecg_transformers.models.registry import get_method, list_methods
from ecg_transformers.training.checkpoints.folder import list_checkpoints, verify
from ecg_transformers.training.errors import (
    CheckpointWriteError,
    Interrupted,
    NonFiniteError,
    OutputInUseError,
    UsageError,
)
from ecg_transformers.training.pretraining import pretrain
from ecg_transformers.training.report.log import read_log
from ecg_transformers.training.samples.splits import load_split
from ecg_transformers.training.samples.views import CropView

STAGES = [
    (name, stage)
    for name in list_methods()
    if "pretraining" in get_method(name).model_classes
    for stage in get_method(name).stages
]


def has_batch_norm(name: str) -> bool:
    method = get_method(name)
    model = method.model_classes["pretraining"](method.config_class(**method.tiny_config))
    return any(key.endswith("running_mean") for key, _ in model.named_buffers())


WITH_BATCH_NORM = sorted({name for name, _ in STAGES if has_batch_norm(name)})


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run over two epochs (10 steps each would be one, so 16 steps)."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    pretrain(small_pretraining(folder, max_steps=16))
    return folder


def interrupted(folder: Path, stop: int, **changes) -> None:
    with pytest.raises(Interrupted):
        pretrain(small_pretraining(folder, stop_after_step=stop, **changes))


@pytest.mark.parametrize(("method", "stage"), STAGES)
def test_every_method_resumes_as_if_it_had_never_stopped(tmp_path: Path, method: str, stage: str) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "in parts, ü"
    summary = pretrain(small_pretraining(whole, method, stage=stage, max_steps=5))
    assert summary.final["step"] == 5
    interrupted(parts, 3, method=method, stage=stage, max_steps=5)
    pretrain(small_pretraining(parts, method, stage=stage, max_steps=5, resume_from_checkpoint="latest"))
    assert run_files(parts) == run_files(whole)


@pytest.mark.parametrize("stop", [1, 9, 10, 15])
def test_resuming_is_exact_wherever_the_run_stopped(tmp_path: Path, whole_run: Path, stop: int) -> None:
    """After the first step, before, at and after the end of the first epoch (10 steps)."""
    interrupted(tmp_path, stop, max_steps=16)
    pretrain(small_pretraining(tmp_path, max_steps=16, resume_from_checkpoint="latest"))
    assert run_files(tmp_path) == run_files(whole_run)


def test_a_finished_run_that_is_resumed_stays_as_it_is(tmp_path: Path) -> None:
    pretrain(small_pretraining(tmp_path))
    before = run_files(tmp_path)
    pretrain(small_pretraining(tmp_path, resume_from_checkpoint="latest"))
    assert run_files(tmp_path) == before


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(tmp_path: Path, whole_run: Path, workers: int) -> None:
    pretrain(small_pretraining(tmp_path, max_steps=16, num_workers=workers))
    assert run_files(tmp_path) == run_files(whole_run)


def test_dropout_is_resumed_exactly_too(tmp_path: Path) -> None:
    noisy = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "drop_path_rate": 0.2}
    text = small_pretraining(tmp_path).config_overrides + "".join(f",{key}={value}" for key, value in noisy.items())
    pretrain(small_pretraining(tmp_path / "whole", config_overrides=text))
    interrupted(tmp_path / "parts", 3, config_overrides=text)
    pretrain(
        small_pretraining(tmp_path / "parts", config_overrides=text, resume_from_checkpoint="latest", num_workers=1)
    )
    assert run_files(tmp_path / "parts") == run_files(tmp_path / "whole")
    assert run_files(tmp_path / "parts")["train_log.jsonl"] != b""


def test_accumulated_gradients_are_those_of_the_large_batch(tmp_path: Path, whole_run: Path) -> None:
    pretrain(small_pretraining(tmp_path, max_steps=16, per_device_batch_size=1, gradient_accumulation_steps=4))
    for ours, expected in zip(
        read_log(tmp_path / "train_log.jsonl"), read_log(whole_run / "train_log.jsonl"), strict=True
    ):
        assert ours["loss"] == pytest.approx(expected["loss"], abs=1e-6)
        assert ours["grad_norm"] == pytest.approx(expected["grad_norm"], abs=1e-5)


def test_the_outputs_are_those_that_are_promised(whole_run: Path) -> None:
    from transformers import AutoFeatureExtractor, AutoModelForPreTraining

    model, loading = AutoModelForPreTraining.from_pretrained(whole_run, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert AutoFeatureExtractor.from_pretrained(whole_run).seq_len == model.config.seq_len
    rows = read_log(whole_run / "train_log.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 17))
    assert all({"step", "loss", "lr", "epoch", "grad_norm"} <= set(row) for row in rows)
    assert json.loads((whole_run / "run.json").read_text())["dataset"]["fingerprint"]
    assert [path.name for path in list_checkpoints(whole_run / "checkpoints")] == ["step-16", "step-14", "step-12"]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": 1}, "seed"),
        ({"max_steps": 9}, "total_steps"),
        ({"recipe_overrides": "weight_decay=0.5"}, "weight_decay"),
        ({"dataset_options": "num_records=61"}, "data"),
        ({"per_device_batch_size": 2}, "global_batch_size"),
        ({"method": "mtae"}, "method"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, changes: dict, key: str) -> None:
    interrupted(tmp_path, 2)
    if "method" in changes:
        changes = {**changes, "config_overrides": small_pretraining(tmp_path, **changes).config_overrides}
    with pytest.raises(UsageError, match=rf"belongs to another run.*{key}"):
        pretrain(small_pretraining(tmp_path, resume_from_checkpoint="latest", **changes))


def test_the_length_may_change_when_it_is_meant(tmp_path: Path) -> None:
    interrupted(tmp_path, 2)
    summary = pretrain(small_pretraining(tmp_path, resume_from_checkpoint="latest", max_steps=10, new_schedule=True))
    assert summary.final["step"] == 10


def test_a_damaged_checkpoint_is_passed_over_and_the_result_is_the_same(
    tmp_path: Path, whole_run: Path, caplog
) -> None:
    interrupted(tmp_path, 6, max_steps=16)
    weights = tmp_path / "checkpoints" / "step-6" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    pretrain(small_pretraining(tmp_path, max_steps=16, resume_from_checkpoint="latest"))
    assert "step-6" in caplog.text
    assert run_files(tmp_path) == run_files(whole_run)


def test_a_folder_with_a_run_is_not_written_over(tmp_path: Path) -> None:
    interrupted(tmp_path, 2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="already holds a run"):
        pretrain(small_pretraining(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def wait_for(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def steps_logged(folder: Path) -> int:
    path = folder / "train_log.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143)])
def test_a_signal_saves_and_leaves_with_its_code(tmp_path: Path, number: signal.Signals, code: int) -> None:
    pid = in_child(
        lambda: pretrain(small_pretraining(tmp_path / "run", max_steps=2000, save_steps=1000)), tmp_path / "log"
    )
    wait_for(lambda: steps_logged(tmp_path / "run") >= 2)
    os.kill(pid, number)
    assert exit_code(pid) == code
    (newest,) = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert verify(newest).step == steps_logged(tmp_path / "run")
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_nothing(tmp_path: Path, whole_run: Path) -> None:
    """The short form of the storm; `make soak` runs the long one."""
    delays = [0.9, 0.05, 0.4, 1.3, 0.2]
    run, log = tmp_path / "run", tmp_path / "log"
    for delay in delays:
        args = small_pretraining(run, max_steps=16, save_steps=1, resume_from_checkpoint="latest")
        pid = in_child(lambda args=args: pretrain(args), log)
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        exit_code(pid)
    pretrain(small_pretraining(run, max_steps=16, save_steps=1, resume_from_checkpoint="latest"))
    assert run_files(run) == run_files(whole_run)


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    pid = in_child(lambda: pretrain(small_pretraining(run, max_steps=2000)), tmp_path / "log")
    wait_for(lambda: (run / ".lock").exists() and (run / ".lock").stat().st_size > 0)
    with pytest.raises(OutputInUseError, match=f"pid {pid} on "):
        pretrain(small_pretraining(run, resume_from_checkpoint="latest"))
    assert OutputInUseError.exit_code == 6
    os.kill(pid, signal.SIGKILL)
    exit_code(pid)


def test_a_file_size_limit_stops_the_run_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    interrupted(run, 2)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        pretrain(small_pretraining(run, resume_from_checkpoint="latest"))

    assert exit_code(in_child(limited, tmp_path / "log")) == CheckpointWriteError.exit_code == 5
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["step-2"]
    assert verify(run / "checkpoints" / "step-2").step == 2
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_loss_that_is_not_finite_stops_with_the_state_and_the_records(tmp_path: Path, monkeypatch) -> None:
    original = CropView.sample

    def poisoned(self, prepared, patient_key, generator):
        sample = original(self, prepared, patient_key, generator)
        if patient_key == poison:
            sample["input_values"] = sample["input_values"] * float("inf")
        return sample

    split = load_split(small_pretraining(tmp_path), "train")
    poison = split.patient_keys()[7]
    monkeypatch.setattr(CropView, "sample", poisoned)
    with pytest.raises(NonFiniteError, match=split.record_ids[7]) as caught:
        pretrain(small_pretraining(tmp_path / "run", max_steps=20))
    assert caught.value.exit_code == 4
    (saved,) = list_checkpoints(tmp_path / "run" / "crash")
    state = verify(saved).json()
    assert state["crash"]["blamed_records"] == [split.record_ids[7]]
    assert state["step"] == state["crash"]["failed_step"] - 1


@pytest.mark.parametrize("method", WITH_BATCH_NORM)
def test_the_state_of_a_failed_step_is_the_one_before_it(tmp_path: Path, monkeypatch, method: str) -> None:
    """Running statistics and momentum encoders have moved by then; the third of five batches is the bad one."""
    from ecg_transformers.training import loop

    interrupted(tmp_path / "whole", 2, method=method, max_steps=5)
    original = loop.next_batch

    def poisoned(run, batches, micro_batch):
        batch = original(run, batches, micro_batch)
        bad = float("inf") if micro_batch.step == 2 else 1.0
        return {key: value * bad if value.is_floating_point() else value for key, value in batch.items()}

    monkeypatch.setattr(loop, "next_batch", poisoned)
    with pytest.raises(NonFiniteError):
        pretrain(small_pretraining(tmp_path / "run", method, max_steps=5))
    expected = verify(tmp_path / "whole" / "checkpoints" / "step-2").path / "model.safetensors"
    saved = verify(tmp_path / "run" / "crash" / "step-2").path / "model.safetensors"
    assert saved.read_bytes() == expected.read_bytes()


def test_a_batch_with_nothing_to_predict_is_named(tmp_path: Path, monkeypatch) -> None:
    from ecg_transformers.training import loop

    monkeypatch.setattr(loop, "loss_count", lambda outputs, micro_batch: 0.0)
    with pytest.raises(UsageError, match=r"loss of step 1 is over nothing.*records: "):
        pretrain(small_pretraining(tmp_path))


def test_a_run_that_goes_on_from_an_older_step_keeps_nothing_of_the_newer_ones(tmp_path: Path) -> None:
    pretrain(small_pretraining(tmp_path))
    older = tmp_path / "checkpoints" / "step-4"
    changes = {"max_steps": 12, "new_schedule": True}
    interrupted(tmp_path, 5, resume_from_checkpoint=str(older), **changes)
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["step-5", "step-4"]
    pretrain(small_pretraining(tmp_path, resume_from_checkpoint="latest", max_steps=12))
    assert [row["step"] for row in read_log(tmp_path / "train_log.jsonl")] == list(range(1, 13))


def test_the_start_says_how_long_the_run_is(tmp_path: Path, capsys) -> None:
    args = small_pretraining(tmp_path, max_steps=1)
    pretrain(args)
    first, last = capsys.readouterr().err.split("step 1/1")
    assert f"training takes 1 step of {args.per_device_batch_size} records, " in first
    assert "s left" in last


def test_divided_batches_are_warned_of_at_the_start(tmp_path: Path, capsys) -> None:
    pretrain(small_pretraining(tmp_path, WITH_BATCH_NORM[0], max_steps=1, gradient_accumulation_steps=2))
    assert "depends on all records of a forward pass together" in capsys.readouterr().err


def test_the_help_names_the_command_that_lists_the_methods() -> None:
    from ecg_transformers.training.arguments import PretrainingArguments

    assert "`ecg-transformers methods`" in PretrainingArguments.__dataclass_fields__["method"].metadata["help"]


WRONG = {
    "no such method": ({"method": "st_men"}, "did you mean 'st_mem'"),
    "no such corpus": ({"dataset": "ptb_xxl"}, "ptb_xl"),
    "no folder": ({"dataset": "ptb_xl", "data_dir": "/nowhere/at/all", "dataset_options": ""}, "/nowhere/at/all"),
    "unknown field": ({"config_overrides": "hiden_size=4"}, "did you mean 'hidden_size'"),
    "impossible value": ({"config_overrides": "hidden_size=banana"}, "hidden_size"),
    "unknown recipe": ({"recipe": "published2"}, "published"),
    "no key=value": ({"config_overrides": "hidden_size"}, "key=value"),
    "batch too large": ({"per_device_batch_size": 5000}, "holds only"),
    "wrong stage": ({"stage": "masked"}, "no stage 'masked'"),
    "negative steps": ({"max_steps": -1}, "positive"),
    "seed too large": ({"seed": 2**32}, "seed"),
    "supervised": ({"method": "ecg_vit"}, "supervised"),
    "record too short": ({"config_overrides": "seq_len=75000"}, "seq_len"),
    "no checkpoint": ({"resume_from_checkpoint": "/nowhere/step-3"}, "step-3"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_get_one_sentence_and_leave_nothing(tmp_path: Path, capsys, case: str) -> None:
    from ecg_transformers.training.errors import run_command

    changes, expected = WRONG[case]
    if "method" in changes:
        changes = {"config_overrides": "", **changes}
        small = small_pretraining(tmp_path / "out", **{**changes, "method": "st_mem"})
        small.method = changes["method"]
    else:
        small = small_pretraining(tmp_path / "out", **changes)
    assert run_command(lambda: pretrain(small)) == 2
    _, _, message = capsys.readouterr().err.partition("error: ")
    assert expected in message
    assert "error: " not in message
    assert not (tmp_path / "out").exists()
