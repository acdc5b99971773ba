"""The row schema: nothing is lost between a record, its digital form and its row."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ecg_transformers.data.errors import DuplicateLeadError, ECGDataError, HeaderError, LabelError, SignalError
from ecg_transformers.data.millivolts import INVALID, quantize, to_millivolt
from ecg_transformers.data.record import DigitalRecord, ECGRecord, record_features, standard_lead_name


def a_record(**changes):
    fields = {
        "signal": np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32),
        "sampling_rate": 100.0,
        "lead_names": ["I", "V1"],
        "record_id": "r1",
        "patient_id": "p1",
        "labels": ["b", "a"],
        "source": "here",
        "annotations": {"beat_samples": np.array([3, 20]), "beat_symbols": np.array(["N", "V"])},
        "metadata": {"age": 61, "flags": ["x"]},
    }
    return ECGRecord(**{**fields, **changes})


def test_a_row_gives_the_record_back():
    record = a_record()
    back = ECGRecord.from_row(record.to_row(["a", "b", "c"], "multilabel", fold=3))
    # powers of two leave an error of half a unit: 1/64000 of the range
    np.testing.assert_allclose(back.signal, record.signal, atol=2 * np.ptp(record.signal) / 64000)
    for name in ("sampling_rate", "lead_names", "record_id", "patient_id", "labels", "source", "metadata"):
        assert getattr(back, name) == getattr(record, name)
    assert back.annotations["beat_samples"].tolist() == [3, 20]
    assert back.annotations["beat_symbols"].tolist() == ["N", "V"]


def test_a_row_fits_the_features_and_the_label_vector_follows_the_names():
    row = a_record().to_row(["a", "b", "c"], "multilabel", fold=3)
    features = record_features(["a", "b", "c"])
    assert set(row) == set(features)
    assert features.encode_example(row)["label_ids"] == [0, 1]
    assert row["label_vector"] == [1, 1, 0]
    assert row["fold"] == 3


def test_digital_rows_are_lossless():
    samples = np.random.default_rng(1).integers(-32768, 32767, (40, 3), dtype=np.int16)
    record = DigitalRecord(
        samples, np.array([204.8, 200.0, -1000.0]), np.array([0.0, 1024.0, -3.0]), 360.0, list("abc"), "x"
    )
    back = DigitalRecord.from_row(record.to_row())
    np.testing.assert_array_equal(back.samples, samples)
    np.testing.assert_array_equal(back.gain, record.gain)
    np.testing.assert_array_equal(back.offset, record.offset)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    hnp.arrays(np.int16, (20, 2)),
    st.sampled_from([200.0, 1000.0, 204.8, -756.0, 1e-3, 0.3]),
    st.sampled_from([0.0, 1024.0, -3.0, 2.0**30, 0.25]),
)
def test_millivolts_are_the_rounded_float64_quotient(samples, gain, offset):
    expected = ((samples.astype(np.float64) - offset) / gain).astype(np.float32)
    expected[samples == INVALID] = np.nan
    got = to_millivolt(samples, np.array([gain, gain]), np.array([offset, offset]))
    np.testing.assert_array_equal(got, expected)
    mixed = to_millivolt(samples, np.array([gain, 1000.0]), np.array([offset, 0.0]))
    np.testing.assert_array_equal(mixed[:, 0], expected[:, 0])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(hnp.arrays(np.float32, (12, 2), elements=st.floats(-(2.0**40), 2.0**40, width=32)))
def test_quantising_errs_by_less_than_the_range_over_30000(signal):
    samples, gain, offset = quantize(signal, ["a", "b"])
    back = (samples - offset) / gain
    span = np.maximum(np.ptp(signal.astype(np.float64), axis=0), np.abs(signal).max(axis=0) * 2.0**-19)
    assert np.all(np.abs(back - signal) <= np.maximum(span / 30000, 2.0**-24))


def test_missing_values_survive_and_infinite_ones_are_refused():
    signal = np.zeros((5, 2), dtype=np.float32)
    signal[2, 1] = np.nan
    row = a_record(signal=signal).to_row()
    assert np.isnan(ECGRecord.from_row(row).signal[2, 1])
    assert np.isnan(ECGRecord.from_row(row).signal).sum() == 1
    signal[0, 1] = np.inf
    with pytest.raises(SignalError, match=r"V1.*infinite"):
        a_record(signal=signal).to_row()


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"signal": np.zeros((2, 50))}, SignalError, "transpose"),
        ({"signal": np.zeros(50)}, SignalError, "two axes"),
        ({"signal": np.zeros((0, 2))}, SignalError, "no sample"),
        ({"sampling_rate": 0.0}, HeaderError, "outside 1 to 100,000"),
        ({"sampling_rate": float("nan")}, HeaderError, "outside"),
        ({"lead_names": ["I", "i"]}, DuplicateLeadError, "may occur once"),
    ],
)
def test_impossible_records_are_refused_in_a_sentence(changes, error, text):
    with pytest.raises(error, match=text):
        a_record(**changes)


def test_unknown_labels_are_named():
    with pytest.raises(LabelError, match=r"\['b'\] are not among \['a'\]"):
        a_record().to_row(["a"], "multilabel")


def test_standard_names_are_spelled_alike_and_others_stay():
    given_names = ["AVR", "avl", "ECG V1", "lead II", "MLII", "vx", "abdomen"]
    assert [standard_lead_name(n) for n in given_names] == ["aVR", "aVL", "V1", "II", "MLII", "VX", "abdomen"]


def test_errors_travel_between_processes_whole():
    error = pickle.loads(pickle.dumps(SignalError("it is flat.", path="a/b", record="r", lead="V1")))
    assert isinstance(error, SignalError)
    assert isinstance(error, ECGDataError)
    assert isinstance(error, ValueError)
    assert (error.path, error.record, error.lead, error.reason) == ("a/b", "r", "V1", "it is flat.")
    assert str(error) == "file 'a/b', record 'r', lead 'V1': it is flat."


def test_rows_that_are_no_millivolts_say_so():
    row = a_record(metadata={"flags": ["z_scores"]}).to_row(["a", "b"], "multilabel")
    with pytest.warns(UserWarning, match="z-scores of each lead, not millivolts"):
        assert ECGRecord.from_row(row).units == "z-score"
    assert a_record().units == "mV"
