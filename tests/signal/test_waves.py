"""Waves of one lead: from marks to classes and back, overlapping windows, peaks."""

import math
from itertools import pairwise

import numpy as np
import pytest

from ecg_transformers.signal.waves import (
    CLASSES,
    IGNORED,
    Wave,
    delineate,
    find_waves,
    patch_classes,
    place_peaks,
    vote,
    wave_classes,
    waves_from_marks,
)

RATE = 250
BEAT = [
    Wave("P", 0.40, 0.44, 0.50),
    Wave("QRS", 0.56, 0.60, 0.66),
    Wave("T", 0.80, 0.90, 1.00),
    Wave("P", 1.40, 1.44, 1.50),
]


def probabilities(labels):
    return np.eye(len(CLASSES))[np.maximum(labels, 0)]


def test_marks_become_waves_and_missing_borders_stay_missing():
    waves = waves_from_marks([100, 110, 120, 150, 160, 200], list("(p)N)t"), 100)
    assert waves == [Wave("P", 1.0, 1.1, 1.2), Wave("QRS", None, 1.5, 1.6), Wave("T", None, 2.0, None)]


def test_brackets_of_another_wave_or_of_none_are_nobody_s():
    p, qrs = Wave("P", 0.1, 0.2, None), Wave("QRS", None, 0.9, 1.0)
    for between in ("()", "(u)", "u)"):  # of a U wave, which corpora like QTDB mark
        marks = f"(p{between}N)"
        samples = [10, 20, *np.linspace(40, 60, len(between)), 90, 100]
        assert waves_from_marks(samples, list(marks), 100) == [p, qrs], marks
    assert waves_from_marks([10, 20, 30, 90], list("(u)p"), 100) == [Wave("P", None, 0.9, None)]
    assert waves_from_marks([10, 20, 30, 40], list("(+p)"), 100) == [Wave("P", 0.1, 0.3, 0.4)]


def test_classes_hold_both_border_samples_and_nothing_is_known_outside_the_marks():
    labels = wave_classes(BEAT, RATE, 0.0, 500)
    assert (labels[:100] == IGNORED).all()
    assert (labels[376:] == IGNORED).all()
    assert labels[100] == labels[125] == CLASSES.index("P")
    assert labels[126] == 0
    assert labels[140] == labels[165] == CLASSES.index("QRS")
    assert labels[200] == labels[250] == CLASSES.index("T")


def test_sparse_marks_leave_what_lies_between_them_unknown():
    far = [*BEAT[:3], Wave("QRS", 4.0, 4.05, 4.1)]
    labels = wave_classes(far, RATE, 0.0, 1100)
    assert (labels[251:1000] == IGNORED).all()
    alone = [Wave("QRS", None, 1.0, None), Wave("T", 1.2, 1.3, 1.4)]
    labels = wave_classes(alone, RATE, 0.0, 500)
    assert labels[250] == CLASSES.index("QRS")
    assert (labels[251:300] == IGNORED).all()


def test_waves_are_found_again_to_the_sample():
    found = find_waves(probabilities(wave_classes(BEAT, RATE, 7.0, 500)), RATE, 7.0)
    assert [wave.wave for wave in found] == [wave.wave for wave in BEAT]
    for wave, truth in zip(found, BEAT, strict=True):
        assert wave.onset_s == pytest.approx(truth.onset_s, abs=1e-9)
        assert wave.offset_s == pytest.approx(truth.offset_s, abs=1e-9)


def test_a_hole_is_bridged_and_a_flicker_is_no_wave():
    labels = wave_classes(BEAT, RATE, 0.0, 500)
    labels[220:223] = 0  # within the T
    labels[300:304] = CLASSES.index("QRS")
    found = find_waves(probabilities(labels), RATE)
    assert [wave.wave for wave in found] == ["P", "QRS", "T", "P"]


def test_what_the_ends_of_the_record_cut_or_padding_holds_is_no_wave():
    labels = wave_classes(BEAT, RATE, 0.0, 500)
    assert [wave.wave for wave in find_waves(probabilities(labels[110:360]), RATE)] == ["QRS", "T"]
    padded = probabilities(wave_classes(BEAT, RATE, 40.0, 500))  # 40 places of padding stand in front
    assert [wave.wave for wave in find_waves(padded, RATE, 40.0, last_s=0.95)] == ["P", "QRS"]
    before = probabilities(wave_classes(BEAT, RATE, -103.0, 500))  # its first sample lies behind the first P's onset
    assert [wave.wave for wave in find_waves(before, RATE, 0.0, last_s=1.9)] == ["QRS", "T", "P"]


def test_waves_of_a_lead_do_not_overlap():
    labels = np.zeros(100, dtype=int)
    labels[20:60] = [
        CLASSES.index(wave) for wave in ["T"] * 4 + ["QRS"] * 4
    ] * 5  # flickers faster than a bridge is long
    labels[30:50] = CLASSES.index("QRS")
    found = find_waves(probabilities(labels), RATE)
    assert found
    assert all(one.offset_s < other.onset_s for one, other in pairwise(found))


def test_a_lead_that_does_not_move_has_no_waves():
    labels = probabilities(wave_classes(BEAT, RATE, 0.0, 500))
    signals = np.stack([np.sin(np.arange(500)), np.zeros(500)])
    leads, _ = delineate(np.stack([labels, labels])[None], signals[None], [0], 500, RATE)
    assert [len(lead) for lead in leads] == [4, 0]


def test_a_patch_has_the_class_of_most_of_its_judged_samples():
    labels = np.array([IGNORED, IGNORED, 2, 0, 0, 2, 2, 0, IGNORED, IGNORED, IGNORED, IGNORED])
    assert patch_classes(labels, 4).tolist() == [0, 0, IGNORED]
    assert patch_classes(labels[2:4], 1).tolist() == [2, 0]


def test_windows_that_agree_vote_for_what_they_say_and_the_middle_counts_more():
    whole = np.random.default_rng(0).dirichlet(np.ones(4), size=(2, 50))  # (L, T, C)
    starts = [0, 10, 20, 30]
    windows = np.stack([whole[:, start : start + 20] for start in starts])
    assert np.allclose(vote(windows, starts, 50), whole)
    ends = np.stack([np.zeros((1, 20, 1)), np.ones((1, 20, 1))])
    shared = vote(ends, [0, 10], 30)[0, 10:20, 0]
    assert (np.diff(shared) > 0).all()
    assert shared[0] < 0.2 < 0.8 < shared[-1]


@pytest.mark.parametrize(("starts", "stretch"), [([0.0, 12.5], 1.0), ([0.0, 7.3, 13.0], 1.02), ([0.4, 10.25], 0.9)])
def test_windows_between_the_places_of_the_record_vote_where_they_lie(starts, stretch):
    length, width = 40, 25
    lines = np.stack([np.outer(start + stretch * np.arange(width), [1.0, -2.0])[None] for start in starts])
    reached = np.arange(1, int(starts[-1] + stretch * (width - 1)))
    assert np.allclose(vote(lines, starts, length, stretch)[0, reached], np.outer(reached, [1.0, -2.0]))
    after = math.ceil(
        starts[-1] + stretch * (width - 1)
    )  # has the value of the end: what is cut there did not end there
    assert np.allclose(vote(lines, starts, length, stretch)[0, after], lines[-1, 0, -1])


def test_delineate_finds_peaks_where_the_signal_is_farthest_from_the_line_of_the_borders():
    labels = wave_classes(BEAT, RATE, 0.0, 500)
    times = np.arange(500) / RATE
    signal = 2.0 - 0.5 * times  # a falling baseline
    for wave in BEAT:
        signal = signal - np.exp(-(((times - wave.peak_s) / 0.015) ** 2))
    starts = [0, 125, 250]
    windows = np.stack([probabilities(labels)[None, s : s + 250] for s in starts])
    leads, voted = delineate(windows, np.stack([signal[None, s : s + 250] for s in starts]), starts, 500, RATE)
    assert voted.shape == (1, 500, 4)
    assert [wave.peak_s for wave in leads[0]] == pytest.approx([wave.peak_s for wave in BEAT], abs=1 / RATE)
    assert place_peaks([], signal, RATE) == []
