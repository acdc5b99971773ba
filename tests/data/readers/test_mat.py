"""MATLAB files: plain numbers are read, everything else is refused before it costs anything."""

import struct
import zlib

import numpy as np
import pytest
import scipy.io

from ecg_transformers.data.errors import (
    ECGDataError,
    LimitError,
    MissingHintError,
    SignalError,
    UnsupportedFormatError,
)
from ecg_transformers.data.readers import Limits, read_record

LEADS = ["I", "II", "V1"]
HINTS = {"sampling_rate": 100, "lead_names": LEADS, "units": "uV"}


@pytest.mark.parametrize("dtype", ["f8", "f4", "i2", "u1", "i4"])
@pytest.mark.parametrize("options", [{"format": "4"}, {}, {"do_compression": True}], ids=["v4", "v5", "compressed"])
def test_val_is_read_as_scipy_reads_it(tmp_path, dtype, options):
    value = np.random.default_rng(0).integers(0, 200, (3, 250)).astype(dtype)
    scipy.io.savemat(tmp_path / "r.mat", {"val": value}, **options)
    record = read_record(tmp_path / "r.mat", **HINTS)
    np.testing.assert_allclose(record.signal, value.T / 1000.0, rtol=1e-6)


def test_val_that_lies_the_other_way_is_told_by_the_lead_names(tmp_path):
    value = np.random.default_rng(0).normal(size=(250, 3))
    scipy.io.savemat(tmp_path / "r.mat", {"val": value})
    np.testing.assert_allclose(read_record(tmp_path / "r.mat", **HINTS).signal, value / 1000.0, rtol=1e-6)


def test_the_struct_of_cpsc_2018_is_read(ecg_data_dir):
    path = ecg_data_dir / "cpsc2018" / "TrainingSet1" / "A1980.mat"
    record = read_record(path)
    truth = scipy.io.loadmat(path)["ECG"][0, 0]
    np.testing.assert_array_equal(record.signal, truth["data"].T.astype(np.float32))
    assert record.sampling_rate == 500
    assert record.metadata["sex"] in ("male", "female")
    assert read_record(path, lead_names=["V6", "aVR"]).lead_names == ["V6", "aVR"]


def test_a_companion_header_gives_gain_rate_and_names(ecg_data_dir):
    import wfdb

    path = min((ecg_data_dir / "cinc2021").rglob("*.mat"))
    truth = wfdb.rdrecord(str(path.with_suffix("")))
    record = read_record(path)
    np.testing.assert_array_equal(record.signal, truth.p_signal.astype(np.float32))
    assert record.sampling_rate == truth.fs


def test_hints_are_asked_for(tmp_path):
    scipy.io.savemat(tmp_path / "r.mat", {"val": np.zeros((3, 250), dtype=np.int16)})
    for missing in HINTS:
        with pytest.raises(MissingHintError, match=missing):
            read_record(tmp_path / "r.mat", **{k: v for k, v in HINTS.items() if k != missing})


@pytest.mark.parametrize(
    "content",
    [
        {"val": np.array([[1, "a"]], dtype=object)},
        {"val": np.array(["text"])},
        {"val": np.ones((2, 3, 4))},
        {"val": np.ones((3, 50)) + 1j},
        {"other": np.ones((3, 50)), "more": np.ones(3)},
    ],
)
def test_what_is_no_plain_array_is_refused(tmp_path, content):
    scipy.io.savemat(tmp_path / "r.mat", content)
    with pytest.raises((UnsupportedFormatError, SignalError)):
        read_record(tmp_path / "r.mat", **HINTS)


def test_a_compression_bomb_is_refused_before_it_expands(tmp_path):
    bomb = zlib.compress(bytes(300_000_000), 9)
    body = struct.pack("<II", 15, len(bomb)) + bomb
    (tmp_path / "r.mat").write_bytes(b"MATLAB 5.0".ljust(124) + b"\0\1IM" + body)
    with pytest.raises(LimitError, match="expands"):
        read_record(tmp_path / "r.mat", limits=Limits(max_ratio=20), **HINTS)


def test_declared_sizes_are_checked_first(tmp_path):
    header = struct.pack("<5i", 0, 2**30, 2**30, 0, 4) + b"val\0"
    (tmp_path / "r.mat").write_bytes(header)
    with pytest.raises(LimitError, match="beyond the limit"):
        read_record(tmp_path / "r.mat", **HINTS)


def test_hdf5_files_say_what_to_do(tmp_path):
    (tmp_path / "r.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ECGDataError, match="-v7"):
        read_record(tmp_path / "r.mat", **HINTS)


def test_variables_that_nobody_asks_for_are_in_nobodys_way(tmp_path):
    value = np.arange(30.0).reshape(3, 10)
    others = {"leads": np.array(LEADS, dtype=object), "cube": np.ones((2, 3, 4)), "phase": np.ones((1, 4)) * 1j}
    scipy.io.savemat(tmp_path / "r.mat", {"val": value, **others})
    np.testing.assert_allclose(read_record(tmp_path / "r.mat", **HINTS).signal, value.T / 1000.0)
    with pytest.raises(UnsupportedFormatError, match="'cube' is an array of 2 x 3 x 4"):
        read_record(tmp_path / "r.mat", variable="cube", **HINTS)


def test_a_struct_that_says_more_than_cpsc_2018_is_not_taken_for_it(tmp_path):
    scipy.io.savemat(tmp_path / "r.mat", {"ECG": {"data": np.ones((12, 500)), "fs": 250}})
    with pytest.raises(SignalError, match=r"\['fs'\]"):
        read_record(tmp_path / "r.mat")


LAYOUTS = {"i2 v4": ("i2", "4"), "i2 v5": ("i2", "5"), "f8 v4": ("f8", "4"), "i4 v4": ("i4", "4")}


@pytest.mark.parametrize("suffix", ["hea", "mat"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_saved_again_beside_its_header_is_read_right_or_refused(tmp_path, layout, suffix):
    dtype, version = LAYOUTS[layout]
    value = np.random.default_rng(0).integers(-500, 500, (3, 250)).astype(dtype)
    scipy.io.savemat(tmp_path / "r.mat", {"val": value}, format=version)
    lines = [f"r.mat 16+24 200/mV 16 0 0 0 0 {lead}\n" for lead in LEADS]
    (tmp_path / "r.hea").write_text("r 3 250 250\n" + "".join(lines))
    np.testing.assert_allclose(read_record(tmp_path / f"r.{suffix}").signal, value.T / 200, rtol=1e-6)
    scipy.io.savemat(tmp_path / "r.mat", {"val": value.T}, format=version)
    with pytest.raises(SignalError, match="'val' is 250 x 3"):
        read_record(tmp_path / f"r.{suffix}")


def test_a_rate_in_the_file_is_not_passed_over(tmp_path):
    scipy.io.savemat(tmp_path / "r.mat", {"val": np.ones((2, 500)), "Fs": 250.0})
    with pytest.raises(SignalError, match="holds 'Fs', which is not read: pass sampling_rate="):
        read_record(tmp_path / "r.mat", lead_names=["I", "II"])
    assert read_record(tmp_path / "r.mat", lead_names=["I", "II"], sampling_rate=250).sampling_rate == 250
