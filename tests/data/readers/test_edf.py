"""EDF files written by edfio: lossless, with the header checked first."""

import sys

import numpy as np
import pytest

from ecg_transformers.data.errors import (
    ECGDataError,
    HeaderError,
    SignalError,
    TruncatedError,
    UnitError,
    UnsupportedFormatError,
)
from ecg_transformers.data.readers import read_digital, read_record

edfio = pytest.importorskip("edfio", reason="the writer of these files, in the extra [edf]")


def write(path, leads=("ECG I", "EKG II"), rates=(200, 200), unit="uV"):
    rng = np.random.default_rng(0)
    signals = [
        edfio.EdfSignal(
            rng.normal(0, 500, rate * 10), rate, label=lead, physical_dimension=unit, physical_range=(-3000, 3000)
        )
        for lead, rate in zip(leads, rates)
    ]
    edfio.Edf(signals).write(path)
    return edfio.read_edf(path)


def test_signals_become_millivolts_and_keep_their_digits(tmp_path):
    truth = write(tmp_path / "r.edf")
    record = read_record(tmp_path / "r.edf")
    expected = np.stack([signal.data for signal in truth.signals], axis=1) / 1000
    np.testing.assert_allclose(record.signal, expected, atol=1e-6)
    assert record.lead_names == ["I", "II"]
    assert record.sampling_rate == 200
    digital = read_digital(tmp_path / "r.edf")
    np.testing.assert_array_equal(digital.samples[:, 0], np.maximum(truth.signals[0].digital, -32767))


@pytest.mark.parametrize("spelling", ["µV".encode("latin-1"), "µV".encode(), "μV".encode(), b"UV"])
def test_microvolts_are_known_in_every_spelling(tmp_path, spelling):
    truth = write(tmp_path / "r.edf")
    content = (tmp_path / "r.edf").read_bytes().replace(b"uV".ljust(8), spelling.ljust(8))
    (tmp_path / "r.edf").write_bytes(content)
    np.testing.assert_allclose(read_record(tmp_path / "r.edf").signal[:, 0], truth.signals[0].data / 1000, atol=1e-6)


def test_signals_of_several_rates_must_be_chosen_from(tmp_path):
    write(tmp_path / "r.edf", rates=(200, 100))
    with pytest.raises(SignalError, match="lead_names"):
        read_record(tmp_path / "r.edf")
    assert read_record(tmp_path / "r.edf", lead_names=["II"]).sampling_rate == 100


def test_other_quantities_are_refused(tmp_path):
    write(tmp_path / "r.edf", unit="mmHg")
    with pytest.raises(UnitError, match="mmHg"):
        read_record(tmp_path / "r.edf")


def test_lies_of_the_header_are_found_before_reading(tmp_path):
    write(tmp_path / "r.edf")
    content = bytearray((tmp_path / "r.edf").read_bytes())
    for field, value, error in (
        (slice(236, 244), b"-2      ", HeaderError),
        (slice(244, 252), b"nan     ", HeaderError),
        (slice(236, 244), b"99999   ", TruncatedError),
        (slice(252, 256), b"9999", ECGDataError),
        (slice(252, 256), b"x   ", HeaderError),
        (slice(0, 8), b"PDF     ", UnsupportedFormatError),
    ):
        broken = bytearray(content)
        broken[field] = value
        (tmp_path / "b.edf").write_bytes(bytes(broken))
        with pytest.raises(error):
            read_record(tmp_path / "b.edf")


def test_no_extra_is_needed(tmp_path, monkeypatch):
    truth = write(tmp_path / "r.edf")
    monkeypatch.setitem(sys.modules, "edfio", None)
    assert read_record(tmp_path / "r.edf").num_samples == truth.signals[0].data.size
