"""A user's own folder: tried as a newcomer would, mistakes included."""

import csv
from pathlib import Path

import numpy as np
import pytest

from ecg_transformers.data.errors import (
    DuplicateRecordError,
    ECGDataError,
    LabelError,
    OptionError,
    SkippedRecordsError,
    TableError,
)
from ecg_transformers.data.loading import RecordTable, build_report, label_names, load_ecg_dataset, task_kind
from ecg_transformers.signal.synthesis import LEAD_NAMES


@pytest.fixture
def folder(tmp_path, write_wfdb, digital_ecg) -> Path:
    """Twelve WFDB records, half of them in a sub-folder; the path holds a blank and a letter beyond ASCII."""
    root = tmp_path / "meine Aufnahmen ß"
    for number in range(12):
        write_wfdb(root / ("sub" if number % 2 else "."), f"r{number:02d}", digital_ecg(number, duration=3.0))
    return root


def table(folder: Path, rows: list[dict], name: str = "labels.csv") -> None:
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def rows(**columns) -> list[dict]:
    return [
        {"file": f"r{n:02d}", "label": ["sinus", "afib"][n % 3 == 0], **{k: f(n) for k, f in columns.items()}}
        for n in range(12)
    ]


def load(folder: Path, **options):
    return load_ecg_dataset("folder", folder, cache_dir=folder.parent / "cache", **options)


def test_without_a_table_all_records_are_unlabelled_training_data(folder):
    corpus = load(folder)
    assert {part: len(dataset) for part, dataset in corpus.items()} == {"train": 12}
    assert label_names(corpus) == []
    assert task_kind(corpus) == "unlabelled"
    assert sorted(corpus["train"]["record_id"])[:2] == ["r00", "r02"]
    assert "sub/r01" in corpus["train"]["record_id"]
    assert RecordTable(corpus["train"]).record(0).labels is None


def test_one_label_per_record_is_a_multiclass_task(folder):
    table(folder, rows(patient_id=lambda n: f"p{n // 2}"))
    corpus = load(folder)
    assert label_names(corpus) == ["afib", "sinus"]
    assert task_kind(corpus) == "multiclass"
    assert set(corpus) == {"train", "validation", "test"}
    assert sum(map(len, corpus.values())) == 12
    patients = [set(dataset["patient_id"]) for dataset in corpus.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 6


def test_the_drawn_split_follows_the_seed_and_nothing_else(folder):
    table(folder, rows())
    first = {part: dataset["record_id"] for part, dataset in load(folder).items()}
    table(folder, rows()[::-1])
    again = {part: dataset["record_id"] for part, dataset in load(folder).items()}
    assert {part: sorted(ids) for part, ids in first.items()} == {part: sorted(ids) for part, ids in again.items()}
    seeds = {tuple(sorted(load(folder, seed=seed)["test"]["record_id"])) for seed in range(5)}
    assert len(seeds) > 1


def test_several_labels_per_record_by_separator_or_by_columns(folder):
    several = [{"file": r["file"], "labels": "a;b" if n % 2 else "b"} for n, r in enumerate(rows())]
    table(folder, several)
    corpus = load(folder)
    assert (label_names(corpus), task_kind(corpus)) == (["a", "b"], "multilabel")
    columns = [{"file": r["file"], "age": 1, "afib": n % 2, "mi": int(n == 3)} for n, r in enumerate(rows())]
    table(folder, columns)
    corpus = load(folder)
    assert (label_names(corpus), task_kind(corpus)) == (["afib", "mi"], "multilabel")
    matrix = np.concatenate([RecordTable(dataset).label_matrix() for dataset in corpus.values()])
    assert matrix.sum(axis=0).tolist() == [6, 1]


def test_splits_and_folds_of_the_table_are_used(folder):
    table(folder, rows(split=lambda n: ["train", "val", "test"][n % 3]))
    assert {part: len(dataset) for part, dataset in load(folder).items()} == {"train": 4, "validation": 4, "test": 4}
    table(folder, rows(fold=lambda n: n % 4 + 1))
    corpus = load(folder)
    assert set(corpus["test"]["fold"]) == {4}
    assert set(corpus["validation"]["fold"]) == {3}
    assert set(load(folder, test_folds=[1], validation_folds=[2])["test"]["fold"]) == {1}


def test_a_patient_in_two_parts_is_refused_unless_accepted(folder):
    table(folder, rows(split=lambda n: "train" if n < 6 else "test", patient_id=lambda n: f"p{n % 6}"))
    with pytest.raises(TableError, match=r"patient 'p0' is in 'train' and in 'test'"):
        load(folder)
    assert len(load(folder, patients_may_repeat=True)["test"]) == 6


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (
            lambda r: r[3].update(label="afiib"),
            {"label_names": ["sinus", "afib"]},
            LabelError,
            "row 5.*'afiib'.*did you mean 'afib'",
        ),
        (lambda r: r[3].update(label="Sinus"), {}, LabelError, "differ in case only"),
        (lambda r: r[3].update(label="a;b"), {}, LabelError, "call the column 'labels'"),
        (lambda r: [x.update(lable=x.pop("label")) for x in r], {}, TableError, "is it 'lable'"),
        (lambda r: [x.update(wo=x.pop("file")) for x in r], {}, TableError, "no column names the records"),
        (lambda r: r[3].update(file="r99"), {}, SkippedRecordsError, r"'r99'.*no such file"),
        (lambda r: r[3].update(file="../r03"), {}, ECGDataError, "outside the folder"),
        (lambda r: r[3].update(file="r04"), {}, DuplicateRecordError, "row 6 names the same record as row 5"),
        (
            lambda r: [x.update(split="training" if x["file"] != "r05" else "tset") for x in r],
            {},
            TableError,
            "'tset'",
        ),
        (lambda r: [x.update(label="") for x in r], {}, LabelError, "empty in every row"),
        (lambda r: None, {"label_column": "lable"}, TableError, "did you mean 'label'"),
        (lambda r: None, {"label_names": "sinus"}, OptionError, "is a list"),
        (lambda r: None, {"lables": None}, OptionError, "did you mean 'labels'"),
        (lambda r: None, {"labels": 5}, OptionError, "labels takes a text or none, not 5"),
        (lambda r: None, {"test_fraction": "most"}, OptionError, "test_fraction takes a number, not 'most'"),
    ],
)
def test_mistakes_are_named_in_a_sentence(folder, change, options, error, message):
    content = rows()
    change(content)
    table(folder, content)
    with pytest.raises(error, match=message):
        load(folder, **options)


def test_a_typing_error_that_looks_like_a_common_label_is_caught(folder, write_wfdb, digital_ecg):
    content = [{"file": f"r{n:02d}", "label": "sinus" if n != 4 else "sinnus"} for n in range(12)]
    table(folder, content)
    with pytest.raises(LabelError, match="'sinnus' occurs once and looks like 'sinus'"):
        load(folder)
    assert label_names(load(folder, label_names=["sinus", "sinnus"])) == ["sinus", "sinnus"]
    content[4]["label"] = "siuns"
    table(folder, content)
    with pytest.raises(LabelError, match="'siuns' occurs once and looks like 'sinus'"):
        load(folder)


def test_numbered_labels_are_no_typing_errors(folder):
    table(folder, [{"file": f"r{n:02d}", "label": "grade1" if n != 4 else "grade2"} for n in range(12)])
    assert label_names(load(folder)) == ["grade1", "grade2"]


def test_an_empty_folder_or_table_is_named(tmp_path):
    with pytest.raises(TableError, match="no record of a readable format"):
        load(tmp_path)
    (tmp_path / "labels.csv").write_text("")
    with pytest.raises(TableError, match="empty"):
        load(tmp_path)


def test_hints_reach_the_readers_and_rows_can_override_the_rate(tmp_path, digital_ecg):
    folder = tmp_path / "npy"
    folder.mkdir()
    for number in range(4):
        np.save(folder / f"r{number}.npy", digital_ecg(number))
    table(folder, [{"file": f"r{n}.npy", "label": "ab"[n % 2], "sampling_rate": "" if n else 128} for n in range(4)])
    with pytest.raises(SkippedRecordsError, match="sampling_rate"):
        load(folder)
    corpus = load(folder, sampling_rate=100, units="uV", lead_names=list(LEAD_NAMES))
    records = {
        r.record_id: r for dataset in corpus.values() for r in map(RecordTable(dataset).record, range(len(dataset)))
    }
    assert records["r0"].sampling_rate == 128
    assert records["r1"].sampling_rate == 100
    np.testing.assert_allclose(records["r1"].signal, digital_ecg(1) / 1000, atol=1e-3)


def test_csv_records_are_found_when_there_is_nothing_else(tmp_path):
    folder = tmp_path / "csv"
    folder.mkdir()
    for number in range(3):
        np.savetxt(
            folder / f"r{number}.csv",
            np.random.default_rng(number).normal(size=(200, 2)),
            delimiter=",",
            header="I,II",
            comments="",
        )
    table(folder, [{"file": f"r{n}.csv", "label": "ab"[n % 2]} for n in range(3)])
    assert sum(map(len, load(folder, sampling_rate=100).values())) == 3
    with pytest.raises(SkippedRecordsError, match=r"pass sampling_rate"):
        list(load(folder, streaming=True, split="train"))


def test_a_broken_record_is_reported_with_its_reason(folder):
    table(folder, rows())
    (folder / "r04.dat").write_bytes(b"short")
    with pytest.raises(SkippedRecordsError, match=r"1 of 12 records.*'r04'.*the file holds 0"):
        load(folder)
    assert sum(map(len, load(folder, max_skipped=0.1).values())) == 11
    report = build_report("folder", folder, max_skipped=0.1, cache_dir=folder.parent / "cache")
    assert report.read == 11
    assert report.reasons == {"TruncatedError": 1}
    assert report.skipped[0]["record"] == "r04"
    assert "11 records read" in str(report)


def test_a_linked_file_outside_the_folder_is_not_read(folder, tmp_path, write_wfdb, digital_ecg):
    outside = write_wfdb(tmp_path / "outside", "x", digital_ecg())
    (folder / "x.hea").symlink_to(outside)
    (folder / "x.dat").symlink_to(outside.with_suffix(".dat"))
    with pytest.raises(SkippedRecordsError, match="outside its folder"):
        load(folder)
