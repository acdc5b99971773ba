"""Files that are whole or not there."""

import os

import pytest

from ecg_transformers import files


def test_a_file_keeps_its_old_content_when_writing_fails(tmp_path):
    path = tmp_path / "figures.json"
    files.write_json(path, {"b": 1, "a": "µV"})
    before = path.read_text(encoding="utf-8")
    with pytest.raises(RuntimeError), files.replacing(path) as beside:  # noqa: PT012
        beside.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == before == '{\n  "a": "µV",\n  "b": 1\n}\n'
    assert os.listdir(tmp_path) == ["figures.json"]


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
