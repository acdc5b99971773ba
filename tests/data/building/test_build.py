"""Builds: whole or absent, counted, in parquet that others can read."""

import json
import os
import signal
import time

import pytest

from ecg_transformers.data.building.build import BuildReport, build_corpus
from ecg_transformers.data.cache import cache_root
from ecg_transformers.data.errors import ECGDataError, OptionError, SkippedRecordsError
from ecg_transformers.data.loading import load_ecg_dataset


def test_parquet_files_are_readable_without_this_package(mini_ptb_xl, tmp_path):
    import datasets

    report = build_corpus("ptb_xl", mini_ptb_xl, tmp_path / "out", task="superclass", drop_unlabelled=False)
    assert report.records == {"train": 16, "validation": 2, "test": 2}
    stored = datasets.load_dataset(
        "parquet", data_files={"test": str(tmp_path / "out" / "ptb_xl-test*.parquet")}, cache_dir=str(tmp_path / "hf")
    )
    expected = load_ecg_dataset(
        "ptb_xl", mini_ptb_xl, split="test", task="superclass", drop_unlabelled=False, cache_dir=tmp_path / "c"
    )
    assert stored["test"][0] == expected[0]
    assert stored["test"].features == expected.features
    assert json.loads((tmp_path / "out" / "build_report.json").read_text())["corpus"] == "ptb_xl"
    assert BuildReport.load(tmp_path / "out").records == report.records


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def test_parts_together_are_the_whole_build_byte_for_byte(tmp_path):
    whole = build_corpus("synthetic", None, tmp_path / "whole", num_records=60)
    last = [build_corpus("synthetic", None, tmp_path / "out", shard=(index, 3), num_records=60) for index in (2, 0, 1)][
        -1
    ]
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    assert len(files_of(tmp_path / "whole")) == 5
    assert {**vars(last), "path": ""} == {**vars(whole), "path": ""}
    with pytest.raises(OptionError, match="0 to 2"):
        build_corpus("synthetic", None, tmp_path / "out", shard=(3, 3), num_records=60)


def test_a_part_alone_says_how_much_of_the_build_is_there(tmp_path):
    report = build_corpus("synthetic", None, tmp_path / "out", shard=(0, 2), num_records=60)
    assert report.notes[-1] == "part 0 of 2; 3 of 5 shards of the build are there"
    assert 0 < report.read < 60
    with pytest.raises(ECGDataError, match="no build report"):
        BuildReport.load(tmp_path / "out")


@pytest.mark.parametrize("num_proc", [2, 4])
def test_any_number_of_processes_writes_the_same_bytes(num_proc, tmp_path):
    build_corpus("synthetic", None, tmp_path / "one", num_records=60)
    build_corpus("synthetic", None, tmp_path / "many", num_records=60, num_proc=num_proc)
    assert files_of(tmp_path / "many") == files_of(tmp_path / "one")


def test_large_builds_are_cut_into_files(tmp_path):
    build_corpus("synthetic", None, tmp_path / "out", num_records=100, records_per_shard=30)
    files = sorted(path.name for path in (tmp_path / "out").glob("synthetic-train-*.parquet"))
    assert files == [f"synthetic-train-{number:05d}-of-00003.parquet" for number in range(3)]


def test_a_finished_build_is_not_made_again_and_not_mixed_with_another(tmp_path):
    build_corpus("synthetic", None, tmp_path / "out", num_records=20)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = build_corpus("synthetic", None, tmp_path / "out", num_records=20)
    assert again.read == 20
    with pytest.raises(ECGDataError, match="not empty: it holds a build that differs in its options"):
        build_corpus("synthetic", None, tmp_path / "out", num_records=20, seed=1)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == stamps


def test_an_output_folder_in_use_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ECGDataError, match="not empty"):
        build_corpus("synthetic", None, tmp_path / "out", num_records=5)
    with pytest.raises(OptionError, match="output_dir"):
        build_corpus("synthetic")
    with pytest.raises(OptionError, match="share of 0 to 1"):
        load_ecg_dataset("synthetic", num_records=5, max_skipped=7)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_the_one_percent_rule(tmp_path, write_wfdb, digital_ecg):
    folder = tmp_path / "records"
    for number in range(100):
        write_wfdb(folder, f"r{number:03d}", digital_ecg(0, duration=2.0))
    (folder / "r007.dat").unlink()
    assert len(load_ecg_dataset("folder", folder, split="train", cache_dir=tmp_path / "c")) == 99
    (folder / "r008.dat").unlink()
    with pytest.raises(
        SkippedRecordsError, match=r"2 of 100 records of 'folder' cannot be read, more than the 1% allowed"
    ):
        load_ecg_dataset("folder", folder, cache_dir=tmp_path / "c")


def _build_many(cache_dir):
    load_ecg_dataset("synthetic", num_records=20_000, cache_dir=cache_dir)


def test_a_killed_build_leaves_no_half_made_cache(tmp_path):
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=_build_many, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 200
    while not list(tmp_path.rglob("*.arrow")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list(tmp_path.rglob("*.arrow"))  # it was killed in the middle
    assert not [path for path in tmp_path.glob("synthetic/*") if not path.name.startswith(".")]
    assert len(load_ecg_dataset("synthetic", num_records=10, cache_dir=tmp_path)["train"]) == 7


def test_the_cache_has_a_place_even_without_a_home(tmp_path, monkeypatch):
    assert cache_root(tmp_path) == tmp_path
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path / "env"))
    assert cache_root() == tmp_path / "env"
    monkeypatch.delenv("ECG_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "ecg_transformers"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/proc/nowhere")
    assert "ecg_transformers" in cache_root().name
