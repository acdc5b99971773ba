"""How a delineation is judged: tolerance, borders that nobody judged, signs and spreads."""

import dataclasses

import numpy as np
import pytest
from wfdb.processing import compare_annotations

from ecg_transformers.evaluation.delineation import (
    interval_report,
    macro_f1,
    pool,
    report,
    score_lead,
    score_record,
    wave_f1,
)
from ecg_transformers.signal.waves import Wave

EXPERT = [
    wave
    for beat in (1.0, 1.8, 2.6)
    for wave in (Wave("P", beat, beat + 0.05, beat + 0.1), Wave("QRS", beat + 0.16, beat + 0.2, beat + 0.26))
]


def moved(waves, onset, offset):
    return [dataclasses.replace(w, onset_s=w.onset_s + onset, offset_s=w.offset_s + offset) for w in waves]


def test_counts_and_errors_are_those_of_wfdb():
    generator = np.random.default_rng(0)
    expert = [
        dataclasses.replace(w, onset_s=w.onset_s + shift, peak_s=w.peak_s + shift, offset_s=w.offset_s + shift)
        for w, shift in zip(EXPERT[:2] * 60, np.repeat(0.8 * np.arange(60), 2), strict=True)
    ]
    found = [
        dataclasses.replace(
            w, onset_s=w.onset_s + generator.normal(0, 0.08), offset_s=w.offset_s + generator.normal(0, 0.08)
        )
        for w in expert
        if generator.random() > 0.1
    ]
    found += [dataclasses.replace(w, onset_s=w.onset_s + 0.35, offset_s=w.offset_s + 0.35) for w in expert[2:20:3]]
    score = score_lead(expert, sorted(found, key=lambda w: w.onset_s))
    for name in ("P", "QRS"):
        for edge in ("onset_s", "offset_s"):
            ticks = [
                np.sort([round(getattr(w, edge) * 10_000) for w in waves if w.wave == name])
                for waves in (expert, found)
            ]
            theirs, ours = compare_annotations(*ticks, window_width=1_500), score[name, edge.removesuffix("_s")]
            assert (len(ours.errors_ms), ours.num_reference) == (theirs.tp, theirs.tp + theirs.fn)
            errors = (theirs.matched_test_sample - theirs.matched_ref_sample) / 10
            assert np.mean(ours.errors_ms) == pytest.approx(errors.mean())
            assert 30 < theirs.tp < 60


def test_a_perfect_delineation_has_f1_one_and_no_error():
    score = score_lead(EXPERT, EXPERT)
    assert wave_f1(score) == {"P": 1.0, "QRS": 1.0, "T": None}
    assert macro_f1(score) == 1.0
    assert report(score)["P"]["onset"]["mean_ms"] == 0
    assert report(score)["T"]["onset"]["f1"] is None


def test_errors_keep_their_sign_up_to_the_tolerance_and_are_misses_beyond():
    score = report(score_lead(EXPERT, moved(EXPERT, -0.01, 0.15)))
    assert score["QRS"]["onset"]["mean_ms"] == pytest.approx(-10)
    assert score["QRS"]["offset"]["mean_ms"] == pytest.approx(150)
    far = report(score_lead(EXPERT, moved(EXPERT, 0.0, 0.1502)))
    assert far["P"]["offset"]["f1"] == 0
    assert far["P"]["onset"]["f1"] == 1


def test_what_is_found_where_nobody_judged_is_no_error_and_a_wave_between_marks_is():
    before, after = moved(EXPERT[:2], -0.9, -0.9), moved(EXPERT[-2:], 2.0, 2.0)
    assert macro_f1(score_lead(EXPERT, [*before, *EXPERT, *after])) == 1.0
    between = Wave("P", 1.5, 1.55, 1.6)
    score = report(score_lead(EXPERT, [*EXPERT, between]))
    assert score["P"]["onset"]["detected"] == 4
    assert score["P"]["onset"]["ppv"] == pytest.approx(3 / 4)
    sparse = [*EXPERT, *moved(EXPERT, 10.0, 10.0)]
    assert macro_f1(score_lead(sparse, [*sparse, *moved(EXPERT[:2], 5.0, 5.0)])) == 1.0


def test_a_border_that_a_method_does_not_give_is_missed_and_the_other_counts():
    halves = [dataclasses.replace(wave, offset_s=None) for wave in EXPERT]
    score = report(score_lead(EXPERT, halves))
    assert score["P"]["onset"]["f1"] == 1
    assert score["P"]["offset"]["detected"] == 0
    assert score["P"]["offset"]["sensitivity"] == 0


def test_scores_add_up_over_leads_that_the_expert_marked():
    scores = score_record({"I": EXPERT, "II": EXPERT, "V1": []}, {"I": EXPERT, "II": [], "V1": EXPERT})
    assert set(scores) == {"I", "II"}
    whole = pool(scores.values())
    assert whole["P", "onset"].num_reference == 6
    assert wave_f1(whole)["P"] == pytest.approx(2 * 3 / (6 + 3))


def test_intervals_are_judged_by_the_expert_s_marks_of_the_same_leads():
    early = {"II": [w if w.wave == "QRS" else dataclasses.replace(w, onset_s=w.onset_s - 0.02) for w in EXPERT]}
    without_p = {"II": [wave for wave in EXPERT if wave.wave == "QRS"]}
    marks = {"II": EXPERT, "V1": moved(EXPERT, -0.06, 0.06)}
    figures = interval_report([(marks, early), (marks, without_p), (without_p, without_p)])
    assert figures["PR"] == {"mean": pytest.approx(20), "sd": None, "both": 1, "reference": 2, "detected": 1}
    assert figures["QRS"] == {"mean": 0, "sd": 0, "both": 3, "reference": 3, "detected": 3}
    assert figures["rate"]["mean"] == 0
    assert figures["QT"] == {"mean": None, "sd": None, "both": 0, "reference": 0, "detected": 0}
