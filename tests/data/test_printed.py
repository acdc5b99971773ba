"""A row prints at a length one reads, and is a plain dictionary in all else."""

import pickle

import pytest

from ecg_transformers import ECGRecord, load_ecg_dataset

DERIVED = {
    "itself": lambda rows: rows,
    "selected": lambda rows: rows.select([3, 1]),
    "contiguous": lambda rows: rows.select(range(2)),
    "shuffled": lambda rows: rows.shuffle(seed=1),
    "filtered": lambda rows: rows.filter(lambda row: row["num_samples"] > 0),
    "mapped": lambda rows: rows.map(lambda row: {"more": [0.5] * 5000}),
    "split": lambda rows: rows.train_test_split(0.5, seed=1)["test"],
    "without a column": lambda rows: rows.remove_columns(["gain"]),
    "pickled": lambda rows: pickle.loads(pickle.dumps(rows)),
}


@pytest.fixture(scope="module")
def rows():
    return load_ecg_dataset("synthetic", split="train", num_records=20)


@pytest.mark.parametrize("way", DERIVED)
def test_a_row_of_any_dataset_made_from_a_corpus_prints_short(rows, way):
    made = DERIVED[way](rows)
    for row, longest in ((made[0], 2500), (next(iter(made)), 2500), (made[:2], 5000)):
        assert "bytes>" in str(row)
        assert len(str(row)) < longest


def test_a_row_holds_what_the_plain_dataset_holds(rows):
    row = rows[2]
    plain = {name: rows.data.column(name)[2].as_py() for name in rows.column_names}
    assert row == plain
    assert isinstance(row, dict)
    assert ECGRecord.from_row(row).signal.shape == (row["num_samples"], len(row["lead_names"]))


def test_other_formats_stay_what_they_are(rows):
    assert rows.with_format("pandas")[:2].shape == (2, len(rows.column_names))
    assert rows.with_format("numpy")[0]["gain"].shape == (12,)
    assert list(rows["record_id"])[:1] == [rows[0]["record_id"]]
