"""A fingerprint stands for content: it changes with any of it and with nothing else."""

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
