"""Files that are whole or not there."""

import errno
import os
import resource
import signal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecg_transformers import files
from tests.support.builds import ended, forked


def test_a_file_keeps_its_old_content_when_writing_fails(tmp_path):
    path = tmp_path / "figures.json"
    files.write_json(path, {"b": 1, "a": "µV"})
    before = path.read_text(encoding="utf-8")
    with pytest.raises(RuntimeError), files.replacing(path) as beside:  # noqa: PT012
        beside.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == before == '{\n  "a": "µV",\n  "b": 1\n}\n'
    assert os.listdir(tmp_path) == ["figures.json"]


@pytest.mark.parametrize("named", [False, True])
def test_an_error_of_the_system_names_the_file_that_was_meant(named, tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, files.replacing(tmp_path / "figure.png") as beside:
        raise OSError(errno.ENOSPC, "No space left on device", *([str(beside)] if named else []))
    assert caught.value.filename == str(tmp_path / "figure.png")


def test_the_free_path_has_the_ending_of_the_file(tmp_path):
    with files.replacing(tmp_path / "figure.png") as beside:
        assert (beside.parent, beside.suffix) == (tmp_path, ".png")
        beside.write_bytes(b"x")
    assert os.listdir(tmp_path) == ["figure.png"]


def test_content_and_name_are_flushed_before_and_after_the_rename(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, name=name, real=real: (done.append(name), real(*given))[1])
    files.write_text(tmp_path / "card.md", "text")
    assert done == ["fsync", "replace", "fsync"]


def test_parquet_on_a_full_disk_is_an_error_that_can_be_caught(tmp_path):
    """Arrow's writer would end the process; the limit on the size of files stands for the disk."""
    table = pa.table({"x": np.random.default_rng(0).random(400_000)})

    def write() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
        path = tmp_path / "table.parquet"
        told = pytest.raises(OSError, match=r"File too large: .*table\.parquet")
        with told, files.replacing(path) as beside, files.QuietFile(beside) as file:
            pq.write_table(table, file)

    assert ended(forked(write)) == 0
    assert os.listdir(tmp_path) == []
    with files.replacing(tmp_path / "table.parquet") as beside, files.QuietFile(beside) as file:
        pq.write_table(table, file)
    assert pq.read_table(tmp_path / "table.parquet").equals(table)


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(tmp_path):
    (tmp_path / ".saving-1-killed").mkdir()
    with files.temporary_folder(tmp_path) as first, files.temporary_folder(tmp_path) as second:
        assert sorted(tmp_path.iterdir()) == sorted([first, second])
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_is_gone_unless_it_was_renamed(tmp_path):
    with files.temporary_folder(tmp_path / "out") as folder:
        (folder / "model").write_text("x")
        os.rename(folder, tmp_path / "out" / "complete")
    with pytest.raises(RuntimeError), files.temporary_folder(tmp_path / "out"):
        raise RuntimeError
    assert os.listdir(tmp_path / "out") == ["complete"]


def test_the_hash_is_that_of_the_content(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
