"""What is wrong with a corpus is said before anything is trained on it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecg_transformers.signal.leads import STANDARD_LEADS
from ecg_transformers.training.arguments import FinetuningArguments
from ecg_transformers.training.errors import UsageError
from ecg_transformers.training.samples.splits import check_split_has_records, load_split


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
