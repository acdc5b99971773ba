"""The door to all readers."""

import json
import sys

import numpy as np
import pytest

from ecg_transformers.data.errors import ECGDataError, OptionError, RecordNotFoundError, UnsupportedFormatError
from ecg_transformers.data.readers import describe_record, format_of, read_record


def test_unknown_formats_and_folders_are_refused(tmp_path):
    (tmp_path / "r.xyz").write_text("?")
    with pytest.raises(UnsupportedFormatError, match=r"'\.xyz'"):
        read_record(tmp_path / "r.xyz")
    with pytest.raises(UnsupportedFormatError, match="folder"):
        read_record(tmp_path)
    with pytest.raises(RecordNotFoundError):
        read_record(tmp_path / "none.npy", sampling_rate=100, lead_names=["I"])


def test_unknown_hints_name_the_nearest(tmp_path):
    with pytest.raises(OptionError, match="did you mean 'sampling_rate'"):
        read_record(tmp_path / "x.npy", sample_rate=100)
    with pytest.raises(OptionError, match="list of names"):
        read_record(tmp_path / "x.npy", lead_names="II")
    with pytest.raises(ECGDataError, match="parsec"):
        read_record(tmp_path / "x.npy", units="parsec")


def test_a_rate_that_contradicts_the_file_is_refused(tmp_path, write_wfdb, digital_ecg):
    path = write_wfdb(tmp_path, "r", digital_ecg())
    assert read_record(path, sampling_rate=100).sampling_rate == 100
    with pytest.raises(OptionError, match="states 100"):
        read_record(path, sampling_rate=500)


def test_a_header_without_a_rate_takes_the_hint(tmp_path):
    np.zeros(100, dtype="<i2").tofile(tmp_path / "r.dat")
    (tmp_path / "r.hea").write_text("r 1\nr.dat 16 200 16 0 0 0 0 II\n")
    record = read_record(tmp_path / "r")
    assert record.sampling_rate == 250
    assert "rate_defaulted" in record.metadata["flags"]
    assert read_record(tmp_path / "r", sampling_rate=128).sampling_rate == 128


def test_a_description_is_plain_data(tmp_path, write_wfdb, digital_ecg):
    samples = digital_ecg()
    samples[:, 11] = 0
    samples[:500, 3] = -32768
    sheet = json.loads(json.dumps(describe_record(write_wfdb(tmp_path, "r", samples))))
    assert (sheet["format"], sheet["num_samples"], sheet["duration_s"], sheet["sampling_rate"]) == (
        "wfdb",
        1000,
        10,
        100,
    )
    assert sheet["leads"][11]["flat"] is True
    assert sheet["leads"][3]["missing_fraction"] == 0.5


@pytest.mark.parametrize(("name", "kind"), [("a.HEA", "wfdb"), ("a.Mat", "mat"), ("a.tsv", "csv"), ("a.edf", "edf")])
def test_formats_are_known_by_suffix(name, kind):
    assert format_of(name) == kind


def test_reading_opens_nothing_outside_the_folder(tmp_path, write_wfdb, digital_ecg):
    folder = tmp_path / "in"
    path = write_wfdb(folder, "r", digital_ecg())
    np.save(folder / "a.npy", np.zeros((10, 1)))
    opened: list[str] = []
    watching = [True]

    def hook(event: str, arguments: tuple) -> None:
        if event == "open" and watching[0] and isinstance(arguments[0], str):
            opened.append(arguments[0])

    read_record(path)  # modules are imported by now
    read_record(folder / "a.npy", sampling_rate=100, lead_names=["I"])
    sys.addaudithook(hook)
    read_record(path)
    read_record(folder / "a.npy", sampling_rate=100, lead_names=["I"])
    watching[0] = False
    assert opened
    assert all(name.startswith(str(folder)) for name in opened)
