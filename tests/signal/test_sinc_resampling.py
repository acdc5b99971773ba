"""Resampling by a windowed sinc: against a plain loop over its formulas, and what any resampler should do."""

import numpy as np
import pytest
from support.published import named

from ecg_transformers.signal.resampling import resample
from ecg_transformers.signal.sinc_resampling import KAISER_BETA, sinc_resample


def plainly(x, source, target):
    """One output sample after the other, tap by tap."""
    half = np.kaiser(2 * 409_600 + 1, KAISER_BETA)[409_600:]
    places = np.arange(409_601) / 8192
    ratio = target / source
    scale = min(1.0, ratio)
    table = 0.91734737 * np.sinc(0.91734737 * places) * half * scale
    slope = np.append(np.diff(table), 0.0)
    step, out = int(scale * 8192), []
    for t in range(int(len(x) * ratio)):
        time = t / ratio
        n = int(time)
        total = 0.0
        for share, samples in ((scale * (time - n), x[n::-1]), (scale - scale * (time - n), x[n + 1 :])):
            offset = int(share * 8192)
            for i in range(min(len(samples), (409_601 - offset) // step)):
                j = offset + i * step
                total += (table[j] + (share * 8192 - offset) * slope[j]) * samples[i]
        out.append(total)
    return np.array(out)


@pytest.mark.parametrize(("source", "target"), [(500, 240), (360, 240), (100, 240), (257, 240)])
def test_equals_the_formulas_tap_by_tap(source, target):
    x = np.random.default_rng(0).standard_normal(90)
    expected = plainly(x, source, target)
    np.testing.assert_allclose(sinc_resample(x, source, target, len(expected)), expected, atol=1e-12)


def test_a_long_signal_is_what_its_parts_are():
    x = np.random.default_rng(1).standard_normal((4000, 2))
    whole = sinc_resample(x, 500, 240, 1920)
    np.testing.assert_allclose(whole[:480], sinc_resample(x[:1300], 500, 240, 624)[:480], atol=1e-12)  # 25 samples = 12
    np.testing.assert_allclose(whole[1440:], sinc_resample(x[2700:], 500, 240, 624)[144:], atol=1e-12)


def test_a_slow_sine_stays_a_sine_away_from_the_ends():
    times = np.arange(2500) / 500
    resampled = resample(np.sin(2 * np.pi * 10 * times), 500, 240, "resampy")
    expected = np.sin(2 * np.pi * 10 * np.arange(1200) / 240)
    assert np.abs(resampled - expected)[150:-150].max() < 1e-3


def test_single_precision_stays_single_and_axes_do_not_matter():
    x = np.random.default_rng(2).standard_normal((3, 500)).astype(np.float32)
    rows, columns = resample(x, 500, 240, "resampy", axis=-1), resample(x.T, 500, 240, "resampy", axis=0)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, columns.T, atol=1e-6)


def test_equals_resampy_on_whole_clipped_records(parity):
    """The pre-training chain of the S4 encoders: clipped at 3 mV, then resampled."""
    tensors = parity("zoo/ecg_cpc_s4", "preprocess")
    for key in named(tensors, "offline."):
        case = key.partition(".")[2]
        signal, rate = tensors[f"signal.{case}"].numpy()[:, :3], float(tensors[f"rate.{case}"])
        found = resample(np.clip(signal, -3, 3), rate, 240, "resampy")
        np.testing.assert_allclose(found.T, tensors[key].numpy(), atol=5e-6)
