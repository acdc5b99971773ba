"""PTB-XL: published counts, folds and label rules."""

import shutil

import numpy as np
import pytest

from ecg_transformers.data.corpora import make_corpus
from ecg_transformers.data.corpora.ptb_xl import TASKS, label_names_of, labels_of, parse_codes, read_statements
from ecg_transformers.data.errors import (
    ECGDataError,
    LabelError,
    OptionError,
    RecordNotFoundError,
    SkippedRecordsError,
    TableError,
)
from ecg_transformers.data.loading import RecordTable, build_report, label_names, load_ecg_dataset, task_kind


def test_tasks_have_their_published_number_of_classes(ecg_data_dir):
    statements = read_statements(ecg_data_dir / "ptb-xl" / "scp_statements.csv")
    sizes = {task: len(label_names_of(task, statements)) for task in TASKS}
    assert sizes == {"all": 71, "diagnostic": 44, "subclass": 23, "superclass": 5, "form": 19, "rhythm": 12}
    assert label_names_of("superclass", statements) == ["CD", "HYP", "MI", "NORM", "STTC"]


def test_real_counts_by_class_and_fold_are_those_of_the_corpus(ecg_data_dir):
    plan = make_corpus("ptb_xl", ecg_data_dir / "ptb-xl", {"task": "superclass", "drop_unlabelled": False}).plan()
    assert {split: len(items) for split, items in plan.splits.items()} == {
        "train": 865,
        "validation": 242,
        "test": 255,
    }
    counts = {name: sum(name in item.labels for item in plan.items) for name in plan.label_names}
    assert counts == {"NORM": 706, "MI": 263, "STTC": 329, "CD": 276, "HYP": 156}
    assert sum(not item.labels for item in plan.items) == 19
    assert {item.fold for item in plan.splits["train"]} == set(range(1, 9))
    patients = [{item.patient_id for item in items} for items in plan.splits.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 1264


def test_unlabelled_records_are_dropped_for_supervised_tasks_only(ecg_data_dir):
    folder = ecg_data_dir / "ptb-xl"
    sizes = {
        task: len(make_corpus("ptb_xl", folder, {"task": task}).plan().items) for task in ("all", "superclass", None)
    }
    assert sizes == {"all": 1362, "superclass": 1343, None: 1362}
    plan = make_corpus("ptb_xl", folder, {"task": "superclass"}).plan()
    assert plan.excluded == {"no label of the task superclass": 19}


def test_real_records_come_out_bit_equal(ecg_data_dir, tmp_path):
    import wfdb

    corpus = load_ecg_dataset("ptb_xl", ecg_data_dir / "ptb-xl", split="test", folds=[10], cache_dir=tmp_path)
    table = RecordTable(corpus)
    for index in range(0, len(table), 40):
        record = table.record(index)
        truth = wfdb.rdrecord(str(ecg_data_dir / "ptb-xl" / record.metadata["file"])).p_signal
        np.testing.assert_array_equal(record.signal, truth.astype(np.float32))


def test_a_missing_resolution_fails_loudly_unless_allowed(ecg_data_dir, tmp_path):
    folder = ecg_data_dir / "ptb-xl"
    with pytest.raises(SkippedRecordsError, match=r"1342 of 1362 records.*_hr\.hea"):
        load_ecg_dataset("ptb_xl", folder, sampling_rate=500, cache_dir=tmp_path)
    corpus = load_ecg_dataset("ptb_xl", folder, sampling_rate=500, cache_dir=tmp_path, max_skipped=1.0)
    assert {split: len(dataset) for split, dataset in corpus.items()} == {"train": 16, "validation": 2, "test": 2}
    report = build_report("ptb_xl", folder, sampling_rate=500, cache_dir=tmp_path, max_skipped=1.0)
    assert (report.read, report.reasons) == (20, {"RecordNotFoundError": 1342})


def test_a_native_folder_builds_with_folds_patients_and_metadata(mini_ptb_xl, tmp_path):
    corpus = load_ecg_dataset("ptb_xl", mini_ptb_xl, task="superclass", drop_unlabelled=False, cache_dir=tmp_path)
    assert {split: len(dataset) for split, dataset in corpus.items()} == {"train": 16, "validation": 2, "test": 2}
    assert label_names(corpus) == ["MI", "NORM", "STTC"]
    assert task_kind(corpus) == "multilabel"
    record = RecordTable(corpus["train"]).record(0)
    assert (record.record_id, record.patient_id, record.sampling_rate) == ("1", "1001", 100)
    assert record.metadata["age_over_89"] is True
    assert record.metadata["age"] is None
    assert corpus["test"][0]["fold"] == 10


def test_the_likelihood_threshold_acts_on_diagnostic_statements_only(mini_ptb_xl):
    statements = read_statements(mini_ptb_xl / "scp_statements.csv")
    codes = {"IMI": 35.0, "NDT": 0.0, "ABQRS": 0.0, "AFIB": 0.0}
    assert labels_of(codes, "all", statements, None) == ("ABQRS", "AFIB", "IMI", "NDT")
    assert labels_of(codes, "all", statements, 50) == ("ABQRS", "AFIB")
    assert labels_of(codes, "rhythm", statements, 50) == ("AFIB",)
    assert labels_of(codes, "form", statements, 50) == ("ABQRS", "NDT")
    assert labels_of(codes, "superclass", statements, 30) == ("MI",)


def test_rare_classes_can_be_left_out(mini_ptb_xl):
    plan = make_corpus("ptb_xl", mini_ptb_xl, {"task": "all", "min_samples": 5}).plan()
    assert plan.label_names == ["SR"]
    assert all(set(item.labels) <= {"SR"} for item in plan.items)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "superclas"}, "did you mean 'superclass'"),
        ({"sampling_rate": 250}, "250"),
        ({"likelihood_min": 200}, "0 to 100"),
        ({"tsk": "all"}, "did you mean 'task'"),
    ],
)
def test_wrong_options_name_the_nearest(mini_ptb_xl, options, message):
    with pytest.raises(OptionError, match=message):
        load_ecg_dataset("ptb_xl", mini_ptb_xl, **options)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda text: text.replace("strat_fold", "fold"), TableError, r"\['strat_fold'\] are missing"),
        (lambda text: text.splitlines()[0] + "\n", TableError, "no rows"),
        (lambda text: "", TableError, "empty"),
        (lambda text: text.replace("'NORM'", "'NROM'"), LabelError, r"\['NROM'\] are not in scp_statements"),
        (lambda text: text.replace("{'NORM'", "__import__('os').x({'NORM'"), TableError, "not statements"),
        (lambda text: text.replace("\n2,", "\n1,"), ECGDataError, "more than once"),
        (lambda text: text.replace("1003.0", "many"), TableError, "not an integer"),
    ],
)
def test_broken_tables_are_refused_in_a_sentence(mini_ptb_xl, tmp_path, change, error, message):
    folder = tmp_path / "corpus"
    shutil.copytree(mini_ptb_xl, folder)
    table = folder / "ptbxl_database.csv"
    table.write_text(change(table.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(error, match=message):
        load_ecg_dataset("ptb_xl", folder, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("**/*.arrow"))


def test_a_missing_folder_or_table_is_named(tmp_path):
    with pytest.raises(RecordNotFoundError, match="no such folder"):
        load_ecg_dataset("ptb_xl", tmp_path / "nowhere")
    with pytest.raises(OptionError, match="needs data_dir"):
        load_ecg_dataset("ptb_xl")
    with pytest.raises(RecordNotFoundError, match=r"scp_statements\.csv"):
        load_ecg_dataset("ptb_xl", tmp_path)


def test_codes_are_parsed_never_evaluated(tmp_path):
    assert parse_codes("{'NORM': 100.0, 'SR': 0}", tmp_path, "1") == {"NORM": 100.0, "SR": 0.0}
    for text in ("[1]", "{'a': 'b'}", "{1: 2}", "open('x')", "{" * 500, "{'a': 1}" + " " * 2000, ""):
        with pytest.raises(TableError):
            parse_codes(text, tmp_path, "1")
