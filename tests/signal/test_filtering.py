"""Zero-phase filters, exact and fast."""

from typing import Any

import numpy as np
import pytest
import scipy.signal

from ecg_transformers.signal.filtering import (
    butterworth,
    fast_filter,
    zero_phase_band_pass,
    zero_phase_filter,
    zero_phase_notch,
)
from ecg_transformers.signal.normalization import standardize

CHAIN = (("highpass", 0.67, 5), ("lowpass", 40.0, 5))


def exact_chain(signal: np.ndarray, chain: tuple[tuple[str, float, int], ...], rate: float) -> np.ndarray:
    for kind, cutoff, order in chain:
        signal = zero_phase_filter(signal, kind, cutoff, rate, order, axis=-1)
    return signal


def ecg_like(batch: int, length: int, seed: int = 0, drift: float = 0.5, offset: float = 5.0) -> np.ndarray:
    """Sharp beats, noise, slow drift and an offset, (batch, 12, length)."""
    generator = np.random.default_rng(seed)
    time = np.arange(length) / 250
    beats = np.exp(-(((time % 0.8) - 0.3) ** 2) / (2 * 0.015**2))
    waves = drift * np.sin(2 * np.pi * 0.2 * time + generator.uniform(0, 6, (batch, 12, 1))) + offset
    scale = generator.uniform(-1.5, 1.5, (batch, 12, 1))
    return scale * beats + waves + 0.02 * generator.standard_normal((batch, 12, length))


def test_published_coefficients_and_filters_are_reproduced(parity: Any) -> None:
    tensors, config = parity("st_mem", "preprocess"), parity.config("st_mem", "preprocess")
    for name, kind, cutoff in (("highpass.0p67", "highpass", 0.67), ("lowpass.40", "lowpass", 40.0)):
        np.testing.assert_allclose(butterworth(kind, cutoff, 250), tensors[f"sos.{name}.fs250"].numpy(), atol=1e-12)
    for case, settings in config.items():
        start = int(tensors[f"{case}.train.crop_offset"])
        crop = tensors[f"{case}.resampled"].numpy()[:, start : start + settings["crop"]]
        high = zero_phase_filter(crop, "highpass", 0.67, 250, axis=-1)
        low = zero_phase_filter(high, "lowpass", 40, 250, axis=-1)
        np.testing.assert_allclose(high, tensors[f"{case}.train.highpass"].numpy(), atol=1e-9, err_msg=case)
        np.testing.assert_allclose(low, tensors[f"{case}.train.lowpass"].numpy(), atol=1e-9, err_msg=case)


def test_the_filter_equals_scipy_to_the_bit() -> None:
    record = np.random.default_rng(0).standard_normal((500, 12)).astype(np.float32)
    for kind, cutoff, order in (*CHAIN, ("highpass", 0.5, 2), ("lowpass", 30.0, 3)):
        expected = scipy.signal.sosfiltfilt(butterworth(kind, cutoff, 250, order), record, axis=0)
        result = zero_phase_filter(record, kind, cutoff, 250, order)
        np.testing.assert_array_equal(result, expected)
        assert result.flags.c_contiguous  # torch takes no negative strides


def test_batches_equal_single_records_to_the_bit() -> None:
    batch = ecg_like(4, 600)
    together = exact_chain(batch, CHAIN, 250)
    np.testing.assert_array_equal(together, np.stack([exact_chain(record, CHAIN, 250) for record in batch]))


@pytest.mark.parametrize("length", [500, 601, 2250])
def test_the_fast_form_equals_the_exact_chain(length: int) -> None:
    batch = ecg_like(8, length)
    fast = fast_filter(CHAIN, length, 250.0)
    exact = standardize(exact_chain(batch, CHAIN, 250))
    assert np.abs(standardize(fast(batch)) - exact).max() < 1e-9
    single = standardize(fast(batch.astype(np.float32)))
    assert single.dtype == np.float32
    assert np.abs(single - exact).max() < 1e-5
    assert fast.analysis.shape[1] <= 40


@pytest.mark.parametrize(
    "chain", [(("lowpass", 40.0, 5),), (("highpass", 0.67, 5),), (("highpass", 0.5, 2), ("lowpass", 30.0, 2))]
)
def test_the_fast_form_holds_for_single_filters_and_other_orders(chain: Any) -> None:
    batch = ecg_like(2, 400)
    difference = fast_filter(chain, 400, 100.0)(batch) - exact_chain(batch, chain, 100)
    assert np.abs(difference).max() < 1e-7


def test_a_zero_phase_filter_does_not_move_a_peak() -> None:
    signal = np.exp(-((np.arange(1000) - 400.0) ** 2) / 50)[:, None]
    assert int(zero_phase_filter(signal, "lowpass", 40, 250).argmax()) == 400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("highpass", 0.0, 250), "cut-off"),
        (("lowpass", 125.0, 250), "cut-off"),
        (("bandpass", 1.0, 250), "highpass"),
        (("lowpass", 40.0, 250, 0), "order"),
    ],
)
def test_filters_without_meaning_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zero_phase_filter(np.ones((100, 1)), *arguments)


def test_signals_too_short_to_extend_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 18 samples"):
        zero_phase_filter(np.ones((18, 1)), "lowpass", 40, 250)
    with pytest.raises(ValueError, match="built for 400 samples"):
        fast_filter((("lowpass", 40.0, 5),), 400, 100.0)(np.ones((1, 399)))


@pytest.mark.parametrize(
    ("rate", "low", "high", "order"), [(500, 0.67, 40.0, 4), (250, 0.5, 47.0, 3), (100, 0.67, 40.0, 4)]
)
def test_a_band_pass_equals_the_polynomial_form(rate: float, low: float, high: float, order: int) -> None:
    signal = ecg_like(1, 2000, offset=0.0)[0]
    numerator, denominator = scipy.signal.butter(order, (low, high), "bandpass", fs=rate)
    expected = scipy.signal.filtfilt(numerator, denominator, signal, axis=-1)
    np.testing.assert_allclose(zero_phase_band_pass(signal, low, high, rate, order, axis=-1), expected, atol=1e-5)


@pytest.mark.parametrize(("rate", "frequency", "quality"), [(500, 50.0, 30.0), (400, 60.0, 20.0), (1000, 50.0, 5.0)])
def test_a_notch_equals_scipy_and_takes_out_its_frequency(rate: float, frequency: float, quality: float) -> None:
    time = np.arange(3000) / rate
    hum = np.sin(2 * np.pi * frequency * time)
    signal = ecg_like(1, 3000)[0] + hum
    expected = scipy.signal.filtfilt(*scipy.signal.iirnotch(frequency, quality, fs=rate), signal, axis=-1)
    np.testing.assert_allclose(zero_phase_notch(signal, frequency, rate, quality, axis=-1), expected, atol=1e-9)
    middle = slice(1200, 1800)
    assert np.abs(zero_phase_notch(hum, frequency, rate, quality)[middle]).max() < 0.02
    slow = np.sin(2 * np.pi * 5.0 * time)
    np.testing.assert_allclose(zero_phase_notch(slow, frequency, rate, quality)[middle], slow[middle], atol=0.02)


def test_the_published_notch_coefficients() -> None:
    impulse = np.zeros(5001)
    impulse[2500] = 1.0
    numerator, denominator = [0.98963618, -1.60126497, 0.98963618], [1.0, -1.60126497, 0.97927235]
    expected = scipy.signal.filtfilt(numerator, denominator, impulse)
    np.testing.assert_allclose(zero_phase_notch(impulse, 50.0, 500.0, 30.0), expected, atol=1e-6)


def test_bands_and_notches_out_of_range_are_refused() -> None:
    for low, high in ((0.0, 40.0), (40.0, 30.0), (1.0, 125.0)):
        with pytest.raises(ValueError, match="band-pass needs"):
            zero_phase_band_pass(np.zeros(500), low, high, 250.0)
    for frequency, quality in ((125.0, 30.0), (50.0, 0.0)):
        with pytest.raises(ValueError, match="notch needs"):
            zero_phase_notch(np.zeros(500), frequency, 250.0, quality)
    with pytest.raises(ValueError, match="more than 27 samples"):
        zero_phase_band_pass(np.zeros(27), 0.67, 40.0, 500.0, 4)
    with pytest.raises(ValueError, match="more than 9 samples"):
        zero_phase_notch(np.zeros(9), 50.0, 500.0)
