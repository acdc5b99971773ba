"""Apnea-ECG in native layout, synthesised: labels per minute, the official split, the duplicate."""

import numpy as np
import pytest

from ecg_transformers.data.corpora.apnea_ecg import LEARNING, TEST, read_answers
from ecg_transformers.data.errors import OptionError, SkippedRecordsError
from ecg_transformers.data.loading import RecordTable, build_report, label_names, load_ecg_dataset, task_kind

MINUTES = 9
LABELS = "NNAAANAAN"


@pytest.fixture
def native(tmp_path, write_wfdb):
    import wfdb

    folder = tmp_path / "apnea"
    rng = np.random.default_rng(0)
    for record in ("a01", "a02", "b01", "c05", "c06", "x01", "x02"):
        samples = rng.integers(-200, 200, (MINUTES * 6000 + 1234, 1)).astype(np.int16)
        write_wfdb(folder, record, samples, gain=200, lead_names=["ECG"])
        if record != "x02":
            marks = np.arange(MINUTES) * 6000
            wfdb.wrann(record, "apn", marks, list(LABELS), write_dir=str(folder))
    (folder / "event-2-answers").write_text("x01\n\n 0 NNNNNNNNN\n\nx02\n 0 AAAA\n 1 NNNNN\n")
    return folder


def load(folder, **options):
    return load_ecg_dataset("apnea_ecg", folder, cache_dir=folder.parent / "cache", **options)


def test_the_official_lists_have_35_records_each():
    assert len(LEARNING) == len(TEST) == 35


def test_the_records_may_lie_some_levels_down_as_in_mirrors(native, tmp_path):
    nested = tmp_path / "mirror" / "physionet.org" / "files" / "apnea-ecg" / "1.0.0"
    nested.parent.mkdir(parents=True)
    here = {part: sorted(rows["record_id"]) for part, rows in load(native).items()}
    native.rename(nested)
    assert {part: sorted(rows["record_id"]) for part, rows in load(tmp_path / "mirror").items()} == here


def test_nights_carry_their_minutes_and_the_duplicate_is_left_out(native):
    corpus = load(native)
    assert {part: sorted(dataset["record_id"]) for part, dataset in corpus.items()} == {
        "train": ["a01", "a02", "c05"],
        "validation": ["b01"],
        "test": ["x01", "x02"],
    }
    assert (label_names(corpus), task_kind(corpus)) == (["apnea"], "minutes")
    record = RecordTable(corpus["train"]).record(0)
    assert record.annotations["minute_labels"].tolist() == [int(letter == "A") for letter in LABELS]
    assert build_report("apnea_ecg", native, cache_dir=native.parent / "cache").excluded == {
        "c06 is the same recording as c05": 1
    }


def test_a_kept_duplicate_is_one_patient_on_one_side(native):
    corpus = load(native, duplicates="keep", validation_records=["c05"])
    assert sorted(corpus["validation"]["record_id"]) == ["c05", "c06"]
    assert set(corpus["validation"]["patient_id"]) == {"c05"}


def test_test_labels_come_from_the_annotation_or_the_answers(native):
    table = RecordTable(load(native)["test"])
    by_id = {table.record_ids[n]: table.record(n).annotations["minute_labels"].tolist() for n in range(2)}
    assert by_id["x01"] == [int(letter == "A") for letter in LABELS]  # its own .apn wins
    assert by_id["x02"] == [1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert read_answers(native / "event-2-answers")["x01"].sum() == 0


def test_windows_are_labelled_by_their_middle_minute(native):
    corpus = load(native, window_minutes=3)
    assert task_kind(corpus) == "multilabel"
    whole = RecordTable(load(native)["train"]).record(0)
    table = RecordTable(corpus["train"])
    mine = [n for n, name in enumerate(table.record_ids) if name.startswith("a01/")]
    assert len(mine) == MINUTES - 2
    assert table.label_matrix()[mine, 0].tolist() == [int(letter == "A") for letter in LABELS[1:-1]]
    np.testing.assert_array_equal(table.signal(mine[2]), whole.signal[2 * 6000 : 5 * 6000])


def test_missing_labels_and_even_windows_are_refused(native):
    (native / "event-2-answers").unlink()
    with pytest.raises(SkippedRecordsError, match="no minute labels"):
        load(native)
    assert len(load(native, task=None)["test"]) == 2
    with pytest.raises(OptionError, match="odd number"):
        load(native, window_minutes=2)
