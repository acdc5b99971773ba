"""Arrays of a user's own: which axis is time, how many records, which variable; asked where the file does not say."""

import numpy as np
import pytest

from ecg_transformers.data.errors import ECGDataError, LeadNotFoundError, MissingHintError, OptionError, SignalError
from ecg_transformers.data.readers import read_record

TWO = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)


def test_an_array_of_leads_and_samples_is_told_to_be_transposed(tmp_path):
    wide = np.zeros((12, 1000))
    np.save(tmp_path / "a.npy", wide)
    np.savez(tmp_path / "a.npz", signal=wide, sampling_rate=100)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(SignalError, match=r"looks like \(leads, samples\): transpose"):
            read_record(tmp_path / name, sampling_rate=100, lead_names=[f"V{i}" for i in range(12)])


def test_an_array_of_several_records_is_told(tmp_path):
    np.save(tmp_path / "all.npy", np.zeros((3, 1000, 2)))
    with pytest.raises(SignalError, match="holds 3 records"):
        read_record(tmp_path / "all.npy", sampling_rate=100, lead_names=["I", "II"])


@pytest.mark.parametrize("shape", [(1, 1000, 2), (1000, 2, 1)])
def test_an_axis_of_length_one_too_many_is_told(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(SignalError, match="an axis of length 1 too many"):
        read_record(tmp_path / "a.npy", sampling_rate=100, lead_names=["I", "II"])


def test_names_saved_as_python_objects_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", signal=TWO, sampling_rate=100, lead_names=np.array(["I", "II"], dtype=object))
    with pytest.raises(ECGDataError, match=r"'lead_names'.*dtype=str"):
        read_record(tmp_path / "a.npz")


def test_a_variable_is_read_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", feats=TWO, other=np.zeros(3))
    with pytest.raises(SignalError, match="variable="):
        read_record(tmp_path / "a.npz", sampling_rate=100, lead_names=["I", "II"])
    record = read_record(tmp_path / "a.npz", sampling_rate=100, lead_names=["I", "II"], variable="feats")
    np.testing.assert_array_equal(record.signal, TWO)


@pytest.mark.parametrize("turned", [False, True])
def test_a_variable_of_matlab_is_read_by_name_whichever_axis_is_time(tmp_path, turned):
    from scipy.io import savemat

    savemat(tmp_path / "a.mat", {"feats": TWO.T if turned else TWO, "other": np.zeros(3)})
    with pytest.raises(SignalError, match="variable="):
        read_record(tmp_path / "a.mat", sampling_rate=100, lead_names=["I", "II"])
    record = read_record(tmp_path / "a.mat", sampling_rate=100, lead_names=["I", "II"], variable="feats")
    np.testing.assert_array_equal(record.signal, TWO)


@pytest.mark.parametrize("hint", [{"variable": "x"}, {"allow_truncated": True}])
def test_a_hint_that_a_format_cannot_honour_is_refused(tmp_path, hint):
    (tmp_path / "a.csv").write_text("I,II\n0.1,0.2\n")
    with pytest.raises(OptionError, match=next(iter(hint))):
        read_record(tmp_path / "a.csv", sampling_rate=100, **hint)


def test_all_that_is_missing_is_asked_for_at_once(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((100, 2), dtype=np.int16))
    with pytest.raises(MissingHintError) as caught:
        read_record(tmp_path / "a.npy")
    for name in ("sampling_rate=", "units=", "lead_names="):
        assert name in str(caught.value)


def test_the_one_lead_of_a_file_that_names_none_is_the_one_that_the_caller_says(tmp_path, write_wfdb, digital_ecg):
    """`ECG` says nothing of the body (CinC 2017, wearables); a name that does is believed."""
    signal = TWO[:, :1]
    write_wfdb(tmp_path, "wfdb", digital_ecg(0)[:, :1], lead_names=["ECG"])
    np.savez(tmp_path / "npz.npz", signal=signal, sampling_rate=100, lead_names=["ch1"])
    np.savetxt(tmp_path / "csv.csv", signal, header="ecg", comments="", delimiter=",")
    for name, rate in (("wfdb.hea", None), ("npz.npz", None), ("csv.csv", 100)):
        hints = {"units": "mV"} | ({} if rate is None else {"sampling_rate": rate})
        plain, named = (read_record(tmp_path / name, **hints, **more) for more in ({}, {"lead_names": ["ii"]}))
        assert named.lead_names == ["II"]
        assert np.array_equal(plain.signal, named.signal)
        for wrong in (["thumb"], ["I", "II"]):
            with pytest.raises(LeadNotFoundError, match="the record has the leads"):
                read_record(tmp_path / name, lead_names=wrong, **hints)
    np.savez(tmp_path / "known.npz", signal=signal, sampling_rate=100, lead_names=["V1"], units="mV")
    with pytest.raises(LeadNotFoundError, match="the record has the leads"):
        read_record(tmp_path / "known.npz", lead_names=["II"])
