"""Lead names and the limb leads that follow from others."""

import numpy as np
import pytest

from ecg_transformers.signal.leads import (
    LIMB_LEADS,
    STANDARD_LEADS,
    canonical_lead,
    canonical_leads,
    derivation,
    plan_leads,
    select_leads,
)


def twelve_leads(length: int = 200, seed: int = 0) -> np.ndarray:
    """A record (T, 12) whose limb leads obey Einthoven and Goldberger."""
    one, two, *chest = np.random.default_rng(seed).standard_normal((8, length))
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.stack([*limb, *chest], axis=1)


@pytest.mark.parametrize(
    ("spelt", "lead"),
    [
        ("AVR", "aVR"),
        ("avr", "aVR"),
        ("aVF ", "aVF"),
        ("MLII", "II"),
        ("DI", "I"),
        ("DII", "II"),
        ("DIII", "III"),
        ("D2", "II"),
        ("ECG I", "I"),
        ("ECG Lead II", "II"),
        ("Lead II", "II"),
        ("lead_v3", "V3"),
        ("ECG aVL", "aVL"),
        ("v6", "V6"),
        ("V 1", "V1"),
        ("ECG-II", "II"),
        ("Lead-V1", "V1"),
        ("V-1", "V1"),
        ("-aVR", "-aVR"),
        ("ECG -aVR", "ECG -aVR"),
        ("+II", "+II"),
        ("I-II", "I-II"),
        ("I II", "I II"),
        ("I_II", "I_II"),
        ("II-III", "II-III"),
        ("V1-V2", "V1-V2"),
        ("C4", "C4"),
        ("II\x00", "II"),
        ("V4R", "V4R"),
        ("RESP", "RESP"),
        (" abdomen 1 ", "abdomen 1"),
    ],
)
def test_every_spelling_of_a_lead_has_one_name(spelt: str, lead: str) -> None:
    assert canonical_lead(spelt) == lead


def test_canonical_names_stay_as_they_are() -> None:
    assert canonical_leads(STANDARD_LEADS) == list(STANDARD_LEADS)


def test_two_names_of_one_lead_are_refused() -> None:
    with pytest.raises(ValueError, match=r"MLII.*all mean lead II"):
        canonical_leads(["II", "MLII"])
    with pytest.raises(ValueError, match="single string"):
        canonical_leads("II")


@pytest.mark.parametrize("given", [("I", "II"), ("II", "III"), ("I", "aVF"), ("aVR", "aVL"), ("III", "aVL")])
def test_all_limb_leads_follow_from_any_two(given: tuple[str, ...]) -> None:
    record = twelve_leads()
    columns = [STANDARD_LEADS.index(name) for name in given]
    derived, plan = select_leads(record[:, columns], given, LIMB_LEADS)
    np.testing.assert_allclose(derived, record[:, :6], atol=1e-12)
    assert set(plan.derived) == set(LIMB_LEADS) - set(given)


def test_derivation_prefers_i_and_ii() -> None:
    assert derivation("III", STANDARD_LEADS) == [("I", -1.0), ("II", 1.0)]
    assert derivation("V1", STANDARD_LEADS) is None
    assert derivation("III", ["I", "V1"]) is None


def test_permuting_columns_with_their_names_changes_nothing() -> None:
    record, order = twelve_leads().astype(np.float32), np.random.default_rng(1).permutation(12)
    names = [STANDARD_LEADS[i] for i in order]
    selected, plan = select_leads(record[:, order], names, STANDARD_LEADS)
    np.testing.assert_array_equal(selected, record)
    assert selected.dtype == np.float32
    assert not plan.derived


def test_a_missing_lead_is_an_error_unless_allowed() -> None:
    record = twelve_leads()[:, :2]
    with pytest.raises(ValueError, match=r"no lead V1 among I, II"):
        select_leads(record, ["I", "II"], ["I", "V1"])
    with pytest.raises(ValueError, match=r"no lead III among I, II"):
        select_leads(record, ["I", "II"], ["III"], missing="error")
    dropped, plan = select_leads(record, ["I", "II"], ["V1", "II", "aVF"], missing="drop")
    assert plan.leads == ["II", "aVF"]
    assert plan.dropped == ["V1"]
    assert dropped.shape == (200, 2)
    zeros, plan = select_leads(record, ["I", "II"], ["V1", "II"], missing="zero")
    assert plan.zero_filled == ["V1"]
    assert not zeros[:, 0].any()
    np.testing.assert_array_equal(zeros[:, 1], record[:, 1])
    with pytest.raises(ValueError, match="none of the leads"):
        plan_leads(["I"], ["V1", "V2"], "drop")
    with pytest.raises(ValueError, match="missing_leads must be"):
        plan_leads(["I"], ["I"], "guess")


def test_names_that_do_not_fit_the_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit the shape"):
        select_leads(twelve_leads().T, STANDARD_LEADS, ["I"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["C3", "C4", "ECG"], ["C3", "C4", "ECG"]),
        (["C3", "C4", "O1", "O2", "ECG I"], ["C3", "C4", "O1", "O2", "I"]),
        (["C1", "C2", "C3", "C4", "C5", "C6", "Cz", "Fz"], ["C1", "C2", "C3", "C4", "C5", "C6", "Cz", "Fz"]),
        (["I", "II", "C1", "C2", "C3", "C4", "C5", "C6"], ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]),
        (["II", "C1"], ["II", "V1"]),
        (["I", "C4"], ["I", "C4"]),
    ],
)
def test_electrodes_of_the_scalp_are_no_chest_leads(names: list[str], expected: list[str]) -> None:
    assert canonical_leads(names) == expected
