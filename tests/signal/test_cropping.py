"""Where crops start."""

from typing import Any

import numpy as np
import pytest

from ecg_transformers.signal.cropping import (
    center_start,
    evenly_spaced_starts,
    pad_to,
    random_start,
    sliding_starts,
    take_crops,
)


def test_published_crop_tables_are_reproduced(parity: Any) -> None:
    tensors = parity("st_mem", "crops")
    table = tensors["ncrop.table"].tolist()
    for length, crop, asked, returned in (row for row in table if row[3] >= 0):
        starts = evenly_spaced_starts(length, crop, asked, "official")
        assert len(starts) == returned
        assert starts == tensors.get(f"ncrop.L{length}.c{crop}.n{asked}", np.array(starts)).tolist()
    for length, crop, asked, _ in (row for row in table if row[3] < 0):
        with pytest.raises(ValueError, match="published rule"):
            evenly_spaced_starts(length, crop, asked, "official")
    assert sliding_starts(333, 100, 40) == tensors["moving.L333.c100.s40"].tolist()


def test_centre_crops_are_reproduced(parity: Any) -> None:
    tensors, config = parity("st_mem", "preprocess"), parity.config("st_mem", "preprocess")
    for case, settings in config.items():
        assert center_start(settings["resampled_length"], settings["crop"]) == int(tensors[f"{case}.center_crop_start"])


@pytest.mark.parametrize("room", [0, 1, 2, 3, 7, 250, 253])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 30])
def test_the_exact_policy_gives_exactly_k_crops_inside_the_record(room: int, count: int) -> None:
    starts = evenly_spaced_starts(100 + room, 100, count)
    assert len(starts) == count
    assert starts == sorted(starts)
    assert starts[0] >= 0
    assert starts[-1] <= room


@pytest.mark.parametrize(("length", "count"), [(2500, 3), (2500, 2), (2500, 7), (2503, 3), (2560, 3)])
def test_the_exact_policy_equals_the_published_rule_where_that_gives_k(length: int, count: int) -> None:
    official = evenly_spaced_starts(length, 2250, count, "official")
    assert len(official) == count
    assert evenly_spaced_starts(length, 2250, count) == official


def test_random_starts_reach_both_ends() -> None:
    generator = np.random.default_rng(0)
    assert {random_start(13, 10, generator) for _ in range(200)} == {0, 1, 2, 3}
    assert random_start(10, 10, generator) == 0


def test_sliding_crops_can_reach_the_end() -> None:
    assert sliding_starts(105, 50, 25) == [0, 25, 50]
    assert sliding_starts(105, 50, 25, keep_end=True) == [0, 25, 50, 55]


def test_crops_are_slices() -> None:
    signals = np.arange(48.0).reshape(2, 2, 12)
    crops = take_crops(signals, [0, 5], 4)
    assert crops.shape == (2, 2, 2, 4)
    np.testing.assert_array_equal(crops[1, 1], signals[1, :, 5:9])


def test_padding_lengthens_at_the_end() -> None:
    record = np.arange(1.0, 4.0)[:, None]
    assert pad_to(record, 5, "zero")[:, 0].tolist() == [1, 2, 3, 0, 0]
    assert pad_to(record, 5, "edge")[:, 0].tolist() == [1, 2, 3, 3, 3]
    assert pad_to(record, 2, "edge") is record
    with pytest.raises(ValueError, match="pad must be"):
        pad_to(record, 5, "wrap")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: center_start(99, 100), r"99 samples, the crop needs 100"),
        (lambda: evenly_spaced_starts(200, 100, 0), "num_crops"),
        (lambda: evenly_spaced_starts(200, 100, 2, "about"), "crop_policy"),
        (lambda: sliding_starts(200, 100, 0), "stride"),
        (lambda: center_start(10, 0), "at least one sample"),
    ],
)
def test_crops_that_do_not_fit_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_zeros_on_both_sides_leave_the_odd_one_behind() -> None:
    padded = pad_to(np.ones((2, 4)), 9, "both", axis=-1)
    assert padded[0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0]
    assert pad_to(np.ones((2, 4)), 3, "both", axis=-1).shape == (2, 4)
