"""Damaged and hostile files: every reader gives a record or an `ECGDataError`, in bounded time and memory.

Valid files are written, then damaged by structured mutations (bit flips, truncation, repeated and exchanged parts,
numbers replaced by extreme ones). Whatever comes out must be a record that makes sense or an error with a sentence.
"""

import io
import resource
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.readers import Limits, read_record
from ecg_transformers.data.readers.wfdb_annotations import parse_annotations
from ecg_transformers.data.readers.wfdb_header import parse_header

HINTS = {"sampling_rate": 100.0, "lead_names": ["I", "II", "V1"], "units": "uV"}
LIMITS = Limits(max_file_bytes=2**24, max_samples=2**20)
EXTREMES = [
    b"0",
    b"-1",
    b"1",
    b"65536",
    b"2147483648",
    b"99999999999999999999",
    b"1e400",
    b"nan",
    b"-",
    b"",
    b"/",
    b"../x",
]
EXTREMES += [b"\x00", b"\xff\xff\xff\xff", b"\n", b"(", b"+", b"x9999999", b":5", b"\xe2\x80\xae", b"#", b"100000000"]

mutation = st.one_of(
    st.tuples(st.just("flip"), st.floats(0, 1), st.integers(0, 7)),
    st.tuples(st.just("cut"), st.floats(0, 1), st.just(0)),
    st.tuples(st.just("put"), st.floats(0, 1), st.sampled_from(range(len(EXTREMES)))),
    st.tuples(st.just("repeat"), st.floats(0, 1), st.integers(1, 64)),
    st.tuples(st.just("erase"), st.floats(0, 1), st.integers(1, 64)),
    st.tuples(st.just("word"), st.floats(0, 1), st.sampled_from(range(len(EXTREMES)))),
)
mutations = st.lists(mutation, min_size=1, max_size=4)
bounded = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def damage(content: bytes, operations: list, head: int | None = None) -> bytes:
    """Apply mutations, most of them within the first `head` bytes."""
    for kind, place, value in operations:
        size = min(len(content), head or len(content))
        at = min(int(place * size), max(size - 1, 0))
        if kind == "flip" and content:
            content = content[:at] + bytes([content[at] ^ 1 << value]) + content[at + 1 :]
        elif kind == "cut":
            content = content[: int(place * len(content))]
        elif kind == "put":
            content = content[:at] + EXTREMES[value] + content[at + len(EXTREMES[value]) :]
        elif kind == "repeat":
            content = content[:at] + content[at : at + value] * 3 + content[at + value :]
        elif kind == "erase":
            content = content[:at] + content[at + value :]
        elif kind == "word":  # replace a whole field of a text header
            start = max(content.rfind(b" ", 0, at), content.rfind(b"\n", 0, at)) + 1
            ends = [end for end in (content.find(b" ", start), content.find(b"\n", start)) if end >= 0]
            content = content[:start] + EXTREMES[value] + content[min(ends, default=len(content)) :]
    return content


def survives(path: Path, **hints) -> None:
    """A record that makes sense, or an error that names the file; quickly."""
    started = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            record = read_record(path, limits=LIMITS, **hints)
    except ECGDataError as error:
        said = str(error)
        if not 20 < len(said) < 1000:
            pytest.fail(f"no sentence: {said[:1000]}")
    else:
        assert record.signal.dtype == np.float32
        assert record.signal.shape == (record.num_samples, len(record.lead_names))
        assert 1 <= record.sampling_rate <= 100_000
    assert time.process_time() - started < 2


@pytest.fixture(scope="module", autouse=True)
def _memory_is_bounded():
    """No case may make the process grow by more than 512 MiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024


SAMPLES = np.random.default_rng(0).integers(-500, 500, (60, 3)).astype(np.int16)


@bounded
@given(mutations, mutations)
def test_wfdb_16(tmp_path, write_wfdb, header, signal):
    path = write_wfdb(tmp_path, "r", SAMPLES)
    path.write_bytes(damage(path.read_bytes(), header))
    (tmp_path / "r.dat").write_bytes(damage((tmp_path / "r.dat").read_bytes(), signal[:1]))
    survives(path)
    survives(path, checksum="ignore", allow_truncated=True)


@bounded
@given(st.sampled_from(["8", "24", "32", "61", "80", "160", "212", "310", "311", "516"]), mutations)
def test_wfdb_other_formats(tmp_path, write_wfdb, fmt, header):
    path = write_wfdb(tmp_path, "r", SAMPLES)
    content = path.read_bytes().replace(b".dat 16", f".dat {fmt}".encode())
    path.write_bytes(damage(content, header[:2]))
    survives(path, checksum="ignore")


@bounded
@given(mutations)
def test_wfdb_segments(tmp_path, write_wfdb, header):
    write_wfdb(tmp_path, "a", SAMPLES[:20])
    write_wfdb(tmp_path, "b", SAMPLES[20:])
    (tmp_path / "m.hea").write_bytes(damage(b"m/3 3 100 70\na 20\n~ 10\nb 40\n", header))
    survives(tmp_path / "m.hea")


@bounded
@given(st.binary(max_size=400))
def test_any_bytes_as_wfdb_header(tmp_path, content):
    try:
        header = parse_header(content, tmp_path)
    except ECGDataError:
        return
    assert len(header.signals) <= 64


@bounded
@given(st.binary(max_size=400))
def test_any_bytes_as_annotations(tmp_path, content):
    try:
        marks = parse_annotations(content, tmp_path)
    except ECGDataError:
        return
    assert len(marks.samples) == len(marks.symbols) == len(marks.notes)
    assert (marks.samples >= 0).all()


@bounded
@given(st.sampled_from(["4", "5", "5z", "struct"]), mutations)
def test_mat(tmp_path, kind, operations):
    value = (
        {"ECG": {"sex": "Male", "age": 61.0, "data": np.zeros((12, 40))}} if kind == "struct" else {"val": SAMPLES.T}
    )
    scipy.io.savemat(
        tmp_path / "r.mat", value, format=kind[0] if kind != "struct" else "5", do_compression=kind == "5z"
    )
    content = (tmp_path / "r.mat").read_bytes()
    (tmp_path / "r.mat").write_bytes(damage(content, operations, head=260))
    survives(tmp_path / "r.mat", **(HINTS if kind != "struct" else {}))


@bounded
@given(mutations)
def test_npy(tmp_path, operations):
    np.save(tmp_path / "r.npy", SAMPLES)
    (tmp_path / "r.npy").write_bytes(damage((tmp_path / "r.npy").read_bytes(), operations, head=140))
    survives(tmp_path / "r.npy", **HINTS)


@bounded
@given(st.booleans(), mutations)
def test_npz(tmp_path, compressed, operations):
    (np.savez_compressed if compressed else np.savez)(
        tmp_path / "r.npz", signal=SAMPLES, sampling_rate=100.0, units="uV"
    )
    content = (tmp_path / "r.npz").read_bytes()
    (tmp_path / "r.npz").write_bytes(damage(content, operations))
    survives(tmp_path / "r.npz", lead_names=HINTS["lead_names"])


@bounded
@given(mutations)
def test_npz_with_damaged_members(tmp_path, operations):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, SAMPLES)
    with zipfile.ZipFile(tmp_path / "r.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("signal.npy", damage(stream.getvalue(), operations, head=140))
    survives(tmp_path / "r.npz", **HINTS)


@bounded
@given(st.sampled_from([",", ";", "\t"]), mutations)
def test_csv(tmp_path, separator, operations):
    lines = [separator.join(["I", "II", "V1"])] + [separator.join(map(str, row)) for row in SAMPLES]
    (tmp_path / "r.csv").write_bytes(damage("\n".join(lines).encode(), operations))
    survives(tmp_path / "r.csv", sampling_rate=100)


@bounded
@given(mutations)
def test_edf(tmp_path, operations):
    edfio = pytest.importorskip("edfio", reason="EDF needs the extra [edf]")
    path = tmp_path / "r.edf"
    if not (tmp_path / "whole.edf").exists():
        signals = [
            edfio.EdfSignal(
                SAMPLES[:50, n].astype(float), 50, label=name, physical_dimension="uV", physical_range=(-600, 600)
            )
            for n, name in enumerate(HINTS["lead_names"])
        ]
        edfio.Edf(signals).write(tmp_path / "whole.edf")
    path.write_bytes(damage((tmp_path / "whole.edf").read_bytes(), operations, head=1100))
    survives(path)


@pytest.mark.parametrize("suffix", [".hea", ".mat", ".npy", ".npz", ".csv", ".edf"])
def test_empty_files_folders_and_pipes(tmp_path, suffix):
    import os

    (tmp_path / f"empty{suffix}").write_bytes(b"")
    (tmp_path / f"folder{suffix}").mkdir()
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"loop{suffix}").symlink_to(tmp_path / f"loop{suffix}")
    for name in ("empty", "folder", "pipe", "loop"):
        with pytest.raises(ECGDataError):
            read_record(tmp_path / f"{name}{suffix}", **HINTS)
