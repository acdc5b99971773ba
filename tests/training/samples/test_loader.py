"""From records to batches: padding, the cache, records that cannot be used."""

import numpy as np
import pytest
import torch

from ecg_transformers.data.loading import RecordTable, load_ecg_dataset
from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor
from ecg_transformers.training.errors import UsageError
from ecg_transformers.training.samples.loader import BadSample, PreparedRecords, TrainingSamples, collate
from ecg_transformers.training.samples.splits import Split
from ecg_transformers.training.samples.views import View, build_view, classifier_view


class Halves:
    """An extractor whose crops are halves of a record; negative records cannot be used."""

    lead_names = lead_table = None

    def prepare(self, record):
        if record < 0:
            raise ValueError(f"record {record} is bad.")
        return np.full((1, 4), float(record), dtype=np.float32)

    def finish(self, prepared, crop_start=None, *, num_crops=None, generator=None):
        start = int(generator.integers(3)) if generator is not None else 1
        return prepared[:, start : start + 2]


def samples(records: list[int], labels: np.ndarray | None = None) -> TrainingSamples:
    names = [str(record) for record in records]
    split = Split("train", records, names, [None] * len(records), labels)
    return TrainingSamples(split, build_view("crop", Halves()), seed=0, cache_mb=1)


def test_beats_of_different_numbers_are_padded_with_zeros_at_the_end() -> None:
    batch = collate([{"beats": np.ones((count, 2), dtype=np.float32)} for count in (3, 1)])
    assert batch["beats"].shape == (2, 3, 2)
    assert batch["beats"][1].tolist() == [[1, 1], [0, 0], [0, 0]]


def test_a_bad_record_makes_its_batch_bad_and_is_named() -> None:
    data = samples([1, -2])
    batch = collate([data[0, 0], data[0, 1]])
    assert isinstance(batch, BadSample)
    assert "record -2 is bad" in batch.message
    with pytest.raises(UsageError, match="record -2 is bad"):
        data.check([0, 1])


def test_samples_carry_their_labels() -> None:
    data = samples([1, 2], np.asarray([5, 6]))
    assert [data[0, index]["labels"] for index in (0, 1)] == [5, 6]


def test_a_record_is_prepared_once_while_the_cache_has_room() -> None:
    asked: list[int] = []

    def prepare(record: int) -> np.ndarray:
        asked.append(record)
        return np.zeros(2**17)  # a megabyte

    prepared = PreparedRecords([1, 2, 3], prepare, cache_mb=2)
    for _ in range(2):
        for index in range(3):
            prepared[index]
    assert asked == [1, 2, 3, 3]


@pytest.mark.parametrize(("name", "expected"), [("crop", "crop"), ("two_crops", "crop"), ("adjacent_segments", "crop")])
def test_a_classifier_sees_single_crops_whatever_the_objective_saw(name: str, expected: str) -> None:
    assert type(classifier_view(name, Halves())) is type(build_view(expected, Halves()))


def test_the_classifier_of_beats_sees_beats() -> None:
    assert isinstance(classifier_view("beats", Halves()), View)
    assert type(classifier_view("beats", Halves())) is type(build_view("beats", Halves()))


def test_an_unknown_view_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="did you mean 'two_crops'"):
        build_view("two_crop", Halves())


@pytest.mark.parametrize("view", ["crop", "two_crops", "adjacent_segments"])
def test_samples_that_a_device_cuts_are_those_of_the_host(view: str) -> None:
    dataset = load_ecg_dataset("synthetic", split="train", num_records=20)
    records = RecordTable(dataset)
    split = Split("train", records, records.record_ids, records.patient_ids, np.arange(len(records)))
    split = split.select([5, 0, 3, 2])
    extractor = ECGFeatureExtractor.for_method("cmsc", fast=True)
    host = TrainingSamples(split, build_view(view, extractor), seed=0, cache_mb=1)
    late = host.uncut()
    assert late is not host
    expected, batch = (collate([those[1, index] for index in range(4)]) for those in (host, late))
    assert batch["input_values"].groups[0].signals.dtype == torch.int16
    assert (batch["input_values"].to("cpu") - expected["input_values"]).abs().max() < 1e-5
    assert all(torch.equal(batch[name], expected[name]) for name in set(expected) - {"input_values"})
    for on_host in (
        build_view(view, ECGFeatureExtractor.for_method("cmsc")),
        build_view(view, extractor, lambda x, _: x),
    ):
        kept = TrainingSamples(split, on_host, seed=0, cache_mb=1)
        assert kept.uncut() is kept  # exact filters and augmentations are the host's work
