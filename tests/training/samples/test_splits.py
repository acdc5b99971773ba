"""What is wrong with a corpus is said before anything is trained on it; who is a patient."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
from support.small_runs import small_pretraining

from ecg_transformers.signal.leads import STANDARD_LEADS
from ecg_transformers.training.arguments import FinetuningArguments
from ecg_transformers.training.errors import UsageError
from ecg_transformers.training.pretraining import pretrain
from ecg_transformers.training.samples.splits import Split, check_split_has_records, load_split


@pytest.fixture
def own_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four records of an own folder; its name holds a comma."""
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "ward 3, 2026"
    folder.mkdir()
    for number in range(4):
        signal = np.random.default_rng(number).standard_normal((1000, 12)).astype(np.float32)
        np.savez(folder / f"r{number}.npz", signal=signal, sampling_rate=100.0, lead_names=np.array(STANDARD_LEADS))
    return folder


def labelled(folder: Path, labels: list[str], splits: list[str]) -> FinetuningArguments:
    rows = [f"r{number}.npz,{label},{split}" for number, (label, split) in enumerate(zip(labels, splits, strict=True))]
    (folder / "labels.csv").write_text("\n".join(["file,label,split", *rows]) + "\n")
    return FinetuningArguments(dataset="folder", data_dir=str(folder))


def load(settings: FinetuningArguments, split: str = "train") -> Any:
    return load_split(settings, split, labelled=True)


def test_one_folder_may_have_a_comma_in_its_name(own_records: Path) -> None:
    settings = labelled(own_records, ["a", "b", "a", "b"], ["train", "train", "validation", "test"])
    assert len(load(settings)) == 2
    check_split_has_records(settings, "test")


def test_an_empty_test_split_is_found_without_reading_a_record(own_records: Path) -> None:
    settings = labelled(own_records, ["a", "b", "a", "b"], ["train", "train", "validation", "validation"])
    with pytest.raises(UsageError, match="test split of folder holds no record"):
        check_split_has_records(settings, "test")


def test_a_single_class_is_no_classification(own_records: Path) -> None:
    settings = labelled(own_records, ["a"] * 4, ["train", "train", "validation", "test"])
    with pytest.raises(UsageError, match="two classes"):
        load(settings)


def test_own_records_without_labels_are_told_what_is_missing(own_records: Path) -> None:
    with pytest.raises(UsageError, match=r"labels\.csv"):
        load(FinetuningArguments(dataset="folder", data_dir=str(own_records)))


def test_a_patient_is_known_by_corpus_and_id() -> None:
    patients = ["1", "1", "1", None, None, None]
    records = ["a", "b", "c", "1", "1", "2"]
    sources = ["x", "x", "y", "x", "y", "x"]
    keys = Split("train", [0] * 6, records, patients, sources=sources).patient_keys()
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


def test_published_folds_choose_the_training_records_of_a_run(own_records: Path, tmp_path: Path) -> None:
    table = tmp_path / "folds.csv"
    table.write_text("file,fold\nr0.npz,1\nr1.npz,2\nr2.npz,3\nr3.npz,1\n")
    small = {"per_device_batch_size": 2, "recipe_overrides": "batch_size=2"}
    own = {"dataset": "folder", "data_dir": str(own_records), "dataset_options": "", "folds": str(table)}
    summary = pretrain(small_pretraining(tmp_path / "run", max_steps=1, **small, **own))
    assert summary.dataset["records"] == 2
    assert load_split(small_pretraining(tmp_path, **own), "test").record_ids == ["r2"]
    other = small_pretraining(tmp_path, test_folds="1", validation_folds="2", **own)
    assert load_split(other, "test").record_ids == ["r0", "r3"]


def test_a_run_says_which_test_records_it_was_trained_on(own_records: Path, tmp_path: Path, capsys: Any) -> None:
    """In the log and the card: two of the four records lie in the evaluation, resampled and scaled."""
    held = tmp_path / "held"
    held.mkdir()
    for number in (1, 3, 9):
        signal = np.random.default_rng(number).standard_normal((1000, 12)).astype(np.float32)
        signal = scipy.signal.resample(signal, 5000, axis=0) * 2.5
        np.savez(held / f"x{number}.npz", signal=signal, sampling_rate=500.0, lead_names=np.array(STANDARD_LEADS))
    small = {"per_device_batch_size": 2, "recipe_overrides": "batch_size=2"}
    own = {"dataset": "folder", "data_dir": str(own_records), "dataset_options": "", "overlap_with": f"folder={held}"}
    summary = pretrain(small_pretraining(tmp_path / "run", max_steps=1, **small, **own))
    (flag,) = summary.dataset["overlap"]
    assert (flag["records"], flag["found"]) == (3, 2)
    assert flag["sentence"] in capsys.readouterr().err
    assert f"- {flag['sentence']}\n" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
