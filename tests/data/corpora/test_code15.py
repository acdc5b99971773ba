"""CODE-15%: join by exam_id, padding, the extra row, the uncertain unit, the WFDB form (specification: corpora, 11)."""

import json
import re
import shutil
import sys
from contextlib import nullcontext

import numpy as np
import pytest

from ecg_transformers.data.corpora import make_corpus
from ecg_transformers.data.corpora.code15 import trim_zero_edges
from ecg_transformers.data.errors import (
    DuplicateRecordError,
    ECGDataError,
    LabelError,
    MissingDependencyError,
    RecordNotFoundError,
    TableError,
)
from ecg_transformers.data.loading import build_report, load_ecg_dataset

h5py = pytest.importorskip("h5py")
COLUMNS = ["1dAVb", "RBBB", "LBBB", "SB", "ST", "AF"]


def exam_row(exam, patient, part, label=None, **others):
    row = {"exam_id": exam, "age": 54, "is_male": "True", "nn_predicted_age": 51.2}
    row |= {name: str(name == label) for name in COLUMNS}
    return {**row, "patient_id": patient, "death": "", "timey": "", "normal_ecg": "False", "trace_file": part} | others


def write_part(path, exams, signals):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["exam_id"] = np.array(exams, dtype=np.int64)
        file["tracings"] = np.array(signals, dtype=np.float32)


def tracing(layouts, index, before=0, after=0, length=400):
    """(length, 12) float32 in the deposit's unit, zeros at both ends, and one zero row inside."""
    signal = np.zeros((length, 12), dtype=np.float32)
    inside = layouts.microvolts(index, length - before - after) / np.float32(1000)
    inside[0] = inside[-1] = 0.25
    inside[100] = 0
    signal[before : length - after] = inside
    return signal


@pytest.fixture(scope="module")
def deposit(tmp_path_factory, layouts):
    """Two parts in another order than the table, with the extra row of exam 0 and an exam that is all zero."""
    root = tmp_path_factory.mktemp("code15")
    write_part(
        root / "exams_part0.hdf5",
        [30, 10, 20, 0],
        [tracing(layouts, 30), tracing(layouts, 10, 58, 42), tracing(layouts, 20, 0, 7), np.zeros((400, 12))],
    )
    zero = np.zeros((400, 12))
    write_part(root / "hdf5" / "exams_part1.hdf5", [40, 50, 0], [tracing(layouts, 40, 5, 0), zero, zero])
    layouts.write_table(
        root / "exams.csv",
        [
            exam_row(10, 1, "exams_part0.hdf5", "1dAVb"),
            exam_row(40, 2, "exams_part1.hdf5", "AF", is_male="False"),
            exam_row(20, 1, "exams_part0.hdf5", None, normal_ecg="True"),
            exam_row(50, 3, "exams_part1.hdf5", "ST"),
            exam_row(30, 4, "exams_part0.hdf5", "SB"),
            exam_row(60, 5, "exams_part7.hdf5", "RBBB"),
        ],
    )
    return root


@pytest.mark.parametrize(("task", "meets"), [("all", pytest.raises(TableError, match="AF")), (None, nullcontext())])
def test_labels_that_are_missing_or_no_truth_are_errors_where_they_are_asked_for(tmp_path, layouts, task, meets):
    write_part(tmp_path / "exams_part0.hdf5", [10], [tracing(layouts, 10)])
    row = exam_row(10, 1, "exams_part0.hdf5", "1dAVb")
    layouts.write_table(tmp_path / "exams.csv", [{name: cell for name, cell in row.items() if name != "AF"}])
    with meets:
        assert build_report("code15", tmp_path, task=task)
    layouts.write_table(tmp_path / "exams.csv", [{**row, "RBBB": "maybe"}])
    with pytest.raises(LabelError, match="RBBB is 'maybe'"):
        build_report("code15", tmp_path, task=task)


def test_exams_are_joined_by_id_and_not_by_order(deposit, rows_of, signal_of, layouts):
    rows = rows_of("code15", deposit)
    assert {name: row["labels"] for name, row in rows.items()} == {
        "10": ["1dAVb"],
        "20": ["normal_ecg"],
        "30": ["SB"],
        "40": ["AF"],
    }
    for exam, before, after in ((10, 58, 42), (20, 0, 7), (30, 0, 0), (40, 5, 0)):
        expected = tracing(layouts, exam, before, after)[before : 400 - after]
        np.testing.assert_allclose(signal_of(rows[str(exam)]), expected, atol=2e-4)
    assert {row["sampling_rate"] for row in rows.values()} == {400}
    assert {name: row["patient_id"] for name, row in rows.items()} == {"10": "1", "20": "1", "30": "4", "40": "2"}
    assert rows["10"]["fold"] == rows["20"]["fold"]
    assert json.loads(rows["40"]["metadata"])["sex"] == "female"


def test_what_is_left_out_is_counted_by_reason(deposit):
    report = build_report("code15", deposit)
    assert report.excluded == {
        "rows with exam_id 0, which are no exams": 2,
        "exams whose part is not here": 1,
        "no signal at all": 1,
    }
    assert any("50" in note and "without any signal" in note for note in report.notes)


def test_only_the_zero_edges_are_taken_off():
    signal = np.zeros((10, 2))
    signal[3, 0] = signal[6, 1] = 1
    np.testing.assert_array_equal(trim_zero_edges(signal), signal[3:7])
    assert trim_zero_edges(np.zeros((5, 2))).shape == (0, 2)


def test_the_unit_is_said_and_can_be_chosen(deposit, rows_of, signal_of):
    report = build_report("code15", deposit)
    assert any("uncertain" in note for note in report.notes)
    assert report.flags["unit_uncertain"] == 4
    whole, tenth = (rows_of("code15", deposit, millivolts_per_unit=scale)["30"] for scale in (1.0, 0.1))
    np.testing.assert_allclose(signal_of(tenth), signal_of(whole) / 10, atol=1e-4)
    assert "uncertain" in json.loads(whole["metadata"])["unit"]


def test_an_exam_that_its_part_lacks_is_named(tmp_path, layouts):
    write_part(tmp_path / "exams_part0.hdf5", [10, 11], [tracing(layouts, 10), tracing(layouts, 11)])
    rows = [exam_row(10, 1, "exams_part0.hdf5"), exam_row(12, 1, "exams_part0.hdf5")]
    layouts.write_table(tmp_path / "exams.csv", rows)
    report = build_report("code15", tmp_path, max_skipped=0.6)
    assert [entry["record"] for entry in report.skipped] == ["12"]
    assert report.excluded == {"exams of the parts that are in no table": 1}
    assert any("1 exams of the parts here stand in no row of exams.csv" in note for note in report.notes)


@pytest.fixture(scope="module")
def challenge_2025(tmp_path_factory, layouts):
    root = tmp_path_factory.mktemp("challenge2025")
    for exam, patient in ((11, 1), (12, 1), (13, 2)):
        comments = f"# Exam ID: {exam}\n# Patient ID: {patient}\n# Age: 50\n# Sex: Male\n# Chagas label: {exam == 13}\n"
        leads = ["I", "II", "III", "AVR", "AVL", "AVF", *(f"V{k}" for k in range(1, 7))]
        samples = layouts.microvolts(exam)
        layouts.write_wfdb16(root / str(exam), samples, rate=400, gain="1000(0)/mV", leads=leads, comments=comments)
    return root


def test_the_wfdb_form_has_patients_and_takes_its_labels_from_the_table(challenge_2025, layouts, rows_of):
    rows = rows_of("code15", challenge_2025)
    assert {name: row["patient_id"] for name, row in rows.items()} == {"11": "1", "12": "1", "13": "2"}
    assert {row["task_kind"] for row in rows.values()} == {"unlabelled"}
    assert json.loads(rows["13"]["metadata"])["chagas"] is True
    layouts.write_table(challenge_2025 / "exams.csv", [exam_row(11, 1, "", "AF"), exam_row(12, 1, "", "SB")])
    rows = rows_of("code15", challenge_2025)
    assert {name: row["labels"] for name, row in rows.items()} == {"11": ["AF"], "12": ["SB"]}
    report = build_report("code15", challenge_2025)
    assert report.excluded == {"exams that are not in exams.csv": 1}
    assert any("1 exams here are not in exams.csv" in note for note in report.notes)


def test_packed_parts_are_to_be_unpacked(tmp_path, layouts):
    layouts.write_table(tmp_path / "exams.csv", [exam_row(1, 1, "exams_part0.hdf5")])
    (tmp_path / "exams_part0.zip").write_bytes(b"PK")
    with pytest.raises(RecordNotFoundError, match=r"unpack exams_part0\.zip"):
        load_ecg_dataset("code15", tmp_path)


def test_broken_parts_are_named(tmp_path, layouts):
    layouts.write_table(tmp_path / "exams.csv", [exam_row(1, 1, "exams_part0.hdf5")])
    part = tmp_path / "exams_part0.hdf5"
    part.write_text(layouts.LFS_POINTER)
    with pytest.raises(ECGDataError, match="Git LFS pointer"):
        load_ecg_dataset("code15", tmp_path)
    part.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
    with pytest.raises(ECGDataError, match=r"exams_part0\.hdf5.*no readable HDF5"):
        load_ecg_dataset("code15", tmp_path)
    part.unlink()
    write_part(part, [1, 2], [np.ones((40, 12))])
    with pytest.raises(ECGDataError, match="2 exams of 12 leads"):
        load_ecg_dataset("code15", tmp_path)


def test_without_h5py_a_sentence_says_what_to_install(deposit, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r"ecg_transformers\[corpora\]"):
        load_ecg_dataset("code15", deposit, seed=9)


def test_real_exams_are_read_in_both_forms(ecg_data_dir, rows_of):
    rows = rows_of("code15", ecg_data_dir / "code15")
    lengths = sorted(row["num_samples"] for row in rows.values())
    assert lengths == [2934] * 6 + [4096] * 4
    counts = {name: sum(name in row["labels"] for row in rows.values()) for name in COLUMNS}
    assert counts == {"1dAVb": 3, "RBBB": 3, "LBBB": 0, "SB": 2, "ST": 2, "AF": 0}
    rows = rows_of("code15", ecg_data_dir / "code15-wfdb")
    assert set(rows) == {"919161", "919340", "1111813", "1111815", "1111827", "2508934"}
    assert len({row["patient_id"] for row in rows.values()}) == 4


def test_a_part_or_an_exam_that_is_here_twice_is_named(tmp_path, layouts):
    for folder in ("a", "b"):
        write_part(tmp_path / folder / "exams_part0.hdf5", [10], [tracing(layouts, 10)])
    layouts.write_table(tmp_path / "exams.csv", [exam_row(10, 1, "exams_part0.hdf5")])
    with pytest.raises(DuplicateRecordError, match=r"b/exams_part0\.hdf5'.*here twice, also as .*a/exams_part0\.hdf5"):
        load_ecg_dataset("code15", tmp_path)
    layouts.write_wfdb16(tmp_path / "w" / "11", layouts.microvolts(11), rate=400, comments="# Exam ID: 11\n")
    layouts.write_table(tmp_path / "w" / "exams.csv", [exam_row(11, 1, ""), exam_row(11, 1, "", "AF")])
    with pytest.raises(TableError, match=r"record '11'.*stands twice"):
        load_ecg_dataset("code15", tmp_path / "w")
    layouts.write_table(tmp_path / "w" / "exams.csv", [exam_row(12, 1, "")])
    with pytest.raises(RecordNotFoundError, match=r"none of the 1 exams that lie here stands in exams\.csv"):
        load_ecg_dataset("code15", tmp_path / "w")


def test_exams_without_a_patient_are_not_those_of_one_person(tmp_path, layouts):
    exams = list(range(1, 21))
    write_part(tmp_path / "exams_part0.hdf5", exams, [tracing(layouts, exam) for exam in exams])
    layouts.write_table(tmp_path / "exams.csv", [exam_row(exam, "", "exams_part0.hdf5") for exam in exams])
    assert set(load_ecg_dataset("code15", tmp_path)) == {"train", "validation", "test"}


@pytest.mark.parametrize("layout", ["code15", "code15 of the Challenge 2025"])
def test_exams_are_joined_by_number_however_it_is_written(layout, smallest, tmp_path):
    name, source = smallest(layout)
    shutil.copytree(source, tmp_path / "copy")
    table = tmp_path / "copy" / "exams.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *(re.sub(r"^(\d+),", r"\1.0,", row) for row in rows)]) + "\n")
    assert len(make_corpus(name, tmp_path / "copy").plan().splits["train"]) == len(
        make_corpus(name, source).plan().splits["train"]
    )
