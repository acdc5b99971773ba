"""Annotation files: the same marks that wfdb reads, and errors for damaged files."""

import numpy as np
import pytest

from ecg_transformers.data.errors import AnnotationError, RecordNotFoundError
from ecg_transformers.data.readers.wfdb.annotations import parse_annotations, read_annotations


@pytest.mark.parametrize("pattern", ["mitdb/*.atr", "ludb/data/1*.v2", "odd/no-signal-file/*.apn"])
def test_real_annotations_are_those_that_wfdb_reads(ecg_data_dir, pattern):
    import wfdb

    paths = sorted(ecg_data_dir.glob(pattern))[:8]
    assert paths
    for path in paths:
        ours, theirs = read_annotations(path), wfdb.rdann(str(path.with_suffix("")), path.suffix[1:])
        np.testing.assert_array_equal(ours.samples, theirs.sample)
        assert ours.symbols.tolist() == theirs.symbol
        assert ours.notes == [note.split("\0")[0] for note in theirs.aux_note]


def test_long_gaps_notes_and_every_symbol_survive(tmp_path):
    import wfdb

    samples = np.array([10, 1033, 1034, 70000, 5_000_000, 5_000_001])
    wfdb.wrann(
        "r",
        "atr",
        samples,
        ["N", "V", "+", "A", "/", "~"],
        aux_note=["", "", "(AFIB", "", "", "ab"],
        fs=100,
        write_dir=str(tmp_path),
    )
    marks = read_annotations(tmp_path / "r.atr")
    assert marks.samples.tolist() == samples.tolist()
    assert "".join(marks.symbols) == "NV+A/~"
    assert marks.notes[2] == "(AFIB"


@pytest.mark.parametrize("cut", [1, 2, 3, 100, 101])
def test_a_truncated_file_is_noticed(ecg_data_dir, cut):
    content = (ecg_data_dir / "mitdb" / "100.atr").read_bytes()
    with pytest.raises(AnnotationError, match="ends in the middle"):
        parse_annotations(content[:-cut], ecg_data_dir)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecordNotFoundError, match=r"r\.atr"):
        read_annotations(tmp_path / "r.atr")
