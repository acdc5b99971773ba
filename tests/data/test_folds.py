"""Folds of a table in place of a corpus's own parts: any corpus, roles, leaks by patient."""

import importlib.util
from pathlib import Path

import pytest

from ecg_transformers.data.errors import OptionError, TableError
from ecg_transformers.data.loading import build_report, load_ecg_dataset

pytestmark = pytest.mark.usefixtures("own_cache")


def write_folds(path, folds, header="record_id,fold"):
    path.write_text("\n".join([header, *(f"{name},{fold}" for name, fold in folds.items())]) + "\n")
    return path


def ids(folder, **options):
    return {
        part: sorted(data["record_id"], key=int) for part, data in load_ecg_dataset("ptb_xl", folder, **options).items()
    }


PATIENTS = {number: (number - 1) % 10 for number in range(1, 21)}  # two records a patient in the fixture


def test_the_highest_fold_is_test_and_the_next_validation(mini_ptb_xl, tmp_path):
    table = write_folds(tmp_path / "folds.csv", {number: PATIENTS[number] % 5 for number in PATIENTS})
    parts = ids(mini_ptb_xl, folds=str(table))
    assert parts["test"] == ["5", "10", "15", "20"]
    assert parts["validation"] == ["4", "9", "14", "19"]
    assert len(parts["train"]) == 12
    notes = build_report("ptb_xl", mini_ptb_xl, folds=table).notes
    assert "parts by the folds of folds.csv: train [0, 1, 2], validation [3], test [4]" in notes


def test_other_roles_can_be_named(mini_ptb_xl, tmp_path):
    table = write_folds(tmp_path / "folds.csv", {number: PATIENTS[number] % 5 for number in PATIENTS})
    parts = ids(mini_ptb_xl, folds=table, test_folds=[0, 1], validation_folds=4)
    assert (len(parts["test"]), len(parts["validation"]), len(parts["train"])) == (8, 4, 8)
    with pytest.raises(OptionError, match=r"test_folds names the folds \[7\]"):
        ids(mini_ptb_xl, folds=table, test_folds=7)
    with pytest.raises(OptionError, match="both test and validation"):
        ids(mini_ptb_xl, folds=table, test_folds=1, validation_folds="1,2")


def test_roles_of_the_corpus_own_folds_can_be_named(mini_ptb_xl):
    parts = ids(mini_ptb_xl, test_folds=1, validation_folds=2)
    assert (parts["test"], parts["validation"]) == (["1", "11"], ["2", "12"])


def test_records_are_named_by_id_or_by_file(mini_ptb_xl, tmp_path):
    by_file = {f"records100/00000/{number:05d}_lr.hea": PATIENTS[number] % 5 for number in PATIENTS}
    table = write_folds(tmp_path / "files.csv", by_file, "file,fold")
    assert ids(mini_ptb_xl, folds=table)["test"] == ["5", "10", "15", "20"]
    by_number = {f"{number}.0": PATIENTS[number] % 5 for number in PATIENTS}
    table = write_folds(tmp_path / "numbers.csv", by_number, "ecg_id,strat_fold")
    assert ids(mini_ptb_xl, folds=table)["test"] == ["5", "10", "15", "20"]


@pytest.mark.parametrize("named", ["hosp/A/{}.x", "A/{}.x", "{}.x", "A/{}", "{}"])
@pytest.mark.parametrize("suffix", [".EDF", ".edf", ".DCM", ".dcm"])
def test_files_in_folders_are_named_with_or_without_their_suffix(named, suffix, tmp_path):
    """Letter case of a suffix says nothing; a hospital file may be called by its name alone, too."""
    place = Path(__file__).parent / "readers" / "hospital_files.py"
    spec = importlib.util.spec_from_file_location("hospital_files_with_folds", place)
    spec.loader.exec_module(hospital := importlib.util.module_from_spec(spec))
    (tmp_path / "hosp" / "A").mkdir(parents=True)
    for number in range(6):
        content = hospital.edf(hospital.ecg_counts(200, ["II"], seed=number), ["II"])
        (tmp_path / "hosp" / "A" / f"r{number}{suffix}").write_bytes(content)
    names = [named.replace(".x", suffix).format(f"r{number}") for number in range(6)]
    table = write_folds(tmp_path / "folds.csv", {name: n % 3 for n, name in enumerate(names)}, "file,fold")
    parts = load_ecg_dataset("folder", str(tmp_path), folds=table)
    assert {part: len(data) for part, data in parts.items()} == {"train": 2, "validation": 2, "test": 2}


def test_a_patient_in_two_parts_is_a_leak(mini_ptb_xl, tmp_path):
    table = write_folds(tmp_path / "folds.csv", {number: number % 3 if number < 15 else 2 for number in PATIENTS})
    with pytest.raises(TableError, match=r"folds\.csv.*patients are in more than one part"):
        ids(mini_ptb_xl, folds=table)


def test_records_without_a_fold_and_rows_without_a_record_are_counted(mini_ptb_xl, tmp_path):
    folds = {number: PATIENTS[number] % 5 for number in PATIENTS if number <= 15} | {999: 1}
    report = build_report("ptb_xl", mini_ptb_xl, folds=write_folds(tmp_path / "folds.csv", folds))
    assert (report.read, report.excluded) == (15, {"without a fold": 5})
    assert "1 rows of folds.csv name no record that is here" in report.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("record_id,part\n1,2\n", "no column fold"),
        ("record_id,fold\nx,2\ny,3\n", r"none of its 2 records \(x, y\)"),
        ("record_id,fold\n1,2\n1,3\n", "the folds 2 and 3"),
        ("record_id,fold\n1,a\n", "not an integer"),
        ("record_id,fold\n1,\n", "the fold is empty"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(mini_ptb_xl, tmp_path, text, message):
    (tmp_path / "folds.csv").write_text(text)
    with pytest.raises(TableError, match=message):
        ids(mini_ptb_xl, folds=tmp_path / "folds.csv")


def test_a_table_of_folds_works_for_a_stream_and_for_large_corpora(mini_ptb_xl, tmp_path):
    table = write_folds(tmp_path / "folds.csv", {number: PATIENTS[number] % 5 for number in PATIENTS})
    stream = load_ecg_dataset("ptb_xl", mini_ptb_xl, split="test", streaming=True, folds=table)
    assert sorted(int(row["record_id"]) for row in stream) == [5, 10, 15, 20]
    assert {row["fold"] for row in stream} == {4}


@pytest.mark.parametrize(
    ("header", "name_of"),
    [
        ("filename_hr,strat_fold", lambda number: f"records500/00000/{number:05d}_hr"),
        ("Record_ID,Fold", str),
        ("Record ID,FOLD", str),
        ("file,ecg_id,fold", lambda number: f"{number}.wav,{number}"),
        ("patient_id,ecg_id,fold", lambda number: f"{number // 2},{number}"),
    ],
)
def test_any_usual_column_and_heading_names_the_records(mini_ptb_xl, tmp_path, header, name_of):
    """At 100 Hz, too, where the table names the files of 500 Hz; another column may stand before the one that fits."""
    table = write_folds(tmp_path / "folds.csv", {name_of(n): PATIENTS[n] % 5 for n in PATIENTS}, header)
    assert ids(mini_ptb_xl, folds=table)["test"] == ["5", "10", "15", "20"]
