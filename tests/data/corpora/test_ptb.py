"""PTB: 15 leads in two files, diagnoses in the header, patients by folder (specification: corpora, 9)."""

import json
import shutil

import numpy as np
import pytest

from ecg_transformers.data.corpora import make_corpus
from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.loading import build_report, load_ecg_dataset

LEADS = ["i", "ii", "iii", "avr", "avl", "avf", "v1", "v2", "v3", "v4", "v5", "v6", "vx", "vy", "vz"]
FULL = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6", "VX", "VY", "VZ"]


def write_record(root, patient, name, reason, samples, xyz=True):
    folder = root / patient
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{name} 15 1000 {len(samples)}"]
    for number, lead in enumerate(LEADS):
        lines.append(f"{name}.{'dat' if number < 12 else 'xyz'} 16 2000 16 0 {samples[0, number]} 0 0 {lead}")
    lines += ["# age: 81", "# sex: female", "# Diagnose:", f"# Reason for admission: {reason}", "# Smoker: n/a"]
    lines += [
        "# Catheterization date: 16-Oct-90",
        "# Additional diagnoses: Diabetes mellitus",
        "# Catheterization date: n/a",
    ]
    (folder / f"{name}.hea").write_bytes("\r\n".join(lines).encode())
    samples[:, :12].astype("<i2").tofile(folder / f"{name}.dat")
    if xyz:
        samples[:, 12:].astype("<i2").tofile(folder / f"{name}.xyz")


@pytest.fixture(scope="module")
def ptbdb(tmp_path_factory, layouts):
    """Six records of four people; one has lost its Frank leads."""
    root = tmp_path_factory.mktemp("ptbdb")
    for number, (patient, name, reason) in enumerate(
        [
            ("patient001", "s0010_re", "Myocardial infarction"),
            ("patient001", "s0014lre", "Myocardial infarction"),
            ("patient104", "s0306lre", "Healthy control"),
            ("patient200", "s0400_re", "n/a"),
            ("patient201", "s0401_re", "Dysrhythmia"),
            ("patient201", "s0402_re", "Heart failure (NYHA 4)"),
        ]
    ):
        write_record(root, patient, name, reason, layouts.microvolts(number, 400, 15), xyz=number != 2)
    return root


def test_fifteen_leads_from_two_files_in_millivolts(ptbdb, rows_of, signal_of, layouts):
    row = rows_of("ptb", ptbdb)["s0010_re"]
    assert row["lead_names"] == FULL
    assert row["sampling_rate"] == 1000
    np.testing.assert_allclose(signal_of(row), layouts.microvolts(0, 400, 15) / 2000, rtol=1e-6)
    assert rows_of("ptb", ptbdb, leads=12)["s0010_re"]["lead_names"] == FULL[:12]


def test_a_copy_without_frank_leads_gives_twelve_and_says_so(ptbdb, rows_of, signal_of, layouts):
    row = rows_of("ptb", ptbdb)["s0306lre"]
    assert row["lead_names"] == FULL[:12]
    np.testing.assert_allclose(signal_of(row), layouts.microvolts(2, 400, 15)[:, :12] / 2000, rtol=1e-6)
    report = build_report("ptb", ptbdb)
    assert report.flags["frank_leads_missing"] == 1
    assert any(".xyz" in note for note in report.notes)


def test_labels_are_reasons_for_admission_and_na_is_none(ptbdb, rows_of):
    rows = rows_of("ptb", ptbdb)
    assert rows["s0010_re"]["labels"] == ["Myocardial infarction"]
    assert rows["s0402_re"]["labels"] == ["Heart failure (NYHA 4)"]
    assert rows["s0400_re"]["labels"] == []
    facts = json.loads(rows["s0010_re"]["metadata"])
    assert (facts["age"], facts["sex"], facts["smoker"], facts["additional_diagnoses"]) == (
        81,
        "female",
        None,
        "Diabetes mellitus",
    )


def test_the_usual_task_is_infarction_against_healthy(ptbdb, rows_of):
    rows = rows_of("ptb", ptbdb, task="mi")
    assert {name: row["labels"] for name, row in rows.items()} == {
        "s0010_re": ["MI"],
        "s0014lre": ["MI"],
        "s0306lre": ["NORM"],
    }
    assert build_report("ptb", ptbdb, task="mi").excluded == {"no label of the task mi": 3}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_records_of_one_patient_are_in_one_fold(ptbdb, rows_of, seed):
    rows = rows_of("ptb", ptbdb, seed=seed)
    assert {rows[name]["patient_id"] for name in ("s0010_re", "s0014lre")} == {"patient001"}
    assert rows["s0010_re"]["fold"] == rows["s0014lre"]["fold"]
    assert rows["s0401_re"]["fold"] == rows["s0402_re"]["fold"]


def test_a_flat_copy_has_its_patients_by_the_list_or_says_that_they_are_lost(ptbdb, tmp_path):
    for path in ptbdb.glob("patient*/*"):
        shutil.copy(path, tmp_path)
    lost = make_corpus("ptb", tmp_path).plan()
    assert {item.patient_id for item in lost.each_item()} == {None}
    assert any("6 records" in text and "one person may be in two parts" in text for text in lost.warnings)
    (tmp_path / "RECORDS").write_text("".join(f"{p.parent.name}/{p.stem}\n" for p in sorted(ptbdb.rglob("*.hea"))))
    whole, own = (make_corpus("ptb", folder).plan() for folder in (tmp_path, ptbdb))
    assert {i.record_id: i.patient_id for i in whole.each_item()} == {
        i.record_id: i.patient_id for i in own.each_item()
    }
    assert whole.warnings == []


def test_the_challenge_copy_is_read_without_patients(tmp_path, layouts, rows_of):
    layouts.write_challenge(tmp_path / "WFDB", "S0001", "164865005", gain="2000000/mV", rate=1000)
    row = rows_of("ptb", tmp_path)["S0001"]
    assert (row["labels"], row["patient_id"], row["gain"][0]) == (["Myocardial infarction"], None, 1000.0)


def test_a_pointer_or_a_short_file_is_named(tmp_path, layouts):
    write_record(tmp_path, "patient001", "s0010_re", "n/a", layouts.microvolts(0, 400, 15))
    (tmp_path / "patient001" / "s0010_re.xyz").write_text(layouts.LFS_POINTER)
    with pytest.raises(ECGDataError, match=r"s0010_re\.xyz.*Git LFS pointer"):
        load_ecg_dataset("ptb", tmp_path)
    (tmp_path / "patient001" / "s0010_re.xyz").write_bytes(b"\0" * 100)
    with pytest.raises(ECGDataError, match=r"s0010_re\.xyz.*promises 400 samples"):
        load_ecg_dataset("ptb", tmp_path)


def test_the_real_record_equals_what_wfdb_reads(ecg_data_dir, rows_of, signal_of):
    import wfdb

    row = rows_of("ptb", ecg_data_dir / "ptbdb")["s0010_re"]
    expected = wfdb.rdrecord(str(ecg_data_dir / "ptbdb" / "patient001" / "s0010_re")).p_signal
    assert signal_of(row).shape == (38400, 15)
    np.testing.assert_array_equal(signal_of(row), expected.astype(np.float32))
    assert (row["labels"], row["patient_id"]) == (["Myocardial infarction"], "patient001")
