"""A fingerprint stands for content: it changes with any of it and with nothing else."""

import json

import pytest

from ecg_transformers.data.fingerprint import dataset_fingerprint
from ecg_transformers.data.loading import load_ecg_dataset


def test_order_cache_and_process_do_not_matter(tmp_path):
    first = load_ecg_dataset("synthetic", num_records=20, cache_dir=tmp_path / "a")
    second = load_ecg_dataset("synthetic", num_records=20, cache_dir=tmp_path / "b")
    assert dataset_fingerprint(first) == dataset_fingerprint(second)
    assert dataset_fingerprint(first["train"].shuffle(seed=1)) == dataset_fingerprint(first["train"])
    assert len(dataset_fingerprint(first["train"])) == 16


def test_any_change_of_content_shows(tmp_path):
    plain = load_ecg_dataset("synthetic", split="train", num_records=20, cache_dir=tmp_path)
    changed = [
        load_ecg_dataset("synthetic", split="train", num_records=20, seed=1, cache_dir=tmp_path),
        load_ecg_dataset("synthetic", split="train", num_records=20, task=None, cache_dir=tmp_path),
        plain.select(range(len(plain) - 1)),
        plain.map(
            lambda row, n: {"labels": row["labels"] if n else ["x"]},
            with_indices=True,
            cache_file_name=str(tmp_path / "m.arrow"),
        ),
    ]
    prints = [dataset_fingerprint(dataset) for dataset in [plain, *changed]]
    assert len(set(prints)) == len(prints)


CHANGES = {
    "patient_id": "somebody else",
    "fold": 7,
    "sampling_rate": 251.0,
    "metadata": json.dumps({"age": 41}),
    "beat_samples": [10, 400],
    "beat_symbols": ["N", "V"],
    "beat_labels": ["N", "V"],
    "minute_labels": [0, 1],
    "wave_leads": ["II"],
    "wave_samples": [12],
    "wave_symbols": ["("],
}


@pytest.mark.parametrize("column", CHANGES)
def test_every_column_that_a_figure_can_depend_on_is_seen(column, tmp_path):
    plain = load_ecg_dataset("synthetic", split="train", num_records=20, cache_dir=tmp_path)
    changed = plain.map(
        lambda row, n: {column: CHANGES[column] if n == 0 else row[column]},
        with_indices=True,
        features=plain.features,
        cache_file_name=str(tmp_path / "m.arrow"),
    )
    assert dataset_fingerprint(changed) != dataset_fingerprint(plain)
