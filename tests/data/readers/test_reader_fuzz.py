"""Damaged and hostile files: every reader gives a record or an `ECGDataError`, in bounded time and memory.

The cases are those of `tests/soak/readers.py` (`make soak` runs thousands of each reader); any bytes as header or
annotations come from hypothesis.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.readers import read_record
from ecg_transformers.data.readers.wfdb.annotations import parse_annotations
from ecg_transformers.data.readers.wfdb.header import parse_header

SOAK = Path(__file__).resolve().parents[2] / "soak"
HOSPITAL = ("dicom", "aecg", "philips", "muse", "scp", "ishne", "bdf")
READERS = ("wfdb", "mat", "numpy", "csv", "edf", *HOSPITAL)
BOMBS = ("dicom", "scp", "edf", "philips", "muse", "aecg", "xml", "npz", "mat")
CASES = 200
bounded = settings(max_examples=120, deadline=None, derandomize=True)


@pytest.fixture
def soak(monkeypatch) -> Iterator:
    """The soak script as a module."""
    monkeypatch.syspath_prepend(str(SOAK))
    import readers

    yield readers
    del sys.modules["readers"]


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_give_a_record_or_a_sentence(name, soak, tmp_path, capfd):
    if name in HOSPITAL:
        pytest.importorskip("pydicom", reason="hospital formats need the extra [clinical]")
    if name == "edf":
        pytest.importorskip("edfio", reason="EDF needs the extra [edf]")
    assert set(READERS) == set(soak.READERS)
    (tmp_path / "warm").mkdir()
    soak.complaint(*soak.make_case(name, 1, 0, tmp_path / "warm"))  # imports are no growth
    passed = soak.in_bounds(lambda: soak.soak(name, CASES, 1, 0, tmp_path))
    assert passed, capfd.readouterr().out


@pytest.mark.parametrize("kind", BOMBS)
def test_what_a_file_claims_repeats_or_expands_to_is_bounded(kind, soak, hospital, tmp_path, capfd):
    """Read or refused in a sentence, in a child process that may grow by 256 MB, within a second of its CPU."""
    import hospital_bombs

    assert {name.partition("_")[0] for name in hospital_bombs.BOMBS} == set(BOMBS)
    for name, make in hospital_bombs.BOMBS.items():
        if not name.startswith(kind):
            continue
        (path := tmp_path / name).write_bytes(content := make())
        assert len(content) < 5 * 2**20

        def is_bounded(path: Path = path) -> bool:
            outcome, wrong = soak.complaint(path, hospital_bombs.HINTS.get(path.name, {}))
            print(path.name, outcome, wrong)
            return not wrong

        assert soak.in_bounds(is_bounded), capfd.readouterr().out


def test_a_case_is_the_same_every_time(soak, tmp_path):
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        path, hints = soak.make_case("csv", 0, 7, folder)
        contents.append((path.name, path.read_bytes(), hints))
    assert contents[0] == contents[1]


def test_what_is_no_sentence_is_noticed(soak, tmp_path, monkeypatch):
    (tmp_path / "r.csv").write_text("x")
    for error in (KeyError("'I'"), MemoryError(), ECGDataError("bad"), ECGDataError("no file is named in this one")):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr("ecg_transformers.data.readers.read_record", fail)
        assert soak.complaint(tmp_path / "r.csv", {})[0] == "FAIL"


@bounded
@given(st.binary(max_size=400))
def test_any_bytes_as_wfdb_header(content):
    try:
        header = parse_header(content, Path("x.hea"))
    except ECGDataError:
        return
    assert len(header.signals) <= 64


@bounded
@given(st.binary(max_size=400))
def test_any_bytes_as_annotations(content):
    try:
        marks = parse_annotations(content, Path("x.atr"))
    except ECGDataError:
        return
    assert len(marks.samples) == len(marks.symbols) == len(marks.notes)
    assert (marks.samples >= 0).all()


@pytest.mark.parametrize("suffix", [".hea", ".mat", ".npy", ".npz", ".csv", ".edf"])
def test_empty_files_folders_and_pipes(tmp_path, suffix):
    (tmp_path / f"empty{suffix}").write_bytes(b"")
    (tmp_path / f"folder{suffix}").mkdir()
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"loop{suffix}").symlink_to(tmp_path / f"loop{suffix}")
    for name in ("empty", "folder", "pipe", "loop"):
        with pytest.raises(ECGDataError):
            read_record(tmp_path / f"{name}{suffix}", sampling_rate=100.0, lead_names=["I", "II", "V1"], units="uV")
