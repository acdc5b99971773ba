"""Training that reads a prepared corpus from its shards: exact resume, and the same on any number of processes."""

from pathlib import Path

import pytest
from support.small_runs import on_two, run_files, small_pretraining

from ecg_transformers.data.building.build import build_corpus
from ecg_transformers.training.errors import Interrupted, UsageError
from ecg_transformers.training.pretraining import pretrain
from ecg_transformers.training.report.log import read_log


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "a, b"
    build_corpus("synthetic", None, folder, num_records=60, records_per_shard=8)
    return folder


def streamed(folder: Path, prepared: Path, **changes):
    return small_pretraining(folder, dataset=str(prepared), dataset_options="", streaming=True, **changes)


def test_a_streamed_run_resumes_as_if_it_had_never_stopped(prepared: Path, tmp_path: Path) -> None:
    summary = pretrain(streamed(tmp_path / "whole", prepared, max_steps=12))
    assert summary.dataset["records"] == 43
    with pytest.raises(Interrupted):
        pretrain(streamed(tmp_path / "parts", prepared, max_steps=12, stop_after_step=7))
    pretrain(streamed(tmp_path / "parts", prepared, max_steps=12, resume_from_checkpoint="latest", num_workers=2))
    assert run_files(tmp_path / "parts") == run_files(tmp_path / "whole")


def test_a_prepared_corpus_trains_unpacked_too(prepared: Path, tmp_path: Path) -> None:
    summary = pretrain(small_pretraining(tmp_path / "run", dataset=str(prepared), dataset_options="", max_steps=2))
    direct = pretrain(small_pretraining(tmp_path / "direct", max_steps=2))
    assert summary.dataset["fingerprint"] == direct.dataset["fingerprint"]
    assert summary.final["loss"] == direct.final["loss"]


def test_only_prepared_corpora_are_streamed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reads one prepared corpus"):
        pretrain(small_pretraining(tmp_path / "run", streaming=True))


def test_two_processes_stream_what_one_streams(prepared: Path, tmp_path: Path) -> None:
    steps = {"max_steps": 6, "save_steps": 6}
    pretrain(streamed(tmp_path / "1", prepared, per_device_batch_size=8, **steps))
    args = streamed(tmp_path / "2", prepared, per_device_batch_size=4, **steps)
    on_two(lambda: pretrain(args), tmp_path / "log")
    one, two = (read_log(tmp_path / name / "train_log.jsonl") for name in ("1", "2"))
    assert [row["loss"] for row in one] == pytest.approx([row["loss"] for row in two], abs=1e-6)
