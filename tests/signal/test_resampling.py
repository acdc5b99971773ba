"""Change of rate."""

from typing import Any

import numpy as np
import pytest
import scipy.signal

from ecg_transformers.signal.resampling import (
    check_rate,
    fourier_resample,
    linear_resample,
    resample,
    resampled_length,
)


def test_published_resampling_is_reproduced(parity: Any) -> None:
    tensors, config = parity("st_mem", "preprocess"), parity.config("st_mem", "preprocess")
    for case, settings in config.items():
        raw = tensors[f"{case}.raw"].numpy()
        result = resample(raw.T, settings["fs"], settings["target_fs"])
        expected = tensors[f"{case}.resampled"].numpy().T
        assert result.dtype == expected.dtype, case
        np.testing.assert_allclose(result, expected, atol=1e-6 if result.dtype == np.float32 else 1e-9, err_msg=case)


@pytest.mark.parametrize("old", [64, 65, 257])
@pytest.mark.parametrize("new", [32, 33, 63, 64, 65, 128, 129, 999])
def test_fourier_equals_scipy_for_even_and_odd_lengths(old: int, new: int) -> None:
    signal = np.random.default_rng(0).standard_normal((old, 3))
    np.testing.assert_allclose(fourier_resample(signal, new), scipy.signal.resample(signal, new, axis=0), atol=1e-12)


def test_batches_longer_than_a_block_equal_single_records() -> None:
    batch = np.random.default_rng(0).standard_normal((30, 12, 100)).astype(np.float32)
    together = resample(batch, 100, 250, axis=-1)
    alone = np.stack([resample(record, 100, 250, axis=-1) for record in batch])
    np.testing.assert_array_equal(together, alone)
    assert together.dtype == np.float32


@pytest.mark.parametrize("method", ["fourier", "polyphase"])
@pytest.mark.parametrize(("source", "target"), [(500, 250), (100, 250), (257, 250), (409.6, 250), (360, 100)])
def test_a_slow_wave_survives_and_the_duration_is_kept(method: str, source: float, target: float) -> None:
    length = int(10 * source)
    wave = np.sin(2 * np.pi * 1.5 * np.arange(length) / source)[:, None]
    result = resample(wave, source, target, method=method)
    assert len(result) == resampled_length(length, source, target)
    expected = np.sin(2 * np.pi * 1.5 * np.arange(len(result)) / target)[:, None]
    middle = slice(len(result) // 5, -len(result) // 5)
    assert np.abs(result - expected)[middle].max() < 0.02


@pytest.mark.parametrize("method", ["fourier", "polyphase"])
def test_what_lies_above_the_new_nyquist_frequency_is_removed(method: str) -> None:
    wave = np.sin(2 * np.pi * 180 * np.arange(5000) / 500)[:, None]
    assert np.abs(resample(wave, 500, 250, method=method)[200:-200]).max() < 0.01


def test_equal_rates_change_nothing() -> None:
    record = np.random.default_rng(0).standard_normal((100, 2))
    assert resample(record, 250, 250.0) is record


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), 1e9, 0.5, "fast", None])
def test_absurd_rates_are_refused(rate: Any) -> None:
    with pytest.raises(ValueError, match="rate"):
        check_rate(rate)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((500.0, 1.0), "changes the rate by more than"),
        ((500.0, 250.0, "spline"), "method"),
    ],
)
def test_resampling_without_meaning_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resample(np.ones((100, 1)), *arguments)


@pytest.mark.parametrize(("old", "new"), [(500, 1000), (400, 2000), (3000, 1500), (257, 100), (5, 1), (1, 4)])
def test_straight_lines_keep_both_ends(old: int, new: int) -> None:
    signal = np.random.default_rng(0).standard_normal((old, 3))
    result = linear_resample(signal, new)
    position = np.arange(new) * (old - 1) / max(new - 1, 1)
    expected = np.stack([np.interp(position, np.arange(old), column) for column in signal.T], axis=1)
    np.testing.assert_allclose(result, expected, atol=1e-12)
    np.testing.assert_allclose(result[0], signal[0])
    np.testing.assert_allclose(result[-1], signal[-1 if new > 1 else 0])


def test_published_rules_for_the_number_of_samples() -> None:
    assert resampled_length(642, 257, 240) == 599
    assert resampled_length(848, 257, 100, "round") == 330
    assert [resampled_length(length, 400, 100, "round") for length in (2, 6, 10)] == [0, 2, 2]  # half to even
    assert resampled_length(666, 333, 500) == 1000
    assert resampled_length(666, 333, 500, "ratio_first") == 999  # the rounded ratio comes first
    with pytest.raises(ValueError, match="rounding"):
        resampled_length(10, 100, 50, "up")
    signal = np.zeros((1003, 2))
    assert len(resample(signal, 400, 500, "linear", rounding="round")) == 1254
    assert len(resample(signal, 400, 500, "linear")) == 1253
