"""What a folder or a table holds is read as a person means it, or named: nothing vanishes."""

import csv
import itertools
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecg_transformers.data.errors import ECGDataError, LabelError, SkippedRecordsError, TableError
from ecg_transformers.data.loading import RecordTable, build_report, label_names, load_ecg_dataset
from ecg_transformers.signal.synthesis import LEAD_NAMES


@pytest.fixture
def folder(tmp_path, digital_ecg) -> Path:
    root = tmp_path / "records"
    root.mkdir()
    for number in range(12):
        save(root, f"r{number:02d}", digital_ecg(number, duration=2.0))
    return root


def save(root: Path, name: str, samples: np.ndarray, **facts: str) -> None:
    stored = {"sampling_rate": 100, "lead_names": np.array(LEAD_NAMES), **facts}
    np.savez(root / f"{name}.npz", signal=samples / 1000.0, **stored)


def table(folder: Path, **columns) -> None:
    rows = [{name: value(n) for name, value in columns.items()} for n in range(12)]
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def name(n: int) -> str:
    return f"r{n:02d}.npz"


def load(folder: Path, **options):
    return load_ecg_dataset("folder", folder, cache_dir=folder.parent / "cache", **options)


def notes(folder: Path, **options) -> str:
    return "\n".join(build_report("folder", folder, cache_dir=folder.parent / "cache", **options).notes)


@pytest.mark.parametrize("odd", ["-1", "0.5", "?", "2", "unknown", ""])
def test_a_cell_that_is_neither_0_nor_1_names_row_and_column(folder, odd):
    table(folder, file=name, AF=lambda n: odd if n == 4 else n % 2, MI=lambda n: int(n > 5))
    with pytest.raises(LabelError, match="row 6, column 'AF'"):
        load(folder)
    assert label_names(load(folder, uncertain="negative")) == ["AF", "MI"]
    assert sum(map(len, load(folder, uncertain="drop").values())) == 11


def test_a_column_of_minus_ones_and_ones_is_a_label_column_too(folder):
    table(folder, file=name, AF=lambda n: [-1, -1, -1, 0, 1][n % 5], MI=lambda n: n % 2)
    with pytest.raises(LabelError, match="column 'AF'"):
        load(folder)


def test_columns_that_are_no_labels_are_named(folder):
    table(folder, file=name, height=lambda n: 150 + n, AF=lambda n: n % 2)
    assert label_names(load(folder)) == ["AF"]
    assert "not read: 'height'" in notes(folder)


def test_a_column_of_marks_reads_blanks_as_zero(folder):
    table(folder, file=name, AF=lambda n: 1 if n % 3 == 0 else "", MI=lambda n: n % 2)
    rows = load(folder)
    assert sum(RecordTable(part).label_matrix()[:, 0].sum() for part in rows.values()) == 4


@pytest.mark.parametrize(
    ("yes", "no"), [("T", "F"), ("Y", "N"), ("pos", "neg"), ("x", ""), ("WAHR", "FALSCH"), ("sí", "no")]
)
def test_other_words_for_one_and_zero_make_a_label_column(folder, yes, no):
    table(folder, file=name, AF=lambda n: yes if n % 3 == 0 else no, MI=lambda n: n % 2)
    rows = load(folder)
    assert label_names(rows) == ["AF", "MI"]
    assert sum(RecordTable(part).label_matrix()[:, 0].sum() for part in rows.values()) == 4
    assert "labels are the 0/1 columns 'AF', 'MI'" in notes(folder)


@pytest.mark.parametrize("column", ["gender", "Male", "is_female"])
def test_a_sex_of_0_and_1_is_a_label_only_where_it_is_asked_for(folder, column):
    table(folder, file=name, AF=lambda n: n % 2, **{column: lambda n: int(n < 5)})
    assert label_names(load(folder)) == ["AF"]
    assert f"not read: {column!r}" in notes(folder)
    assert label_names(load(folder, label_columns=["AF", column])) == ["AF", column]


def test_letters_that_are_not_all_yes_or_no_are_no_label_column(folder):
    table(folder, file=name, rhythm=lambda n: "N" if n < 9 else "SVT", gender=lambda n: "MF"[n % 2], MI=lambda n: n % 2)
    assert label_names(load(folder)) == ["MI"]
    assert "not read: 'rhythm', 'gender'" in notes(folder)


@pytest.mark.parametrize("cell", ["nan", "NA", "?", "<NA>", "-"])
def test_a_word_for_no_label_is_no_class(folder, cell):
    for column in ("label", "labels"):
        table(folder, file=name, **{column: lambda n: cell if n == 2 else ["AF", "normal"][n % 2]})
        with pytest.raises(LabelError, match=r"row 4.*no label"):
            load(folder)
        assert cell in label_names(load(folder, label_names=["AF", "normal", cell]))


def test_one_number_written_in_two_ways_is_not_two_classes(folder):
    table(folder, file=name, label=lambda n: "1.0" if n == 2 else n % 2)
    with pytest.raises(LabelError, match="are one number"):
        load(folder)


def test_measurements_are_no_classes(folder, digital_ecg):
    for number in range(12, 24):
        save(folder, f"r{number:02d}", digital_ecg(number, duration=2.0))
    rows = "\n".join(f"{name(n)},{60 + 1.37 * n:.2f}" for n in range(24))
    (folder / "labels.csv").write_text(f"file,label\n{rows}\n")
    with pytest.raises(LabelError, match="24 different labels in 24 rows"):
        load(folder)


@pytest.mark.parametrize("cell", ["AF, normal", "AF|normal", "AF\nnormal"])
def test_several_labels_behind_another_separator_are_refused(folder, cell):
    table(folder, file=name, labels=lambda n: cell if n == 2 else "AF;MI")
    with pytest.raises(LabelError, match=r"row 4.*'AF;normal'"):
        load(folder)
    table(folder, file=name, label=lambda n: cell if n == 2 else ["AF", "normal"][n % 2])
    with pytest.raises(LabelError, match=r"row 4.*several labels"):
        load(folder)


def test_a_comma_within_one_label_is_kept(folder):
    label = "atrial fibrillation, paroxysmal"
    table(folder, file=name, label=lambda n: label if n % 2 else "normal")
    assert label_names(load(folder)) == [label, "normal"]


@pytest.mark.parametrize(
    "cell", ["['{}', 'PVC']", '["{}", "PVC"]', "[{}, PVC]", "[ '{}' ,'PVC' ]", "('{}', 'PVC')", "{{'{}', 'PVC'}}"]
)
def test_a_list_in_a_cell_is_its_labels(folder, cell):
    table(
        folder,
        file=name,
        labels=lambda n: (
            cell.format("")[:1] + cell[-1:] if n == 3 else cell.format(["AF", "a, b"][n % 2 and "'" in cell])
        ),
    )
    rows = {row["record_id"]: row["labels"] for part in load(folder).values() for row in part}
    assert rows["r00"] == ["AF", "PVC"]
    assert rows["r01"] == (["a, b", "PVC"] if "'" in cell else ["AF", "PVC"])
    assert rows["r03"] == []


def test_a_dictionary_in_a_cell_is_no_label(folder):
    table(folder, file=name, labels=lambda n: f"{{'{['AF', 'normal'][n % 2]}': 100.0}}")
    with pytest.raises(LabelError, match=r"row 2, column 'labels' holds a dictionary"):
        load(folder)


@pytest.mark.parametrize("column", ["label", "labels"])
@pytest.mark.parametrize(
    "ways", [("[1, 0, 0]", "[0, 1, 0]"), ("1 0", "0 1"), ("(1., 0., 1.)", "(0., 0., 0.)"), ("1;0", "0;0")]
)
def test_a_vector_of_0_and_1_is_no_label(folder, column, ways):
    table(folder, file=name, **{column: lambda n: ways[n % 2]})
    with pytest.raises(LabelError, match="vectors of 0 and 1"):
        load(folder)


def test_numbers_of_classes_are_no_vector(folder):
    table(folder, file=name, labels=lambda n: ["0", "1", "0;1"][n % 3])
    assert label_names(load(folder)) == ["0", "1"]


@pytest.mark.parametrize("other", ["af", " AF", "Af"])
def test_one_label_in_two_columns_is_not_two_labels(folder, other):
    (folder / "labels.csv").write_text(f"file,AF,MI,{other}\n" + "".join(f"{name(n)},1,0,{n % 2}\n" for n in range(12)))
    with pytest.raises((LabelError, TableError), match=r"differ in case only|more than once"):
        load(folder)


@pytest.mark.parametrize("other", ["atrial  fib", "atrial\u00a0fib", "atrial_fib", "atrial \ufb01b"])
def test_one_label_in_two_spellings_is_not_two_classes(folder, other):
    table(folder, file=name, label=lambda n: ["atrial fib", other, "normal"][n % 3])
    with pytest.raises(LabelError, match="differ in blanks or the form of their letters only"):
        load(folder)


def test_empty_label_cells_are_counted(folder):
    table(folder, file=name, label=lambda n: "" if n < 3 else ["AF", "normal"][n % 2])
    assert "3 records without a label were left out" in notes(folder)
    table(folder, file=name, labels=lambda n: "" if n < 3 else "AF;MI")
    assert "3 rows are empty in the column 'labels'" in notes(folder)


@pytest.mark.parametrize(
    "column",
    [
        *("patient_id", "subject_id", "patient", "subject", "PatientID", "pid", "Patient Nr.", "MRN", "id_patient"),
        *("PATIENT_NUM", "Patient Identifier", "Patientennummer", "Proband", "subj_id", "medical record number"),
    ],
)
def test_patients_are_found_under_their_usual_names(folder, column):
    table(folder, file=name, label=lambda n: ["AF", "normal"][n % 2], **{column: lambda n: f"p{n // 2}"})
    patients = [set(part["patient_id"]) for part in load(folder).values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 6
    assert f"column {column!r}" in notes(folder)


@pytest.mark.parametrize("column", ["patient_age", "subjects", "patient_sex", "number of patients"])
def test_a_column_about_patients_does_not_tell_them_apart(folder, column):
    table(folder, file=name, label=lambda n: ["AF", "normal"][n % 2], **{column: lambda n: f"p{n // 2}"})
    assert "no patient column" in notes(folder)


def test_an_empty_patient_column_gives_way_to_a_filled_one(folder):
    given = {"patient_id": lambda n: "", "subject_id": lambda n: f"p{n // 2}"}
    table(folder, file=name, label=lambda n: ["AF", "normal"][n % 2], **given)
    patients = [set(part["patient_id"]) for part in load(folder).values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 6


@pytest.mark.parametrize("nobody", ["", "nan", "Unknown", "N/A", "?", "None"])
def test_records_of_nobody_are_not_those_of_one_patient(folder, nobody):
    table(
        folder,
        file=name,
        label=lambda n: ["AF", "normal"][n % 2],
        patient_id=lambda n: nobody if n < 8 else f"p{n // 2}",
    )
    unnamed = [list(rows["patient_id"]).count(None) for rows in load(folder).values()]
    assert sum(unnamed) == 8
    assert max(unnamed) < 8
    assert "8 rows name nobody in the column 'patient_id'" in notes(folder)


def test_too_few_patients_for_three_parts_are_told(folder):
    table(folder, file=name, label=lambda n: ["AF", "normal"][n % 2], patient_id=lambda n: "p1")
    assert "records of 1 patient cannot be shared out" in notes(folder)
    table(folder, file=name, label=lambda n: ["AF", "normal"][n % 2], patient_id=lambda n: "p1", fold=lambda n: 1)
    assert "cannot be shared out" not in notes(folder)


@pytest.mark.parametrize(("one", "other"), [("P7", "p7"), ("7", "7.0"), ("007", "7")])
def test_a_patient_in_two_spellings_is_told(folder, one, other):
    table(
        folder,
        file=name,
        label=lambda n: ["AF", "normal"][n % 2],
        patient_id=lambda n: (one, other)[n] if n < 2 else f"x{n}",
    )
    assert f"the patients {one!r} and {other!r} count as two" in notes(folder)


def test_patients_that_only_the_archives_name_stay_in_one_part(folder):
    for number in range(12):
        save(folder, f"r{number:02}", np.ones((200, 12)) * np.arange(200)[:, None], subject=f"p{number // 2}")
    table(folder, file=name, label=lambda n: ["AF", "normal"][n % 2])
    patients = [set(part["patient_id"]) for part in load(folder).values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 6


def test_patients_whom_the_table_leaves_out_are_those_of_the_files(folder):
    """Rows of one patient stay in one part, whether its cell is filled or not; who is nowhere named is said."""
    for number in range(10):
        save(folder, f"r{number:02}", np.ones((200, 12)) * np.arange(200)[:, None], subject=f"p{number // 4}")
    given = {"patient_id": lambda n: "" if n < 8 or n > 9 else "p2"}
    table(folder, file=name, label=lambda n: ["AF", "normal"][n % 2], **given)
    parts = [[row for row in part["patient_id"] if row] for part in load(folder).values()]
    assert sum(len(set(part)) for part in parts) == len(set(itertools.chain(*parts))) == 3
    assert "2 rows name nobody in the column 'patient_id', and their files name no patient" in notes(folder)


def test_an_absent_patient_column_is_said(folder):
    table(folder, file=name, label=lambda n: ["AF", "normal"][n % 2])
    assert "no patient column" in notes(folder)
    with pytest.raises(TableError, match="'person' is missing"):
        load(folder, patient_column="person")


@pytest.mark.parametrize("column", ["split", "set", "Partition", "fold"])
def test_a_column_of_parts_is_honoured_whatever_it_is_called(folder, column):
    parts = ["train", "Val", "TEST"]
    table(folder, file=name, label=lambda n: ["AF", "normal"][n % 2], **{column: lambda n: parts[n % 3]})
    assert {part: len(rows) for part, rows in load(folder).items()} == {"train": 4, "validation": 4, "test": 4}
    assert f"parts as in the column {column!r}" in notes(folder)


@pytest.mark.parametrize("column", ["is_train", "test", "Validation"])
def test_a_column_of_0_and_1_that_says_the_parts_is_no_label(folder, column):
    table(folder, file=name, AF=lambda n: n % 2, **{column: lambda n: int(n < 9)})
    with pytest.raises(TableError, match=f"'{column}' seems to say the parts"):
        load(folder)
    assert label_names(load(folder, label_columns=["AF"])["train"]) == ["AF"]


def test_a_column_of_parts_with_a_word_that_is_none_is_not_passed_over(folder):
    parts = ["train", "dev", "eval"]
    table(folder, file=name, label=lambda n: ["AF", "normal"][n % 2], subset=lambda n: parts[n % 3])
    with pytest.raises(TableError, match=r"'subset'.*'eval'"):
        load(folder)


@pytest.mark.parametrize("column", ["fold", "strat_fold", "Strat_Fold", "cv_fold", "k_fold"])
def test_the_highest_fold_is_the_test_part_and_the_next_validation(folder, column):
    table(folder, file=name, label=lambda n: ["AF", "normal"][n % 2], **{column: lambda n: 1 + n // 3})
    folds = {part: set(rows["fold"]) for part, rows in load(folder).items()}
    assert folds == {"train": {1, 2}, "validation": {3}, "test": {4}}
    assert "train 1, 2; validation 3; test 4" in notes(folder)


def test_folds_do_not_move_up_when_the_records_of_the_highest_are_not_there(folder):
    table(folder, file=name, label=lambda n: ["AF", "normal"][n % 2], fold=lambda n: 1 + n // 3)
    for number in (9, 10, 11):
        (folder / name(number)).unlink()
    with pytest.raises(SkippedRecordsError, match="the split 'test' ends empty"):
        load(folder, max_skipped=1)


def test_a_split_whose_records_all_fail_is_an_error_whatever_may_be_skipped(folder):
    table(folder, file=name, label=lambda n: ["AF", "normal"][n % 2], fold=lambda n: 1 + n // 3)
    for number in (9, 10, 11):
        (folder / name(number)).write_bytes(b"no archive")
    with pytest.raises(SkippedRecordsError, match=r"the split 'test' of 'folder' ends empty.*r09"):
        load(folder, max_skipped=1)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_umlaut_is_found_however_it_is_written(folder, forms):
    on_disk, in_table = (unicodedata.normalize(form, "Übung.npz") for form in forms)
    (folder / name(3)).rename(folder / on_disk)
    table(folder, file=lambda n: in_table if n == 3 else name(n), label=lambda n: ["AF", "normal"][n % 2])
    assert sum(map(len, load(folder).values())) == 12


def test_backslashes_mean_folders(folder):
    (folder / "sub").mkdir()
    (folder / name(3)).rename(folder / "sub" / name(3))
    table(folder, file=lambda n: f"sub\\{name(n)}" if n == 3 else name(n), label=lambda n: ["AF", "normal"][n % 2])
    assert "sub/r03" in {i for part in load(folder).values() for i in part["record_id"]}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("R03.npz", "'r03.npz': letter case"),
        ("old/r03.npz", "'r03.npz' in another folder"),
        ("r99.npz", "no such file"),
    ],
)
def test_a_name_that_is_no_file_is_named_with_its_row(folder, wrong, told):
    table(folder, file=lambda n: wrong if n == 3 else name(n), label=lambda n: ["AF", "normal"][n % 2])
    with pytest.raises(SkippedRecordsError, match=rf"row 5: there is no such file '{wrong}'") as caught:
        load(folder)
    assert told in str(caught.value)


def test_a_number_that_lost_its_zeros_is_told(folder):
    (folder / name(3)).rename(folder / "00017.npz")
    table(folder, id=lambda n: "17" if n == 3 else name(n), label=lambda n: ["AF", "normal"][n % 2])
    with pytest.raises(SkippedRecordsError, match=r"no such file '17'; there is '00017.npz': were its zeros lost"):
        load(folder)


@pytest.mark.parametrize(
    ("written", "given", "told"),
    [
        ("r03.wav", "r03", "'r03.wav' is of a kind that is not read"),
        ("seg.hea", "seg", "'seg.hea' is a segment"),
    ],
)
def test_a_name_without_suffix_of_a_file_that_is_no_record_is_told_so(folder, written, given, told):
    (folder / name(3)).unlink()
    (folder / written).write_text("seg 1 250 500\nseg.dat 16 200 12 0 0 0 0 I\n")
    (folder / "whole.hea").write_text("whole/1 1 250 500\nseg 500\n")
    table(folder, file=lambda n: given if n == 3 else name(n), label=lambda n: ["AF", "normal"][n % 2])
    with pytest.raises(SkippedRecordsError, match=rf"row 5: there is no record of the name '{given}'") as caught:
        load(folder)
    assert told in str(caught.value)


def test_a_drive_of_windows_is_outside_the_folder(folder):
    table(folder, file=lambda n: rf"C:\data\{name(n)}", label=lambda n: ["AF", "normal"][n % 2])
    with pytest.raises(ECGDataError, match="row 2: a table names a file outside"):
        load(folder)


def test_files_that_are_not_read_are_counted_and_named(folder, caplog):
    (folder / "x.csv").write_text("I,II\n0.1,0.2\n")
    (folder / "y.foo").write_text("?")
    (folder / "z.dat").write_bytes(bytes(200))
    (folder / "diagnoses.xlsx").write_bytes(b"PK")
    (folder / "README.md").write_text("about")
    (folder / "labels.json").write_text("{}")
    (folder / "record.json").write_text("{}")
    (folder / f"{name(1)}.json").write_text("{}")
    load(folder)
    assert name(1) not in caplog.text
    for left in ("x.csv", "y.foo", "z.dat", "diagnoses.xlsx", "labels.json", "record.json"):
        assert left in caplog.text
    assert "README" not in caplog.text


def test_files_that_the_table_does_not_list_are_named(folder, caplog):
    save(folder, "extra", np.ones((200, 12)))
    table(folder, file=name, label=lambda n: ["AF", "normal"][n % 2])
    load(folder)
    assert "1 file was left alone, not in the table: extra.npz" in caplog.text


def test_a_csv_record_that_the_table_lists_is_not_left_alone(folder, caplog):
    np.savetxt(folder / "text.csv", np.ones((200, 2)), delimiter=",", header="I,II", comments="")
    rows = [name(number) for number in range(11)] + ["text.csv"]
    pd.DataFrame({"file": rows, "label": ["AF", "normal"] * 6, "sampling_rate": [""] * 11 + ["100"]}).to_csv(
        folder / "labels.csv", index=False
    )
    assert "text" in [one for part in load(folder).values() for one in part["record_id"]]
    assert "text.csv" not in caplog.text


def test_segments_are_no_records_of_their_own(tmp_path, write_wfdb, digital_ecg):
    root = tmp_path / "records"
    samples = digital_ecg()[:, :2]
    write_wfdb(root, "s1", samples[:400], lead_names=["I", "II"])
    write_wfdb(root, "s2", samples[400:], lead_names=["I", "II"])
    (root / "rec.hea").write_text("rec/2 2 100 1000\ns1 400\ns2 600\n")
    assert load(root)["train"]["record_id"] == ["rec"]


def test_an_excel_table_beside_the_records_is_read(folder):
    openpyxl = pytest.importorskip("openpyxl", reason="Excel tables need the extra [corpora]")
    book = openpyxl.Workbook()
    book.active.append(["file", "label"])
    for number in range(12):
        book.active.append([name(number), ["AF", "normal"][number % 2]])
    book.save(folder / "labels.xlsx")
    assert label_names(load(folder)) == ["AF", "normal"]
