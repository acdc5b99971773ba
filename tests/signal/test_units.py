"""Units of voltage and suspicious amplitudes."""

import numpy as np
import pytest

from ecg_transformers.signal.units import canonical_unit, to_millivolts, unit_suspicion


@pytest.mark.parametrize(
    ("spelt", "unit"),
    [
        ("mV", "mV"),
        ("MV", "mV"),
        ("mv ", "mV"),
        ("uV", "uV"),
        ("µV", "uV"),
        ("μV", "uV"),
        ("UV", "uV"),
        ("V", "V"),
        ("nv", "nV"),
    ],
)
def test_every_spelling_of_a_unit_is_known(spelt: str, unit: str) -> None:
    assert canonical_unit(spelt) == unit


@pytest.mark.parametrize("unit", ["furlong", "", "mmHg"])
def test_unknown_units_are_refused(unit: str) -> None:
    with pytest.raises(ValueError, match="unknown unit"):
        canonical_unit(unit)


def test_the_same_record_in_any_unit_has_the_same_millivolts() -> None:
    record = np.random.default_rng(0).standard_normal((50, 3))
    for unit, factor in (("V", 1e-3), ("mV", 1.0), ("µV", 1e3), ("nV", 1e6)):
        np.testing.assert_allclose(to_millivolts(record * factor, unit), record, rtol=1e-12)
    mixed = record * np.array([1e-3, 1.0, 1e3])
    np.testing.assert_allclose(to_millivolts(mixed, ["V", "mV", "uV"]), record, rtol=1e-12)


def test_float32_stays_and_integers_become_float64() -> None:
    assert to_millivolts(np.ones((5, 2), np.float32), "uV").dtype == np.float32
    assert to_millivolts(np.ones((5, 2), np.float32), ["uV", "mV"]).dtype == np.float32
    assert to_millivolts(np.ones((5, 2), np.int16), "uV").dtype == np.float64


def test_a_number_of_units_that_is_not_the_number_of_leads_is_refused() -> None:
    with pytest.raises(ValueError, match="2 units were given for 3 leads"):
        to_millivolts(np.ones((5, 3)), ["mV", "uV"])


def test_microvolts_read_as_millivolts_are_noticed() -> None:
    record = np.random.default_rng(0).standard_normal((500, 2))
    assert unit_suspicion(record) is None
    assert "microvolts" in str(unit_suspicion(record * 1000))
    assert "nanovolts" in str(unit_suspicion(record * 1e6))
    assert "volts" in str(unit_suspicion(record * 1e-6))


def test_an_offset_of_the_electrodes_is_no_other_unit() -> None:
    record = np.random.default_rng(0).standard_normal((500, 2))
    assert unit_suspicion(record + np.array([-180.0, 100.0])) is None
    assert "microvolts" in str(unit_suspicion(1000 * (record + np.array([-180.0, 100.0]))))
    assert "volts" in str(unit_suspicion(record * 1e-6 + 100.0))
