"""Chapman-Shaoxing: header rows, microvolts, flutter and fibrillation, both publications (specification: corpora, 5)."""

import json
import re
import sys
import zipfile

import numpy as np
import pytest

from ecg_transformers.data.corpora import chapman
from ecg_transformers.data.corpora.chapman import chapman_label_names
from ecg_transformers.data.errors import (
    LabelError,
    MissingDependencyError,
    PointerError,
    RecordNotFoundError,
    TableError,
)
from ecg_transformers.data.loading import build_report, load_ecg_dataset
from ecg_transformers.data.readers import Limits
from ecg_transformers.data.xlsx import read_xlsx_table

NAMES = ["MUSE_20180101_101010_11000", "MUSE_20180101_101011_12000", "MUSE_20181222_204118_08000"]
ROWS = [
    {
        "FileName": NAMES[0],
        "Rhythm": "AF",
        "Beat": "RBBB TWC",
        "PatientAge": "66",
        "Gender": "FEMALE",
        "VentricularRate": 60,
    },
    {
        "FileName": NAMES[1],
        "Rhythm": "AFIB",
        "Beat": "NONE",
        "PatientAge": "4",
        "Gender": "MALE",
        "VentricularRate": 90,
    },
    {
        "FileName": NAMES[2],
        "Rhythm": "SVT",
        "Beat": "NONE",
        "PatientAge": "50",
        "Gender": "MALE",
        "VentricularRate": 150,
    },
]


def write_xlsx(path, rows):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append(list(row.values()))
    book.save(path)


def write_csv(folder, name, samples, header):
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6"] if header else []
    lines += [",".join(f"{value:.1f}" for value in row) for row in samples]
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def deposit(tmp_path_factory, layouts):
    """Three records as recorded (with a header row) and denoised (without), the last denoised one zero."""
    root = tmp_path_factory.mktemp("figshare")
    write_xlsx(root / "Diagnostics.xlsx", ROWS)
    for number, name in enumerate(NAMES):
        write_csv(root / "ECGData", name, layouts.microvolts(number, 500), header=True)
        denoised = layouts.microvolts(number, 500) // 2 * (number < 2)
        write_csv(root / "ECGDataDenoised", name, denoised, header=False)
    return root


def test_no_sample_is_lost_with_or_without_a_header_row_and_microvolts_become_millivolts(
    deposit, rows_of, signal_of, layouts
):
    recorded = rows_of("chapman", deposit)
    assert set(recorded) == set(NAMES)
    np.testing.assert_allclose(signal_of(recorded[NAMES[0]]), layouts.microvolts(0, 500) / 1000, atol=1e-4)
    denoised = rows_of("chapman", deposit, signals="denoised")
    np.testing.assert_allclose(signal_of(denoised[NAMES[1]]), layouts.microvolts(1, 500) // 2 / 1000, atol=1e-4)
    assert {row["num_samples"] for row in [*recorded.values(), *denoised.values()]} == {500}


def test_af_is_flutter_and_afib_is_fibrillation(deposit, rows_of):
    rows = rows_of("chapman", deposit)
    assert rows[NAMES[0]]["labels"] == ["AFL", "RBBB", "TWC"]
    assert rows[NAMES[1]]["labels"] == ["AFIB"]
    assert json.loads(rows[NAMES[0]]["metadata"])["snomed"][0] == "164890007"
    assert json.loads(rows[NAMES[0]]["metadata"])["rhythm_name"] == "Atrial Flutter"
    assert json.loads(rows[NAMES[1]]["metadata"])["snomed"] == ["164889003"]
    assert "AF" not in chapman_label_names("all")
    scored = rows_of("chapman", deposit, task="scored")
    assert scored[NAMES[0]]["labels"] == ["AFL", "CRBBB|RBBB", "TAb"]
    assert scored[NAMES[1]]["labels"] == ["AF"]


def test_rhythms_are_one_a_record_and_merge_as_in_the_paper(deposit, rows_of):
    assert [rows_of("chapman", deposit, task="rhythm")[name]["labels"] for name in NAMES] == [
        ["AFL"],
        ["AFIB"],
        ["SVT"],
    ]
    merged = rows_of("chapman", deposit, task="rhythm4")
    assert [merged[name]["labels"] for name in NAMES] == [["AFIB"], ["AFIB"], ["GSVT"]]
    assert len(chapman_label_names("rhythm")) == 11
    assert chapman_label_names("rhythm4") == ["AFIB", "GSVT", "SB", "SR"]


def test_ages_are_numbers_although_the_table_holds_text(deposit, rows_of):
    facts = json.loads(rows_of("chapman", deposit)[NAMES[0]]["metadata"])
    assert (facts["age"], facts["sex"], facts["VentricularRate"]) == (66, "female", 60)


def test_row_n_of_a_complete_table_is_record_n_of_the_wfdb_copies(deposit, rows_of, monkeypatch):
    """So the split of MERL, which names those, holds for the deposit too; JS00003 is in no part of it."""
    monkeypatch.setattr(chapman, "ROWS", len(ROWS))
    rows = rows_of("chapman", deposit, seed=1)
    numbers = {json.loads(rows[name]["metadata"])["challenge_record"]: name for name in NAMES}
    assert numbers == dict(zip(["JS00001", "JS00002", "JS00003"], NAMES))
    assert load_ecg_dataset("chapman", deposit, "train", protocol="merl_split")["record_id"] == NAMES[:2]
    monkeypatch.undo()
    incomplete = rows_of("chapman", deposit, seed=2)
    assert "challenge_record" not in json.loads(incomplete[NAMES[0]]["metadata"])


def test_zero_denoised_files_are_left_out_and_counted(deposit, rows_of):
    assert set(rows_of("chapman", deposit, signals="denoised")) == set(NAMES[:2])
    assert build_report("chapman", deposit, signals="denoised").excluded == {"known bad record (signal)": 1}
    unknown = build_report("chapman", deposit, signals="denoised", bad_records="keep")
    assert unknown.excluded == {"no signal at all": 1}


def test_the_same_recording_has_the_same_labels_in_both_publications(tmp_path, layouts, rows_of):
    layouts.write_challenge(tmp_path / "WFDBRecords" / "01" / "010", "JS00001", "164889003,59118001,164934002")
    layouts.write_challenge(tmp_path / "WFDBRecords" / "01" / "010", "JS00002", "164890007,55827005")
    (tmp_path / "RECORDS").write_text("WFDBRecords/01/010/\n")
    rows = rows_of("chapman", tmp_path)
    assert rows["JS00001"]["labels"] == ["AFIB", "RBBB", "TWC"]
    assert rows["JS00002"]["labels"] == ["AFL", "LVHV"]
    assert rows_of("chapman", tmp_path, task="rhythm")["JS00002"]["labels"] == ["AFL"]


def test_folders_of_another_name_are_told_apart_by_the_header_row(tmp_path, layouts, rows_of, signal_of):
    write_xlsx(tmp_path / "Diagnostics.xlsx", ROWS[:1])
    write_csv(tmp_path / "raw", NAMES[0], layouts.microvolts(0, 300), header=True)
    write_csv(tmp_path / "clean", NAMES[0], layouts.microvolts(1, 300), header=False)
    recorded, denoised = (rows_of("chapman", tmp_path, signals=kind)[NAMES[0]] for kind in ("recorded", "denoised"))
    np.testing.assert_allclose(signal_of(recorded), layouts.microvolts(0, 300) / 1000, atol=1e-4)
    np.testing.assert_allclose(signal_of(denoised), layouts.microvolts(1, 300) / 1000, atol=1e-4)


def test_a_sheet_is_read_whole_whatever_it_states_of_its_size(tmp_path):
    """Some programs state one cell; rows may end before the last column."""
    write_xlsx(tmp_path / "whole.xlsx", [*ROWS, {"FileName": "short"}])
    with zipfile.ZipFile(tmp_path / "whole.xlsx") as whole, zipfile.ZipFile(tmp_path / "other.xlsx", "w") as other:
        for entry in whole.namelist():
            other.writestr(entry, re.sub(rb'<dimension ref="[^"]+"', b'<dimension ref="A1"', whole.read(entry)))
    rows = read_xlsx_table(tmp_path / "other.xlsx", ["FileName"], tmp_path, Limits())
    assert rows == read_xlsx_table(tmp_path / "whole.xlsx", ["FileName"], tmp_path, Limits())
    assert [row["Beat"] for row in rows] == ["RBBB TWC", "NONE", "NONE", ""]


def test_what_is_wrong_with_the_table_is_said(tmp_path, layouts):
    write_csv(tmp_path / "ECGData", NAMES[0], layouts.microvolts(0, 300), header=True)
    write_xlsx(tmp_path / "Diagnostics.xlsx", [{**ROWS[0], "Rhythm": "XYZ"}])
    with pytest.raises(LabelError, match="XYZ"):
        load_ecg_dataset("chapman", tmp_path)
    write_xlsx(tmp_path / "Diagnostics.xlsx", [{"FileName": NAMES[0]}])
    with pytest.raises(TableError, match="Rhythm"):
        load_ecg_dataset("chapman", tmp_path)
    (tmp_path / "Diagnostics.xlsx").write_bytes(b"no archive")
    with pytest.raises(TableError, match=r"Diagnostics\.xlsx.*no Excel file"):
        load_ecg_dataset("chapman", tmp_path)
    (tmp_path / "Diagnostics.xlsx").write_text(layouts.LFS_POINTER)
    with pytest.raises(PointerError, match="Git LFS pointer"):
        load_ecg_dataset("chapman", tmp_path)


def test_packed_signals_are_to_be_unpacked(tmp_path):
    write_xlsx(tmp_path / "Diagnostics.xlsx", ROWS[:1])
    (tmp_path / "ECGData.zip").write_bytes(b"PK")
    with pytest.raises(RecordNotFoundError, match=r"unpack ECGData\.zip"):
        load_ecg_dataset("chapman", tmp_path)


def test_without_openpyxl_a_sentence_says_what_to_install(deposit, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingDependencyError, match=r"ecg_transformers\[corpora\]"):
        load_ecg_dataset("chapman", deposit, seed=5)


def test_real_records_agree_in_both_publications(ecg_data_dir, rows_of, signal_of):
    deposit = rows_of("chapman", ecg_data_dir / "chapman" / "figshare-ecgdata")
    copies = rows_of("chapman", ecg_data_dir / "chapman" / "ecg-arrhythmia")
    for muse, name in (("MUSE_20180113_171327_27000", "JS00001"), ("MUSE_20180112_073319_29000", "JS00002")):
        np.testing.assert_allclose(signal_of(deposit[muse]), signal_of(copies[name]), atol=2e-4)
        assert deposit[muse]["labels"] == copies[name]["labels"]
    assert build_report("chapman", ecg_data_dir / "chapman" / "figshare").read == 1
