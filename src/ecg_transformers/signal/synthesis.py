"""Synthetic 12-lead ECGs from a moving heart dipole, with known rhythm, morphology and beat positions.

The heart is one dipole (McSharry et al. 2003, in three dimensions as in Sameni et al. 2007): every wave of every beat
is a Gaussian pulse with a direction in space. Eight leads see it through the lead vectors of Dower et al. (1980),
slightly different in every patient; noise enters at the nine electrodes; III, aVR, aVL and aVF follow from I and II,
so that Einthoven's and Goldberger's equations hold to rounding.

A record is a function of `(seed, index)` alone: neither the order nor the number of records, nor the process that
asks, changes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

LEAD_NAMES = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
RHYTHMS = ("sinus", "bradycardia", "tachycardia", "AF")
LABELS = ("AF", "PVC", "bradycardia", "sinus", "st_elevation", "t_inversion", "tachycardia", "wide_qrs")
"""Label names in the order of a label vector. Exactly one of the four rhythms holds; the other labels are free."""

# Rows I, II, V1-V6; columns x (left), y (down), z (back). Dower et al. 1980.
_LEAD_VECTORS = np.array(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)
# The same leads from the electrodes RA, LA, LL, V1-V6 (Wilson's terminal is the mean of the limbs).
_ELECTRODES = np.zeros((8, 9))
_ELECTRODES[0, [0, 1]] = -1, 1
_ELECTRODES[1, [0, 2]] = -1, 1
_ELECTRODES[2:, :3] = -1 / 3
_ELECTRODES[2:, 3:] = np.eye(6)

# Wave: centre (s from the R peak), width (s), dipole (mV: left, down, back).
_P = (-0.165, 0.021, (0.055, 0.11, -0.02))
_QRS = (
    (-0.026, 0.0085, (-0.10, -0.03, -0.16)),  # septum: to the right and the front
    (0.0, 0.0120, (0.85, 0.78, 0.22)),  # free walls: left, down, back
    (0.030, 0.0110, (-0.16, -0.14, 0.40)),  # base: up and back
)
_T = (0.29, 0.052, (0.24, 0.21, -0.13))
_ST_REGIONS = ((0.35, 0.10, -0.75), (-0.05, 0.85, 0.05), (0.75, -0.15, 0.15))  # anterior, inferior, lateral
_WINDOW = (-0.34, 0.66)  # seconds around an R peak that its waves can reach


@dataclass(frozen=True)
class SyntheticECG:
    """A synthetic record: `signal` float64 millivolt `(T, 12)`, its labels, R peaks (samples), beat symbols (N, V)."""

    signal: np.ndarray
    sampling_rate: float
    labels: tuple[str, ...]
    r_peaks: np.ndarray
    beat_symbols: tuple[str, ...]
    patient: int
    heart_rate: float
    lead_names: tuple[str, ...] = field(default=LEAD_NAMES)


@dataclass(frozen=True)
class _Anatomy:
    """What stays the same in all records of a patient."""

    lead_vectors: np.ndarray  # (8, 3)
    wave_scales: np.ndarray  # (5,) P, Q, R, S, T
    widths: float
    pr: float


def synthesize_ecg(
    seed: int,
    index: int,
    *,
    sampling_rate: float = 250.0,
    duration: float = 10.0,
    noise: float = 1.0,
    labels: tuple[str, ...] | None = None,
    records_per_patient: int = 1,
) -> SyntheticECG:
    """Record number `index` of the synthetic corpus `seed`.

    Args:
        seed: the corpus.
        index: the record; `(seed, index)` fixes everything.
        sampling_rate: Hz, at least 50.
        duration: seconds, at least 2.
        noise: factor on all noise; 0 gives the clean signal.
        labels: names from `LABELS` instead of drawn ones (exactly one of `RHYTHMS` among them).
        records_per_patient: consecutive records that share one anatomy.

    Returns:
        The record; the same `(seed, index)` gives the same heart beats at every sampling rate.

    Raises:
        ValueError: impossible arguments.

    Example:
        >>> record = synthesize_ecg(0, 7)
        >>> record.signal.shape
        (2500, 12)
    """
    _check(sampling_rate, duration, noise, labels, records_per_patient)
    patient = index // records_per_patient
    anatomy = _draw_anatomy(np.random.default_rng([seed, 1, patient]))
    rng = np.random.default_rng([seed, 2, index])
    drawn = _draw_labels(rng)
    chosen = drawn if labels is None else tuple(sorted(labels))
    r_times, ventricular = _draw_beats(rng, chosen, duration)
    num_samples = round(sampling_rate * duration)
    dipole = _dipole(rng, chosen, r_times, ventricular, anatomy, sampling_rate, num_samples)
    leads = dipole @ anatomy.lead_vectors.T
    if noise > 0:
        electrodes = _electrode_noise(np.random.default_rng([seed, 3, index]), sampling_rate, num_samples)
        leads += noise * (electrodes @ _ELECTRODES.T)
    samples = np.rint(r_times * sampling_rate).astype(np.int64)
    inside = (samples >= 0) & (samples < num_samples)
    intervals = np.diff(r_times[inside])
    return SyntheticECG(
        signal=_twelve_leads(leads),
        sampling_rate=float(sampling_rate),
        labels=chosen,
        r_peaks=samples[inside],
        beat_symbols=tuple("V" if v else "N" for v in ventricular[inside]),
        patient=patient,
        heart_rate=float(60.0 / intervals.mean()) if intervals.size else float("nan"),
    )


def _check(
    sampling_rate: float, duration: float, noise: float, labels: tuple[str, ...] | None, records_per_patient: int
) -> None:
    if not 50 <= sampling_rate <= 10_000:
        raise ValueError(f"a synthetic ECG needs a sampling rate of 50 to 10,000 Hz, not {sampling_rate}.")
    if not 2 <= duration <= 86_400:
        raise ValueError(f"a synthetic ECG lasts 2 to 86,400 s, not {duration}.")
    if not 0 <= noise <= 100 or records_per_patient < 1:
        raise ValueError("noise is a factor of 0 to 100 and records_per_patient at least 1.")
    if labels is not None:
        unknown = [label for label in labels if label not in LABELS]
        if unknown or sum(label in RHYTHMS for label in labels) != 1:
            raise ValueError(f"the labels {labels} must hold exactly one of {RHYTHMS} and otherwise names of {LABELS}.")


def _draw_anatomy(rng: np.random.Generator) -> _Anatomy:
    rotation = _rotation(rng.normal(0.0, 0.22, 3))
    lead_vectors = _LEAD_VECTORS * rng.normal(1.0, 0.07, (8, 3)) @ rotation * rng.lognormal(0.0, 0.22)
    return _Anatomy(
        lead_vectors=lead_vectors,
        wave_scales=rng.lognormal(0.0, 0.20, 5),
        widths=float(np.clip(rng.normal(1.0, 0.07), 0.82, 1.18)),
        pr=float(rng.normal(0.0, 0.012)),
    )


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation about x, y, z in turn."""
    cx, cy, cz = (float(value) for value in np.cos(angles))
    sx, sy, sz = (float(value) for value in np.sin(angles))
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]])
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]], dtype=np.float64)
    about_z = np.array([[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]], dtype=np.float64)
    return about_z @ about_y @ about_x


def _draw_labels(rng: np.random.Generator) -> tuple[str, ...]:
    rhythm = RHYTHMS[int(rng.choice(4, p=[0.46, 0.16, 0.18, 0.20]))]
    extras = ("PVC", "wide_qrs", "st_elevation", "t_inversion")
    present = rng.random(4) < (0.22, 0.18, 0.16, 0.18)
    return tuple(sorted([rhythm, *(name for name, on in zip(extras, present) if on)]))


def _draw_beats(rng: np.random.Generator, labels: tuple[str, ...], duration: float) -> tuple[np.ndarray, np.ndarray]:
    """Times of the R peaks from before the start to after the end, and which beats are ventricular."""
    low, high = {"sinus": (61, 98), "bradycardia": (38, 57), "tachycardia": (104, 160), "AF": (62, 145)}[
        next(label for label in labels if label in RHYTHMS)
    ]
    mean = 60.0 / rng.uniform(low, high)
    count = int((duration + 4.0) / mean * 1.6) + 8
    if "AF" in labels:
        intervals = mean * np.clip(rng.gamma(25.0, 1 / 25.0, count), 0.55, 1.9)
    else:
        phase = rng.uniform(0, 2 * np.pi) + 2 * np.pi * rng.uniform(0.18, 0.32) * mean * np.arange(count)
        intervals = mean * (1 + rng.uniform(0.005, 0.035) * np.sin(phase) + 0.008 * rng.standard_normal(count))
    start = -rng.uniform(0.7, 1.0) - mean
    ventricular = np.zeros(count, dtype=bool)
    if "PVC" in labels:
        ventricular = _place_pvcs(rng, start + np.cumsum(intervals), duration)
        for beat in np.flatnonzero(ventricular):
            early = rng.uniform(0.30, 0.42) * intervals[beat]
            intervals[beat] -= early
            intervals[beat + 1] += early * rng.uniform(0.8, 1.0)  # the compensatory pause
    times = start + np.cumsum(intervals)
    keep = times < duration + 0.5
    return times[keep], ventricular[keep]


def _place_pvcs(rng: np.random.Generator, times: np.ndarray, duration: float) -> np.ndarray:
    """One ventricular beat at least well inside the record, never two in a row."""
    marks = np.zeros(times.size, dtype=bool)
    inside = np.flatnonzero((times > 1.0) & (times < duration - 0.8))
    if inside.size:
        wanted = 1 + int(rng.binomial(max(inside.size - 1, 0), 0.14))
        for beat in rng.permutation(inside)[:wanted]:
            if not (marks[beat - 1] or marks[beat + 1]):
                marks[beat] = True
    return marks


def _dipole(
    rng: np.random.Generator,
    labels: tuple[str, ...],
    r_times: np.ndarray,
    ventricular: np.ndarray,
    anatomy: _Anatomy,
    rate: float,
    num_samples: int,
) -> np.ndarray:
    """The dipole `(T, 3)` in millivolt."""
    centres, widths, vectors, steps = _waves(rng, labels, r_times, ventricular, anatomy)
    first = np.floor((r_times + _WINDOW[0]) * rate).astype(np.int64)
    length = int((_WINDOW[1] - _WINDOW[0]) * rate) + 2
    positions = first[:, None] + np.arange(length)  # (beats, window)
    local = positions / rate - r_times[:, None]
    z = (local[:, :, None] - centres[:, None, :]) / widths[:, None, :]
    beats = np.einsum("bts,bsd->btd", np.exp(-0.5 * z * z), vectors)  # (beats, window, 3)
    if steps is not None:
        onset, end, size = steps
        plateau = 1 / (1 + np.exp(-(local - onset) / 0.009)) / (1 + np.exp((local - end[:, None]) / 0.028))
        beats += plateau[:, :, None] * size
    margin = length + int(abs(first.min(initial=0))) + 1
    dipole = np.zeros((num_samples + 2 * margin, 3))
    for beat, start in zip(beats, first + margin):
        if start < dipole.shape[0] - length:
            dipole[start : start + length] += beat
    dipole = dipole[margin : margin + num_samples]
    times = np.arange(num_samples) / rate
    breathing = 1 + rng.uniform(0.01, 0.07) * np.sin(2 * np.pi * rng.uniform(0.18, 0.32) * times + rng.uniform(0, 6.28))
    dipole *= breathing[:, None]
    if "AF" in labels:
        dipole += _fibrillation(rng, times)
    return dipole


def _waves(
    rng: np.random.Generator,
    labels: tuple[str, ...],
    r_times: np.ndarray,
    ventricular: np.ndarray,
    anatomy: _Anatomy,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, np.ndarray, np.ndarray] | None]:
    """Per beat and wave: centre, width `(beats, waves)`, dipole `(beats, waves, 3)`; the ST step if there is one."""
    count = r_times.size
    rr = np.diff(r_times, prepend=r_times[:1] - 0.8)
    stretch = np.sqrt(np.clip(rr, 0.38, 1.4) / 0.8)  # the QT interval shortens with the rate
    p_scale, *qrs_scale, t_scale = anatomy.wave_scales
    wide = "wide_qrs" in labels
    qrs = _wide_qrs(rng) if wide else _QRS
    waves = [(_P[0] + anatomy.pr, _P[1], np.array(_P[2]) * p_scale * (0.0 if "AF" in labels else 1.0))]
    broad = anatomy.widths * (rng.uniform(1.0, 1.12) if wide else 1.0)
    for number, (centre, width, vector) in enumerate(qrs):
        waves.append((centre * broad, width * broad, np.array(vector) * qrs_scale[min(number, 2)]))
    t_vector = np.array(_T[2]) * t_scale
    if "t_inversion" in labels:
        t_vector = -rng.uniform(0.55, 1.15) * t_vector
    late = 0.03 if wide else 0.0
    waves += [(_T[0] + late, _T[1], t_vector * 0.75), (_T[0] + 0.035 + late, _T[1] * 0.62, t_vector * 0.5)]
    centres = np.tile([w[0] for w in waves], (count, 1))
    widths = np.tile([w[1] for w in waves], (count, 1))
    vectors = np.tile(np.array([w[2] for w in waves]), (count, 1, 1))
    vectors *= rng.normal(1.0, 0.03, (count, len(waves), 1))
    centres[:, -2:] *= stretch[:, None]
    widths[:, -2:] *= stretch[:, None]
    steps = None
    if "st_elevation" in labels:
        direction = np.array(_ST_REGIONS[int(rng.integers(3))])
        size = rng.uniform(0.13, 0.30) * direction / np.linalg.norm(direction)
        steps = (0.055 * broad, centres[:, -1] + 0.01, size * ~ventricular[:, None, None])
    _make_ventricular(rng, np.flatnonzero(ventricular), centres, widths, vectors)
    return centres, widths, vectors, steps


def _wide_qrs(rng: np.random.Generator) -> tuple[tuple[float, float, tuple[float, float, float]], ...]:
    """QRS of a bundle branch block: late forces to the left and back (left) or to the right and front (right)."""
    if rng.random() < 0.5:
        return (
            (-0.032, 0.017, (0.32, 0.24, 0.02)),
            (0.008, 0.021, (0.55, 0.35, 0.34)),
            (0.056, 0.022, (0.62, 0.16, 0.36)),
        )
    return (
        (-0.026, 0.009, (-0.09, -0.03, -0.15)),
        (0.0, 0.013, (0.80, 0.72, 0.20)),
        (0.066, 0.024, (-0.42, -0.05, -0.50)),
    )


def _make_ventricular(
    rng: np.random.Generator, beats: np.ndarray, centres: np.ndarray, widths: np.ndarray, vectors: np.ndarray
) -> None:
    """Turn some beats into ventricular ones, in place: no P, broad and tall from one focus, T the other way."""
    if not beats.size:
        return
    focus = rng.standard_normal(3)
    focus *= rng.uniform(1.2, 1.7) / np.linalg.norm(focus)
    qrs, late = np.array([1, 2, 3]), np.array([-2, -1]) + vectors.shape[1]
    vectors[beats] = 0.0
    vectors[np.ix_(beats, qrs)] = np.array([0.45 * focus, focus, -0.25 * focus])
    centres[np.ix_(beats, qrs)] = (-0.048, 0.004, 0.075)
    widths[np.ix_(beats, qrs)] = (0.022, 0.030, 0.026)
    vectors[np.ix_(beats, late)] = -0.33 * focus
    centres[np.ix_(beats, late)] = (0.31, 0.35)


def _fibrillation(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Fibrillatory waves `(T, 3)`: 4.5 to 8 Hz, of wandering frequency and size, mostly to the front (V1)."""
    rate = rng.uniform(4.5, 8.0)
    phase = 2 * np.pi * rate * times + rng.uniform(0.6, 1.6) * np.sin(
        2 * np.pi * rng.uniform(0.1, 0.4) * times + rng.uniform(0, 6.28)
    )
    size = rng.uniform(0.025, 0.06) * (1 + 0.3 * np.sin(2 * np.pi * rng.uniform(0.1, 0.3) * times))
    shifts = rng.uniform(0, 2 * np.pi, 3)
    waves = np.sin(phase[:, None] + shifts) + 0.35 * np.sin(2 * phase[:, None] + 1.7 * shifts)
    return size[:, None] * waves * np.array([0.5, 0.9, -1.0])


def _electrode_noise(rng: np.random.Generator, rate: float, num_samples: int) -> np.ndarray:
    """Noise `(T, 9)` in millivolt at the electrodes: baseline wander, muscle, mains, and now and then a jerk."""
    times = np.arange(num_samples) / rate
    frequency = rng.uniform((0.05, 0.15, 0.25), (0.15, 0.30, 0.55))
    wander = np.sin(2 * np.pi * np.outer(times, frequency) + rng.uniform(0, 6.28, 3))  # (T, 3)
    noise = wander @ (rng.normal(0.0, 0.05, (3, 9)) * rng.lognormal(0.0, 0.5))
    muscle = rng.standard_normal((num_samples, 9), dtype=np.float32)
    noise += muscle * (0.010 * rng.lognormal(0.0, 0.45) * rng.lognormal(0.0, 0.25, 9) * np.sqrt(rate / 250.0))
    mains = np.sin(2 * np.pi * float(rng.choice([50.0, 60.0])) * times + rng.uniform(0, 6.28))
    noise += np.outer(mains, 0.006 * rng.lognormal(0.0, 0.7) * rng.random(9)) if rate > 130 else 0.0
    if rng.random() < 0.10:
        electrode, when = int(rng.integers(9)), rng.uniform(0, times[-1])
        jerk = np.where(times > when, np.exp(-(times - when).clip(0) / rng.uniform(0.1, 0.5)), 0.0)
        noise[:, electrode] += rng.normal(0.0, 0.5) * jerk
    return noise


def _twelve_leads(leads: np.ndarray) -> np.ndarray:
    """I, II, V1-V6 `(T, 8)` to the twelve leads: III = II - I, and Goldberger's three."""
    one, two = leads[:, 0], leads[:, 1]
    limbs = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.column_stack([*limbs, leads[:, 2:]])
