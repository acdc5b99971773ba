"""Brugada-HUCA: nested mirrors, records listed twice, the usual task (specification: corpora, 14)."""

import shutil

import pytest

from ecg_transformers.data.errors import LabelError
from ecg_transformers.data.loading import build_report, load_ecg_dataset


def table_row(patient, brugada):
    return {"patient_id": patient, "basal_pattern": 0, "sudden_death": 1, "brugada": brugada}


@pytest.fixture(scope="module", params=["files", "files/files"])
def brugada(request, tmp_path_factory, layouts):
    root = tmp_path_factory.mktemp("brugada")
    for patient in (123456, 596382, 7, 8):
        layouts.write_wfdb16(
            root / request.param / str(patient) / str(patient), layouts.microvolts(patient % 50, 1200), rate=100
        )
    (root / "files" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (root / "RECORDS").write_text("files/123456/123456\nfiles/596382/596382\nfiles/596382/596382\n")
    layouts.write_table(
        root / "metadata.csv", [table_row(123456, 1), table_row(596382, 0), table_row(7, 2), table_row(8, 0)]
    )
    return root


def test_each_person_is_read_once_with_one_of_three_classes(brugada, rows_of):
    rows = rows_of("brugada_huca", brugada)
    assert {name: row["labels"] for name, row in rows.items()} == {
        "123456": ["Brugada"],
        "596382": ["not diagnosed"],
        "7": ["other or atypical"],
        "8": ["not diagnosed"],
    }
    assert {(row["sampling_rate"], row["num_samples"]) for row in rows.values()} == {(100, 1200)}
    assert all(row["patient_id"] == name for name, row in rows.items())


def test_the_usual_task_leaves_the_atypical_out_and_counts_them(brugada, rows_of):
    assert set(rows_of("brugada_huca", brugada, task="binary")) == {"123456", "596382", "8"}
    assert list(build_report("brugada_huca", brugada, task="binary").excluded.values()) == [1]


def test_another_value_is_refused(tmp_path, layouts):
    layouts.write_wfdb16(tmp_path / "1", layouts.microvolts(1, 1200), rate=100)
    layouts.write_table(tmp_path / "metadata.csv", [table_row(1, 3)])
    with pytest.raises(LabelError, match="not 0, 1 or 2"):
        load_ecg_dataset("brugada_huca", tmp_path)


def test_people_are_numbers_however_these_are_written(brugada, tmp_path, layouts, rows_of):
    shutil.copytree(brugada, tmp_path / "copy")
    people = (123456, 596382, 7, 8)
    rows = [table_row(f"{patient}.0", "1.0") for patient in people]
    layouts.write_table(tmp_path / "copy" / "metadata.csv", rows)
    read = rows_of("brugada_huca", tmp_path / "copy")
    assert {name: row["labels"] for name, row in read.items()} == {str(patient): ["Brugada"] for patient in people}
