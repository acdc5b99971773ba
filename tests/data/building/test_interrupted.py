"""Builds that do not run through: killed, on a full disk, two at once. What is finished is whole, kept, and not read again."""

import os
import resource
import signal
import time

import fsspec
import pytest
from support.builds import build_and_log, ended, finished_records, forked, kill_at

from ecg_transformers.data.building.build import build_corpus
from ecg_transformers.data.building.shards import FACTS
from ecg_transformers.data.building.store import Store
from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.fingerprint import dataset_fingerprint
from ecg_transformers.data.loading import load_ecg_dataset

OPTIONS = {"num_records": 100, "duration": 2.0}


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "out"
    build_corpus("synthetic", None, folder, **OPTIONS)
    return files_of(folder)


@pytest.mark.parametrize("record", [1, 17, 40, 100])
def test_a_killed_build_goes_on_and_reads_no_finished_record_twice(record, tmp_path, whole):
    out = tmp_path / "out"
    assert ended(forked(lambda: build_and_log(out, tmp_path / "first", kill_at(record), **OPTIONS))) == -signal.SIGKILL
    finished = finished_records(out)
    assert record - 17 <= len(finished) <= record - 1  # a shard has at most 16
    assert ended(forked(lambda: build_and_log(out, tmp_path / "second", **OPTIONS))) == 0
    second = (tmp_path / "second").read_text().split()
    assert not finished & set(second)
    assert len(second) == len(set(second)) == 100 - len(finished)
    assert files_of(out) == whole
    assert not (out / FACTS).exists()


def test_several_processes_killed_together_leave_no_orphan_and_go_on(tmp_path, whole):
    out, log = tmp_path / "out", tmp_path / "first"
    pid = forked(lambda: build_and_log(out, log, lambda count: time.sleep(0.02), num_proc=2, **OPTIONS))
    deadline = time.monotonic() + 60
    while not finished_records(out) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL
    size = -1
    while log.stat().st_size != size:  # the workers end with their parent
        size = log.stat().st_size
        time.sleep(0.2)
    finished = finished_records(out)
    assert 0 < len(finished) < 100
    assert ended(forked(lambda: build_and_log(out, tmp_path / "second", num_proc=2, **OPTIONS))) == 0
    assert not finished & set((tmp_path / "second").read_text().split())
    assert files_of(out) == whole


def test_a_killed_build_of_the_cache_goes_on_too(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "support.builds.build_corpus", lambda *given, **options: load_ecg_dataset("synthetic", **options)
    )
    options = {**OPTIONS, "cache_dir": tmp_path / "cache"}
    assert ended(forked(lambda: build_and_log(tmp_path, tmp_path / "first", kill_at(40), **options))) == -signal.SIGKILL
    assert not [path for path in tmp_path.glob("cache/synthetic/*") if not path.name.startswith(".")]
    assert ended(forked(lambda: build_and_log(tmp_path, tmp_path / "second", **options))) == 0
    assert 100 - 32 <= len((tmp_path / "second").read_text().split()) < 100
    fresh = load_ecg_dataset("synthetic", **OPTIONS, cache_dir=tmp_path / "fresh")
    assert dataset_fingerprint(load_ecg_dataset("synthetic", **options)) == dataset_fingerprint(fresh)
    assert [path.name for path in tmp_path.glob("cache/synthetic/.*")] == []


def test_a_full_disk_is_a_sentence_and_the_finished_shards_are_kept(tmp_path, whole):
    out, largest = tmp_path / "out", max(map(len, whole.values()))

    def on_a_full_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, largest - 1))
        try:
            build_corpus("synthetic", None, out, **OPTIONS)
        except ECGDataError as error:
            (tmp_path / "said").write_text(str(error))
            raise SystemExit from None

    ended(forked(on_a_full_disk))
    assert (
        "could not be written (File too large); the finished shards are whole and kept"
        in (tmp_path / "said").read_text()
    )
    there = files_of(out)
    assert all(content == whole[name] for name, content in there.items())
    assert [path.name for path in out.iterdir() if path.name not in {FACTS, *there}] == []
    build_corpus("synthetic", None, out, **OPTIONS)
    assert files_of(out) == whole


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ECGDataError, match=r"cannot be written here \(.*\); give another folder"):
        build_corpus("synthetic", None, tmp_path / "file" / "out", **OPTIONS)
    with pytest.raises(ECGDataError, match=r"cannot be written here \(.*\); pass cache_dir"):
        load_ecg_dataset("synthetic", **OPTIONS, cache_dir=tmp_path / "file")


@pytest.mark.parametrize(("first", "others"), [(None, [None, (0, 2)]), ((0, 2), [None, (0, 2), (1, 3)])])
def test_of_two_builds_into_one_folder_the_second_is_told_who_is_there(tmp_path, whole, first, others):
    out, options = tmp_path / "out", {**OPTIONS, "shard": first}
    pid = forked(lambda: build_and_log(out, tmp_path / "log", lambda count: time.sleep(0.02), **options))
    while not (tmp_path / "log").exists():
        time.sleep(0.02)
    for shard in others:
        with pytest.raises(ECGDataError, match=rf"another build writes here \(pid {pid} on .*; wait for it"):
            build_corpus("synthetic", None, out, **OPTIONS, shard=shard)
    if first is not None:
        build_corpus("synthetic", None, out, **OPTIONS, shard=(1, 2))
    assert ended(pid) == 0
    assert files_of(out) == whole


def test_of_two_that_load_one_corpus_one_builds_and_the_other_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "support.builds.build_corpus", lambda *given, **options: load_ecg_dataset("synthetic", **options)
    )
    options = {**OPTIONS, "cache_dir": tmp_path / "cache"}
    pids = [
        forked(lambda: build_and_log(tmp_path, tmp_path / "log", lambda count: time.sleep(0.005), **options))
        for _ in "ab"
    ]
    assert [ended(pid) for pid in pids] == [0, 0]
    assert len((tmp_path / "log").read_text().split()) == 100


def test_records_that_change_between_two_runs_are_read_again(tmp_path, write_wfdb, digital_ecg):
    folder, out = tmp_path / "records", tmp_path / "out"
    for number in range(40):
        write_wfdb(folder, f"r{number:02d}", digital_ecg(0, duration=2.0))
    build_corpus("folder", folder, out, shard=(0, 2))
    before = files_of(out)
    write_wfdb(folder, "r00", digital_ecg(1, duration=2.0))
    build_corpus("folder", folder, out, shard=(0, 2))
    after = files_of(out)
    assert [name for name in before if before[name] != after[name]] == ["folder-train-00000-of-00003.parquet"]


def test_a_damaged_shard_is_built_again(tmp_path, whole):
    out = tmp_path / "out"
    build_corpus("synthetic", None, out, shard=(0, 2), **OPTIONS)
    damaged = next(out.glob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    report = build_corpus("synthetic", None, out, shard=(1, 2), **OPTIONS)
    assert "shards of the build are there" in report.notes[-1]
    build_corpus("synthetic", None, out, shard=(0, 2), **OPTIONS)
    assert files_of(out) == whole


def test_an_address_takes_the_same_bytes_and_goes_on_too(whole):
    address = "memory://prepared/synthetic"
    store = Store(address)
    build_corpus("synthetic", None, address, shard=(0, 2), **OPTIONS)
    build_corpus("synthetic", None, address, **OPTIONS)
    names = [name for name in store.sizes() if name.endswith(".parquet")]
    memory = fsspec.filesystem("memory")
    assert {name: memory.cat_file(store.url(name)) for name in names} == whole
    assert store.sizes(FACTS) == {}
    with pytest.raises(ECGDataError, match="memory of one process"):
        build_corpus("synthetic", None, "memory://other", num_proc=2, **OPTIONS)
