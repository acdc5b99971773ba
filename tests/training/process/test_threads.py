"""The number of threads is part of a run: said at its start, kept in its checkpoints, given back at its end."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.small_runs import run_files, small_finetuning, small_pretraining

from ecg_transformers.training.checkpoints.folder import list_checkpoints
from ecg_transformers.training.errors import Interrupted, UsageError
from ecg_transformers.training.finetuning import finetune
from ecg_transformers.training.pretraining import pretrain


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What torch has where nothing else is said."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


def threads_of(folder: Path) -> int:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))["threads"]


def test_a_run_that_goes_on_has_the_threads_it_began_with(tmp_path: Path, capsys) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    pretrain(small_pretraining(whole, max_steps=4, threads=2))
    with pytest.raises(Interrupted):
        pretrain(small_pretraining(parts, max_steps=4, threads=2, stop_after_step=2))
    assert torch.get_num_threads() == 1
    capsys.readouterr()
    pretrain(small_pretraining(parts, max_steps=4, resume_from_checkpoint="latest"))
    assert "2 threads, as before" in capsys.readouterr().err
    assert threads_of(parts) == threads_of(whole) == 2
    assert run_files(parts) == run_files(whole)
    assert torch.get_num_threads() == 1


def test_the_command_line_overrules_the_checkpoint_and_says_so(tmp_path: Path, capsys) -> None:
    with pytest.raises(Interrupted):
        pretrain(small_pretraining(tmp_path, max_steps=4, threads=2, stop_after_step=2))
    pretrain(small_pretraining(tmp_path, max_steps=4, threads=1, resume_from_checkpoint="latest"))
    assert "1 thread (the run before had 2" in capsys.readouterr().err
    assert threads_of(tmp_path) == 1


def test_without_the_option_torch_keeps_what_it_has(tmp_path: Path, capsys) -> None:
    pretrain(small_pretraining(tmp_path, max_steps=2))
    assert "1 thread\n" in capsys.readouterr().err
    assert threads_of(tmp_path) == 1
    state = json.loads((list_checkpoints(tmp_path / "checkpoints")[0] / "trainer_state.json").read_text())
    assert state["threads"] == 1


@pytest.mark.parametrize("mode", ["finetune", "linear"])
def test_further_seeds_of_a_classifier_have_the_threads_of_the_first(tmp_path: Path, mode: str, capsys) -> None:
    pretrain(small_pretraining(tmp_path / "encoder", max_steps=2))
    arguments = {"mode": mode, "max_steps": 2, "seeds": "0,1"}
    finetune(small_finetuning(tmp_path / "out", tmp_path / "encoder", **arguments, threads=2))
    capsys.readouterr()
    finetune(small_finetuning(tmp_path / "out", tmp_path / "encoder", **arguments, resume_from_checkpoint="latest"))
    assert "2 threads, as before" in capsys.readouterr().err


@pytest.mark.parametrize(("policy", "said"), [("PASSIVE", "2 threads; they sleep"), ("active", "2 threads; they spin")])
def test_the_start_of_a_run_says_whether_threads_spin(tmp_path: Path, monkeypatch, capsys, policy, said) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    pretrain(small_pretraining(tmp_path, max_steps=1, threads=2))
    assert said in capsys.readouterr().err


def test_no_thread_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--threads must be positive, not 0"):
        pretrain(small_pretraining(tmp_path / "out", threads=0))
