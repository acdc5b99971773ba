"""SPH: float16 HDF5, the grammar of AHA statements, spikes, the paper's recipe (specification: corpora, 13)."""

import json
from pathlib import Path

import numpy as np
import pytest

from ecg_transformers.data.corpora.sph import Statement, parse_statements
from ecg_transformers.data.errors import LabelError, RecordNotFoundError, SkippedRecordsError
from ecg_transformers.data.loading import build_report, load_ecg_dataset

h5py = pytest.importorskip("h5py")


def write_record(path, signal):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "ecg", data=signal.T.astype(np.float16), compression="gzip", chunks=(3, signal.shape[0] // 4)
        )


def millivolts(layouts, index, length=800):
    return (layouts.microvolts(index, length) / 1000).astype(np.float16).astype(np.float32)


def table_row(name, codes, patient, length=800, sex="M"):
    return {
        "ECG_ID": name,
        "AHA_Code": codes,
        "Patient_ID": patient,
        "Age": 55,
        "Sex": sex,
        "N": length,
        "Date": "2020-03-04",
    }


@pytest.fixture(scope="module")
def sph(tmp_path_factory, layouts):
    """Ten records, two of one person, in a folder of another name; one holds a spike of 1,500 mV."""
    root = tmp_path_factory.mktemp("sph")
    codes = ["22;23", "60+310;147", "1;1", "310+60", "145+362+367", "50+346", "1", "1;22", "82", "166"]
    rows = []
    for number, code in enumerate(codes, start=1):
        signal = millivolts(layouts, number)
        if number == 5:
            signal[100, 3] = 1500
        write_record(root / "17912444" / f"{'SPH' if number == 7 else 'A'}{number:05d}.h5", signal)
        rows.append(table_row(f"A{number:05d}", code, "S00001" if number in (1, 2) else f"S{number:05d}"))
    layouts.write_table(root / "17912441" / "metadata.csv", rows)
    return root


def test_float16_millivolts_of_leads_by_samples(sph, rows_of, signal_of, layouts):
    rows = rows_of("sph", sph)
    assert len(rows) == 10
    np.testing.assert_allclose(signal_of(rows["A00001"]), millivolts(layouts, 1), atol=2e-4)
    np.testing.assert_allclose(signal_of(rows["A00007"]), millivolts(layouts, 7), atol=2e-4)
    assert rows["A00001"]["lead_names"] == layouts.LEADS


def test_statements_become_labels_and_modifiers_stay_with_them(sph, rows_of):
    rows = rows_of("sph", sph)
    assert rows["A00001"]["labels"] == ["Sinus arrhythmia", "Sinus bradycardia"]
    assert rows["A00002"]["labels"] == ["T-wave abnormality", "Ventricular premature complex(es)"]
    assert rows["A00003"]["labels"] == ["Normal ECG"]
    facts = json.loads(rows["A00002"]["metadata"])
    assert facts["statements"] == [{"primary": 60, "modifiers": ["Frequent"]}, {"primary": 147, "modifiers": []}]
    assert json.loads(rows["A00008"]["metadata"])["flags"] == ["normal_with_others"]  # "normal" excludes all others
    assert "flags" not in json.loads(rows["A00003"]["metadata"])
    assert len(build_report("sph", sph).label_counts["train"]) == 44
    assert rows_of("sph", sph, task="superclass")["A00010"]["labels"] == ["MI"]


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("22;23", [Statement(22), Statement(23)]),
        ("60+310;147", [Statement(60, (310,)), Statement(147)]),
        ("310+60", [Statement(60, (310,))]),
        ("145+362+367", [Statement(145, (362, 367))]),
        ("1;1", [Statement(1)]),
    ],
)
def test_the_grammar_of_statements(text, statements):
    assert parse_statements(text, Path("metadata.csv"), "A00001") == statements


@pytest.mark.parametrize("text", ["", "22;", "310", "22+23", "x"])
def test_what_is_no_statement_is_refused(text):
    with pytest.raises(LabelError, match="A00001"):
        parse_statements(text, Path("metadata.csv"), "A00001")


def test_a_spike_does_not_coarsen_its_lead(sph, rows_of, signal_of, layouts):
    row = rows_of("sph", sph)["A00005"]
    expected = millivolts(layouts, 5)
    expected[100, 3] = 20
    np.testing.assert_allclose(signal_of(row), expected, atol=1e-3)
    assert build_report("sph", sph).flags["clipped"] == 1
    kept = signal_of(rows_of("sph", sph, clip_mv=None)["A00005"])
    assert kept[100, 3] == pytest.approx(1500, abs=1)


def test_people_with_several_records_are_the_test_part(sph, rows_of):
    for seed in range(3):
        rows = rows_of("sph", sph, seed=seed)
        test = {name for name, row in rows.items() if row["fold"] == 10}
        assert test == {"A00001", "A00002"}
    folds = rows_of("sph", sph, protocol="folds")
    assert folds["A00001"]["fold"] == folds["A00002"]["fold"]


def test_others_are_drawn_for_the_test_part_up_to_a_fifth(tmp_path, layouts, rows_of):
    rows = []
    for number in range(1, 11):
        write_record(tmp_path / "records" / f"A{number:05d}.h5", millivolts(layouts, number))
        rows.append(table_row(f"A{number:05d}", "1", f"S{number:05d}"))
    layouts.write_table(tmp_path / "metadata.csv", rows)
    assert sum(row["fold"] == 10 for row in rows_of("sph", tmp_path).values()) == 2


def test_a_record_of_another_length_than_the_table_says_is_refused(tmp_path, layouts):
    write_record(tmp_path / "records" / "A00001.h5", millivolts(layouts, 1))
    layouts.write_table(tmp_path / "metadata.csv", [table_row("A00001", "1", "S00001", length=900)])
    with pytest.raises(SkippedRecordsError, match=r"A00001\.h5.*\(12, 900\) is expected"):
        load_ecg_dataset("sph", tmp_path)


def test_the_archive_is_to_be_unpacked(tmp_path, layouts):
    layouts.write_table(tmp_path / "metadata.csv", [table_row("A00001", "1", "S00001")])
    (tmp_path / "records.tar.gz").write_bytes(b"")
    with pytest.raises(RecordNotFoundError, match=r"unpack records\.tar\.gz \(it is a plain tar\)"):
        load_ecg_dataset("sph", tmp_path)


def test_real_records_are_read(ecg_data_dir, rows_of):
    rows = rows_of("sph", ecg_data_dir / "sph")
    assert [rows[name]["num_samples"] for name in sorted(rows)] == [5000, 6000, 6500, 5000]
    assert rows["A00001"]["labels"] == ["Sinus arrhythmia", "Sinus bradycardia"]


def test_records_without_a_patient_are_not_those_of_one_person(tmp_path, layouts):
    for number in range(1, 11):
        write_record(tmp_path / f"A{number:05d}.h5", millivolts(layouts, number))
    layouts.write_table(tmp_path / "metadata.csv", [table_row(f"A{number:05d}", "22", "") for number in range(1, 11)])
    assert {part: len(rows) for part, rows in load_ecg_dataset("sph", tmp_path).items()}["test"] == 2
