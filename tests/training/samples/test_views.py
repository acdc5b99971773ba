"""What views know about records: who is a patient."""

from pathlib import Path

from support.small_runs import small_pretraining

from ecg_transformers.training.samples.splits import Split, load_split
from ecg_transformers.training.samples.views import patient_keys


def test_a_patient_is_known_by_corpus_and_id() -> None:
    patients = ["1", "1", "1", None, None, None]
    records = ["a", "b", "c", "1", "1", "2"]
    sources = ["x", "x", "y", "x", "y", "x"]
    keys = patient_keys(patients, records, sources)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 5
    assert all(0 <= key < 2**63 for key in keys)


def test_a_selection_keeps_the_corpora_of_its_records() -> None:
    split = Split("train", [0, 1, 2], ["a", "b", "c"], ["1", "1", "1"], sources=["x", "y", "z"])
    assert split.select([2, 0]).sources == ["z", "x"]
    assert Split("train", [0, 1], ["a", "b"], [None, None]).sources == ["", ""]


def test_a_loaded_split_says_which_corpus_each_record_is_from(tmp_path: Path) -> None:
    split = load_split(small_pretraining(tmp_path), "train")
    assert split.sources == ["synthetic"] * len(split)
