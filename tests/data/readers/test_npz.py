"""NPY and NPZ: nothing is unpickled, nothing is expanded beyond the limits."""

import io
import os
import pickle
import zipfile
from contextlib import nullcontext

import numpy as np
import pytest

from ecg_transformers.data.errors import (
    ECGDataError,
    LimitError,
    MissingHintError,
    OptionError,
    SignalError,
    TruncatedError,
    UnitError,
    UnsupportedFormatError,
)
from ecg_transformers.data.readers import npz, patient_in_file, read_record

SIGNAL = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
HINTS = {"sampling_rate": 250, "lead_names": ["I", "II", "III"]}


def npy(array: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "array", [SIGNAL, SIGNAL.astype(">f8"), np.asfortranarray(SIGNAL)], ids=["f4", "big-endian", "fortran"]
)
def test_arrays_are_read_as_millivolts(tmp_path, array):
    np.save(tmp_path / "r.npy", array)
    record = read_record(tmp_path / "r.npy", **HINTS)
    np.testing.assert_array_equal(record.signal, SIGNAL)
    assert record.record_id == "r"


def test_integers_need_a_unit(tmp_path):
    np.save(tmp_path / "r.npy", (SIGNAL * 1000).astype(np.int16))
    with pytest.raises(MissingHintError, match="units"):
        read_record(tmp_path / "r.npy", **HINTS)
    assert abs(read_record(tmp_path / "r.npy", units="uV", **HINTS).signal - SIGNAL).max() < 2e-3


def test_a_transposed_array_is_refused_not_guessed(tmp_path):
    np.save(tmp_path / "r.npy", SIGNAL.T)
    with pytest.raises(ECGDataError, match=r"(transpose|leads are declared)"):
        read_record(tmp_path / "r.npy", **HINTS)


def test_an_archive_can_say_everything_itself(tmp_path):
    np.savez_compressed(
        tmp_path / "r.npz", signal=SIGNAL * 1000, sampling_rate=250, lead_names=["i", "II", "III"], units="uV"
    )
    record = read_record(tmp_path / "r.npz")
    np.testing.assert_allclose(record.signal, SIGNAL, rtol=1e-5)
    assert record.lead_names == ["I", "II", "III"]
    assert read_record(tmp_path / "r.npz", lead_names=["III"]).signal.shape == (500, 1)
    with pytest.raises(OptionError, match="states 250"):
        read_record(tmp_path / "r.npz", sampling_rate=500)


def test_units_of_each_lead_hold_for_that_lead(tmp_path):
    stored = {"sampling_rate": 250, "lead_names": ["I", "II", "PLETH"]}
    np.savez(tmp_path / "r.npz", signal=SIGNAL * [1, 1000, 1], units=["mV", "uV", "NU"], **stored)
    with pytest.raises(UnitError, match=r"PLETH.*'NU' is not a voltage"):
        read_record(tmp_path / "r.npz")
    np.testing.assert_allclose(read_record(tmp_path / "r.npz", lead_names=["II"]).signal, SIGNAL[:, 1:2], rtol=1e-5)
    np.savez(tmp_path / "r.npz", signal=SIGNAL, units=["mV", "uV"], **stored)
    with pytest.raises(SignalError, match="'units' has 2 texts"):
        read_record(tmp_path / "r.npz")


@pytest.mark.parametrize("name", ["patient_id", "subject_id", "patient", "subject", "PatientID", "pid"])
@pytest.mark.parametrize(("own", "text"), [("P-17", "P-17"), (17, "17"), (17.0, "17"), (np.array([17]), "17")])
def test_the_patient_of_an_archive_is_that_of_the_record(tmp_path, name, own, text):
    np.savez(tmp_path / "r.npz", signal=SIGNAL, **HINTS, **{name: own})
    hidden = read_record(tmp_path / "r.npz").patient_id
    assert read_record(tmp_path / "r.npz", keep_identity=True).patient_id == text
    assert hidden is not None
    assert hidden != text
    assert patient_in_file(tmp_path / "r.npz") == hidden
    np.savez(tmp_path / "other.npz", signal=SIGNAL, **HINTS, **{name: "P-18"})
    assert read_record(tmp_path / "other.npz").patient_id not in (None, hidden)


@pytest.mark.parametrize("own", ["", np.zeros(3), 0.5, np.array("P", dtype=object)])
def test_what_names_no_patient_is_passed_over(tmp_path, own):
    np.savez(tmp_path / "r.npz", signal=SIGNAL, **HINTS, patient=own)
    assert read_record(tmp_path / "r.npz").patient_id is None
    assert patient_in_file(tmp_path / "r.npz") is None


def test_objects_are_never_unpickled(tmp_path):
    class Canary:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    trap = np.array([Canary()], dtype=object)
    np.save(tmp_path / "r.npy", trap, allow_pickle=True)
    with pytest.raises(UnsupportedFormatError):
        read_record(tmp_path / "r.npy", **HINTS)
    np.savez(tmp_path / "r.npz", signal=trap)
    with pytest.raises(UnsupportedFormatError):
        read_record(tmp_path / "r.npz", **HINTS)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Canary()))
    with pytest.raises(UnsupportedFormatError):
        read_record(tmp_path / "p.npy", **HINTS)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("shape", [(2**40, 12), (10**9, 10**9), (500, 3, 4)])
def test_declared_shapes_are_checked_before_allocation(tmp_path, shape):
    header = np.lib.format.header_data_from_array_1_0(SIGNAL) | {"shape": shape}
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    (tmp_path / "r.npy").write_bytes(stream.getvalue())
    with pytest.raises(ECGDataError):
        read_record(tmp_path / "r.npy", **HINTS)


def test_truncated_arrays_say_how_much_is_missing(tmp_path):
    (tmp_path / "r.npy").write_bytes(npy(SIGNAL)[:-10])
    with pytest.raises(TruncatedError, match="6000 bytes, 5990 follow"):
        read_record(tmp_path / "r.npy", **HINTS)


def test_an_empty_day_is_read_and_a_bomb_in_an_archive_is_refused(tmp_path, monkeypatch):
    assert npz.MOST_EMPTY > 86400 * 128 * 3
    monkeypatch.setattr(npz, "MOST_EMPTY", 2**20)
    small = pytest.raises(LimitError, match="would be made of")
    large = pytest.raises(LimitError, match="beyond 200:1")
    for samples, meets in ((2**18, nullcontext()), (2**18 + 2**12, small), (2**20 + 2**12, large)):
        np.savez_compressed(tmp_path / "r.npz", signal=np.zeros((samples, 4), dtype=np.int8))
        assert (tmp_path / "r.npz").stat().st_size < 4 * samples / 200
        with meets:
            record = read_record(tmp_path / "r.npz", sampling_rate=250, lead_names=["I", "II", "V1", "V2"], units="mV")
            assert record.num_samples == samples


@pytest.mark.parametrize("name", ["../signal.npy", "a/b.npy", "signal.txt"])
def test_odd_members_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "r.npz", "w") as archive:
        archive.writestr(name, npy(SIGNAL))
    with pytest.raises(UnsupportedFormatError):
        read_record(tmp_path / "r.npz", **HINTS)


def test_an_archive_of_several_arrays_must_name_the_signal(tmp_path):
    np.savez(tmp_path / "r.npz", a=SIGNAL, b=SIGNAL)
    with pytest.raises(SignalError, match=r"no array 'signal', but \['a', 'b'\]"):
        read_record(tmp_path / "r.npz", **HINTS)


def test_what_lies_beside_the_samples_is_not_looked_at(tmp_path):
    notes = {"diagnosis": np.array(["AF"]), "history": np.array([{"age": 60}], dtype=object)}
    np.savez(tmp_path / "r.npz", signal=SIGNAL, sampling_rate=250, lead_names=["I", "II", "III"], **notes)
    np.testing.assert_allclose(read_record(tmp_path / "r.npz").signal, SIGNAL, rtol=1e-6)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_that_was_not_copied_whole_is_told_so(tmp_path, save):
    save(tmp_path / "r.npz", signal=SIGNAL)
    os.truncate(tmp_path / "r.npz", (tmp_path / "r.npz").stat().st_size - 30)
    with pytest.raises(TruncatedError, match=r"r\.npz.*not copied whole"):
        read_record(tmp_path / "r.npz", **HINTS)


@pytest.mark.parametrize(
    ("fact", "key", "value"),
    [("sampling_rate", "fs", 250.0), ("units", "unit", "uV"), ("lead_names", "leads", ["II", "V1"])],
)
def test_a_fact_under_another_name_is_refused_unless_it_is_said(tmp_path, fact, key, value):
    said = {"sampling_rate": 500.0, "units": "mV", "lead_names": ["I", "II"]}
    others = {name: np.array(one) for name, one in said.items() if name != fact}
    np.savez(tmp_path / "r.npz", signal=np.ones((500, 2)), **others, **{key: np.array(value)})
    with pytest.raises(SignalError, match=f"r.npz.*holds '{key}', which is not read.*'{fact}', or pass {fact}="):
        read_record(tmp_path / "r.npz")
    assert read_record(tmp_path / "r.npz", **{fact: value}).num_samples == 500
