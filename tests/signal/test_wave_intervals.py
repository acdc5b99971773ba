"""Rate, PR, QRS and QT of a record from its waves."""

import time

import numpy as np
import pytest

from ecg_transformers.signal.wave_intervals import in_words, wave_intervals
from ecg_transformers.signal.waves import Wave


def beats(count=8, rr=0.8, p=True, t=True, first=0.5, shift=0.0):
    waves = []
    for number in range(count):
        onset = first + shift + number * rr
        waves += [Wave("P", onset - 0.16, onset - 0.12, onset - 0.06)] if p else []
        waves += [Wave("QRS", onset, onset + 0.04, onset + 0.09)]
        waves += [Wave("T", onset + 0.22, onset + 0.3, onset + 0.38)] if t else []
    return waves


def test_the_intervals_of_a_regular_rhythm_are_those_it_was_made_with():
    found = wave_intervals({"I": beats(), "II": beats(shift=0.01)})
    medians = {name: value.median for name, value in found.values.items()}
    assert medians == pytest.approx(
        {"rate": 75, "PR": 160, "QRS": 90, "QT": 380, "QTcB": 380 / 0.8**0.5, "QTcF": 380 / 0.8 ** (1 / 3)}
    )
    assert found.values["PR"].beats == 8
    assert found.values["QTcB"].beats == 7  # the first beat has no RR before it
    assert found.values["QT"].sd == pytest.approx(0, abs=1e-6)
    assert not found.refused
    assert "QT 380 ± 0 ms" in in_words(found)


def test_without_p_waves_pr_is_refused_and_the_rest_is_given():
    found = wave_intervals({"I": beats(p=False), "II": beats(p=False)})
    assert set(found.values) == {"rate", "QRS", "QT", "QTcB", "QTcF"}
    assert in_words(found).startswith("rate 75 ± 0 /min   PR –   QRS 90 ± 0 ms   QT")
    assert found.refused == [
        "PR is not given: a P wave that begins up to 400 ms before the QRS complex was found in 0 of 8 beats."
    ]


def test_without_qrs_or_with_one_beat_the_sentence_says_so():
    nothing = wave_intervals({"I": [Wave("P", 0.1, 0.2, 0.3)]})
    assert not nothing.values
    assert in_words(nothing).startswith("No QRS complex was found")
    one = wave_intervals({"I": beats(1)})
    assert "rate" not in one.values
    assert "QTcB" not in one.values
    assert one.values["QT"].sd is None
    assert "need two" in one.refused[0]


def test_a_beat_that_one_of_three_leads_shows_is_none():
    extra = sorted([*beats(), Wave("QRS", 0.9, 0.93, 0.97)], key=lambda wave: wave.times[0])
    found = wave_intervals({"I": beats(), "II": beats(), "V1": extra})
    assert found.values["rate"].median == pytest.approx(75)
    assert found.values["QRS"].beats == 8


@pytest.mark.parametrize("late", [0.02, 0.11, 0.15, 0.19])
@pytest.mark.parametrize("count", [2, 4, 12])
def test_a_beat_that_half_of_the_leads_show_late_is_one(late, count):
    found = wave_intervals({f"lead {n}": beats(shift=late * (n % 2)) for n in range(count)})
    assert found.values["rate"].median == pytest.approx(75)
    assert found.values["QTcB"].median == pytest.approx(380 / 0.8**0.5)
    assert found.values["PR"].beats == 8


def test_a_qrs_that_is_cut_in_two_is_one_beat():
    cut = [
        part
        for wave in beats()
        for part in (
            [
                Wave("QRS", wave.onset_s, wave.peak_s, wave.peak_s),
                Wave("QRS", wave.onset_s + 0.12, None, wave.onset_s + 0.15),
            ]
            if wave.wave == "QRS"
            else [wave]
        )
    ]
    found = wave_intervals({"II": cut})
    assert found.values["rate"].median == pytest.approx(75)
    assert found.values["PR"].median == pytest.approx(160)


def test_leads_that_disagree_about_every_beat_give_no_interval():
    noise = {lead: beats(shift=shift) for lead, shift in zip("abcde", np.arange(5) * 0.13)}
    noise |= {lead: [*waves[3:6], *beats(1)] if lead in "abc" else waves for lead, waves in noise.items()}
    found = wave_intervals({lead: sorted(waves, key=lambda wave: wave.onset_s) for lead, waves in noise.items()})
    assert not found.values
    assert found.refused[0].startswith("The leads do not agree where the beats are")


def test_hours_of_beats_take_seconds():
    many = beats(8_000)
    started = time.process_time()
    found = wave_intervals({"II": many})
    assert time.process_time() - started < 5  # a pass over all waves for each beat took a minute
    assert found.values["PR"].beats == 8_000
    assert found.values["QT"].median == pytest.approx(380)


def test_one_lead_that_is_early_does_not_cut_the_beat_of_the_others_in_two():
    shifts = {"V1": -0.13, "V2": 0.0, "V3": 0.01, "V4": 0.03, "V5": 0.04, "V6": 0.05}
    found = wave_intervals({lead: beats(shift=shift) for lead, shift in shifts.items()})
    assert found.values["rate"].median == pytest.approx(75)
    assert found.values["QRS"].beats == 8
