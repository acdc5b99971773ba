"""Fast access gives exactly what the rows hold, without copying samples."""

import pickle

import numpy as np
import pytest

from ecg_transformers.data.loading import RecordTable, load_ecg_dataset
from ecg_transformers.data.record import DigitalRecord, ECGRecord, record_features


def a_dataset():
    """Records of different lengths, leads, gains and offsets, one with missing values."""
    import datasets

    rng = np.random.default_rng(0)
    rows = []
    for number, (length, gains, offsets) in enumerate(
        [
            (50, [1000.0] * 3, [0.0] * 3),
            (70, [204.8, 200.0], [1024.0, -3.0]),
            (60, [0.5], [0.0]),
            (40, [1000.0] * 3, [0.0] * 3),
        ]
    ):
        samples = rng.integers(-3000, 3000, (length, len(gains))).astype(np.int16)
        samples[3, 0] = -32768 if number in (0, 1) else 5
        record = DigitalRecord(
            samples,
            np.array(gains),
            np.array(offsets),
            100.0 + number,
            ["I", "II", "V1"][: len(gains)],
            f"r{number}",
            labels=["a"] if number % 2 else [],
            annotations={"beat_samples": np.array([1, 2]), "beat_symbols": np.array(["N", "V"])}
            if number == 2
            else None,
        )
        rows.append(record.to_row(["a", "b"], "multilabel"))
    return datasets.Dataset.from_list(rows, features=record_features(["a", "b"]))


@pytest.mark.parametrize("view", ["plain", "selected", "shuffled", "concatenated", "torch format"])
def test_the_table_equals_the_rows(view):
    import datasets

    dataset = a_dataset()
    if view == "selected":
        dataset = dataset.select([3, 1])
    elif view == "shuffled":
        dataset = dataset.shuffle(seed=1)
    elif view == "concatenated":
        dataset = datasets.concatenate_datasets([dataset, dataset.select([2])])
    rows = [dataset.with_format(None)[n] for n in range(len(dataset))]
    if view == "torch format":
        dataset = dataset.with_format("torch")
    table = RecordTable(dataset)
    assert len(table) == len(rows)
    for index, row in enumerate(rows):
        expected, got = ECGRecord.from_row(row), table[index]
        np.testing.assert_array_equal(got.signal, expected.signal)
        np.testing.assert_array_equal(table.signal(index), expected.signal)
        assert got.signal.dtype == np.float32
        for name in ("record_id", "lead_names", "sampling_rate", "labels", "metadata"):
            assert getattr(got, name) == getattr(expected, name)
        assert table.label_matrix()[index].tolist() == row["label_vector"]
        assert (got.annotations is None) == (expected.annotations is None)
    assert table.record_ids == [row["record_id"] for row in rows]


def test_samples_are_views_of_the_memory_map(tmp_path):
    table = RecordTable(load_ecg_dataset("synthetic", split="train", num_records=10, cache_dir=tmp_path))
    view = table.samples(0)
    assert view.dtype == np.int16
    assert not view.flags.owndata
    assert not view.flags.writeable
    assert np.shares_memory(view, table.samples(0))


def test_negative_and_absent_indices(tmp_path):
    table = RecordTable(a_dataset())
    assert table.record(-1).record_id == "r3"
    for index in (4, -5):
        with pytest.raises(IndexError):
            table.record(index)


def test_it_travels_to_worker_processes(tmp_path):
    table = RecordTable(load_ecg_dataset("synthetic", split="train", num_records=10, cache_dir=tmp_path).select([4, 2]))
    copy = pickle.loads(pickle.dumps(table))
    np.testing.assert_array_equal(copy.signal(1), table.signal(1))


def test_batches_come_in_one_call():
    table = RecordTable(a_dataset())
    assert [record.record_id for record in table.__getitems__([2, 0])] == ["r2", "r0"]
