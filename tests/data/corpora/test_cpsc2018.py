"""CPSC 2018: original and Challenge layouts, first labels, splits (specification: corpora, 3)."""

import json

import numpy as np
import pytest
import scipy.io

from ecg_transformers.data.corpora.shared import challenge
from ecg_transformers.data.errors import DuplicateRecordError, LabelError, OptionError, SkippedRecordsError
from ecg_transformers.data.loading import build_report, load_ecg_dataset

REFERENCE = "Recording,First_label,Second_label,Third_label\nA0001,5,,\nA0002,3,8,\nA0003,7,1,9\n"


@pytest.fixture(scope="module")
def original(tmp_path_factory, layouts):
    """Three records in the original folders, REFERENCE.csv beside them."""
    root = tmp_path_factory.mktemp("cpsc")
    for number, folder in ((1, "TrainingSet1"), (2, "TrainingSet2"), (3, "TrainingSet3")):
        (root / folder).mkdir()
        data = layouts.microvolts(number, 600).T / 1000.0
        ecg = {"sex": "Female" if number == 1 else "Male", "age": [[np.nan, -1, 61][number - 1]], "data": data}
        scipy.io.savemat(root / folder / f"A000{number}.mat", {"ECG": ecg})
    (root / "REFERENCE.csv").write_text(REFERENCE)
    return root


def test_the_original_layout_gives_millivolts_age_sex_and_all_labels(original, rows_of, signal_of, layouts):
    rows = rows_of("cpsc2018", original)
    assert {name: row["labels"] for name, row in rows.items()} == {
        "A0001": ["RBBB"],
        "A0002": ["IAVB", "STD"],
        "A0003": ["NORM", "PVC", "STE"],
    }
    np.testing.assert_allclose(signal_of(rows["A0002"]), layouts.microvolts(2, 600) / 1000, atol=1e-4)
    facts = [json.loads(rows[name]["metadata"]) for name in sorted(rows)]
    assert [fact.get("age") for fact in facts] == [None, None, 61]
    assert [fact["sex"] for fact in facts] == ["female", "male", "male"]
    assert [fact["first_label"] for fact in facts] == ["RBBB", "IAVB", "PVC"]
    assert rows["A0001"]["sampling_rate"] == 500
    assert any("no patient ids" in note for note in build_report("cpsc2018", original).notes)


def test_the_first_label_is_a_task_of_the_original(original, rows_of):
    rows = rows_of("cpsc2018", original, task="first")
    assert {name: row["labels"] for name, row in rows.items()} == {
        "A0001": ["RBBB"],
        "A0002": ["IAVB"],
        "A0003": ["PVC"],
    }
    assert {row["task_kind"] for row in rows.values()} == {"multiclass"}


def test_a_complete_original_is_planned(original, monkeypatch):
    monkeypatch.setitem(challenge.RECORDS_OF, "cpsc2018", 3)
    assert any("complete" in note for note in build_report("cpsc2018", original).notes)


@pytest.fixture(scope="module")
def copy(tmp_path_factory, layouts):
    """The same in the Challenge's layout: codes sorted by class."""
    root = tmp_path_factory.mktemp("copy") / "WFDB_CPSC2018"
    for name, codes in (
        ("A0001", "59118001"),
        ("A0002", "270492004,429622005"),
        ("A0003", "164884008,164931005,426783006"),
    ):
        layouts.write_challenge(root, name, codes)
    return root.parent


def test_the_challenge_copy_has_the_nine_classes_and_its_own_code_for_pvc(copy, rows_of):
    rows = rows_of("cpsc2018", copy)
    assert rows["A0003"]["labels"] == ["NORM", "PVC", "STE"]
    assert "first_label" not in json.loads(rows["A0003"]["metadata"])


def test_the_lost_first_label_is_refused_and_found_in_the_reference(copy, rows_of):
    with pytest.raises(OptionError, match="first label is lost"):
        load_ecg_dataset("cpsc2018", copy, task="first")
    (copy / "REFERENCE.csv").write_text(REFERENCE)
    try:
        assert rows_of("cpsc2018", copy, task="first")["A0003"]["labels"] == ["PVC"]
        (copy / "REFERENCE.csv").write_text(REFERENCE.replace("A0002", "A0004"))
        with pytest.raises(SkippedRecordsError, match=r"'A0002': REFERENCE\.csv does not name it"):
            load_ecg_dataset("cpsc2018", copy, task="first")
    finally:
        (copy / "REFERENCE.csv").unlink()


def test_the_published_random_split_is_offered(original):
    report = build_report("cpsc2018", original, protocol="merl_split")
    assert sum(report.records.values()) == 3
    assert any("MERL" in note for note in report.notes)


def test_records_and_table_must_agree(tmp_path, layouts):
    scipy.io.savemat(
        tmp_path / "A0001.mat", {"ECG": {"sex": "Male", "age": 50, "data": layouts.microvolts(1, 600).T / 1e3}}
    )
    (tmp_path / "REFERENCE.csv").write_text("Recording,First_label,Second_label,Third_label\nA0001,10,,\n")
    with pytest.raises(LabelError, match="not numbers of 1 to 9"):
        load_ecg_dataset("cpsc2018", tmp_path)
    (tmp_path / "REFERENCE.csv").write_text("Recording,First_label\nA0001,1\nA0001,2\n")
    with pytest.raises(DuplicateRecordError, match="twice"):
        load_ecg_dataset("cpsc2018", tmp_path)
    (tmp_path / "REFERENCE.csv").write_text("Recording,First_label\nA0001,1\nA0002,2\n")
    report = build_report("cpsc2018", tmp_path)
    assert (report.read, report.excluded) == (1, {"records of REFERENCE.csv whose file is not here": 1})
    assert any("A0002" in note for note in report.notes)


def test_real_records_are_read(ecg_data_dir, rows_of):
    rows = rows_of("cpsc2018", ecg_data_dir / "cpsc2018")
    assert {name: row["labels"] for name, row in rows.items()} == {
        "A1980": ["PAC"],
        "A1982": ["IAVB"],
        "A1983": ["NORM"],
        "A1985": ["STD"],
    }
    assert [rows[name]["num_samples"] for name in sorted(rows)] == [5000, 5000, 7500, 5517]
