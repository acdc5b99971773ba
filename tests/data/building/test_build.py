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


def test_shards_together_are_the_corpus(tmp_path):
    import pyarrow.parquet as pq

    ids = set()
    for index in range(3):
        report = build_corpus("synthetic", None, tmp_path / "out", shard=(index, 3), num_records=20)
        assert report.read in (6, 7, 8)
        for path in (tmp_path / "out" / f"part-{index:05d}-of-00003").glob("*.parquet"):
            found = pq.read_table(path, columns=["record_id"])["record_id"].to_pylist()
            assert not ids & set(found)
            ids |= set(found)
    assert len(ids) == 20
    with pytest.raises(OptionError, match="0 to 2"):
        build_corpus("synthetic", None, tmp_path / "out", shard=(3, 3), num_records=20)


def test_large_builds_are_cut_into_files(tmp_path):
    build_corpus("synthetic", None, tmp_path / "out", num_records=300, max_shard_size="3MB")
    files = sorted(path.name for path in (tmp_path / "out").glob("synthetic-train-*.parquet"))
    assert len(files) >= 2
    assert files[0].endswith(f"-of-{len(files):05d}.parquet")


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
