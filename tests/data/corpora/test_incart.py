"""INCART: gains by record, patients by comment, beats (specification: corpora, 10)."""

import json

import numpy as np
import pytest
import wfdb

from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.loading import build_report, load_ecg_dataset

LEADS = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]


@pytest.fixture(scope="module")
def incartdb(tmp_path_factory, layouts):
    """Four records of three people, each with its own gain."""
    root = tmp_path_factory.mktemp("incartdb")
    for name, gain, patient, about in (
        ("I01", 306, 1, "#<age>: 65 <sex>: F <diagnoses> Coronary artery disease, arterial hypertension"),
        ("I02", 306, 1, "#<age>: 65 <sex>: F <diagnoses> Coronary artery disease, arterial hypertension"),
        ("I03", 1041, 31, "#<age>: 71 <sex>: M "),
        ("I49", 515, 22, "#<age>: 71 <sex>: M "),
    ):
        samples = layouts.microvolts(int(name[1:]), 2570)
        comments = f"{about}\n# patient {patient}\n# PVCs, noise\n"
        layouts.write_wfdb16(root / name, samples, rate=257, gain=str(gain), leads=LEADS, comments=comments)
        marks = np.array([100, 400, 700, 1000, 1300])
        symbols = ["N", "V", "R", "n", "A"] if name != "I49" else ["+", "B", "S", "j", "F"]
        notes = [""] * 5 if name != "I49" else ["(AFIB", "", "", "", ""]
        wfdb.wrann(name, "atr", marks, symbols, aux_note=notes, write_dir=str(root))
    (root / "record-descriptions.txt").write_text("")
    return root


def test_every_record_has_its_own_gain(incartdb, rows_of, signal_of, layouts):
    rows = rows_of("incart", incartdb)
    for name, gain in (("I01", 306), ("I03", 1041), ("I49", 515)):
        np.testing.assert_allclose(signal_of(rows[name]), layouts.microvolts(int(name[1:]), 2570) / gain, rtol=1e-6)
    assert rows["I01"]["sampling_rate"] == 257
    assert rows["I01"]["lead_names"][3] == "aVR"


def test_beats_have_aami_classes_and_rhythm_marks_are_none(incartdb, rows_of):
    rows = rows_of("incart", incartdb)
    assert rows["I01"]["beat_labels"] == ["N", "V", "N", "N", "S"]
    assert rows["I01"]["beat_samples"] == [100, 400, 700, 1000, 1300]
    assert rows["I49"]["beat_labels"] == ["N", "S", "N", "F"]
    assert json.loads(rows["I49"]["metadata"])["rhythm_marks"] == [[100, "(AFIB"]]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_patients_come_from_the_comments_and_stay_together(incartdb, rows_of, seed):
    rows = rows_of("incart", incartdb, seed=seed)
    assert {name: row["patient_id"] for name, row in rows.items()} == {"I01": "1", "I02": "1", "I03": "31", "I49": "22"}
    assert rows["I01"]["fold"] == rows["I02"]["fold"]


def test_age_sex_and_diagnoses_with_and_without_their_token(incartdb, rows_of):
    rows = rows_of("incart", incartdb)
    facts = json.loads(rows["I01"]["metadata"])
    assert (facts["age"], facts["sex"]) == (65, "female")
    assert facts["diagnoses"] == "Coronary artery disease, arterial hypertension"
    assert json.loads(rows["I03"]["metadata"])["diagnoses"] is None


def test_windows_carry_their_own_beats(incartdb, rows_of):
    rows = rows_of("incart", incartdb, window_s=2)
    assert rows["I01/0001"]["num_samples"] == 514
    assert rows["I01/0001"]["beat_samples"] == [700 - 514, 1000 - 514]
    assert rows["I01/0001"]["patient_id"] == "1"


def test_records_with_a_railed_lead_are_flagged_or_left_out(incartdb, rows_of):
    assert build_report("incart", incartdb).flags == {"known_lead": 2}
    assert set(rows_of("incart", incartdb, bad_records="skip_all")) == {"I01", "I49"}


def test_the_challenge_copy_has_no_beats_but_patients(tmp_path, layouts, rows_of):
    layouts.write_challenge(tmp_path, "I0037", rate=257)
    row = rows_of("incart", tmp_path)["I0037"]
    assert (row["patient_id"], row["beat_samples"], row["task_kind"]) == ("16", None, "unlabelled")
    assert any("no beat marks" in note for note in build_report("incart", tmp_path).notes)


def test_missing_beat_marks_are_named(tmp_path, layouts):
    layouts.write_wfdb16(tmp_path / "I01", layouts.microvolts(1, 257), rate=257, gain="306", leads=LEADS)
    with pytest.raises(ECGDataError, match=r"I01\.atr"):
        load_ecg_dataset("incart", tmp_path)
