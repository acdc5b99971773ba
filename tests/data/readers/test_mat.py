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
