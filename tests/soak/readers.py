"""Damaged and hostile files by the thousand: each reader gives a record or one sentence, in bounded time and memory.

    python tests/soak/readers.py [--cases 2000] [--seed 0] [--first 0] [--only NAME]        (or: make soak)

A case is a function of reader, seed and number: a valid file is written, then damaged (bits flipped, cut, parts erased,
repeated or replaced by extreme numbers). Readers run in a process of their own whose memory may grow by 256 MiB; a
case that fails is printed with the command that repeats it, and its files are kept.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

Case = tuple[Path, dict[str, Any]]
MOST_SECONDS = 1.0  # of CPU time
MOST_GROWTH = 256 * 2**20  # bytes
LEADS = ["I", "II", "V1"]
HINTS = {"sampling_rate": 100.0, "lead_names": LEADS, "units": "uV"}
SAMPLES = np.random.default_rng(0).integers(-500, 500, (60, 3)).astype(np.int16)
OTHER_FORMATS = (
    "0",
    "8",
    "24",
    "32",
    "61",
    "80",
    "160",
    "212",
    "310",
    "311",
    "508",
    "516",
    "524",
    "16x2",
    "16:3",
    "16+24",
)

EXTREMES = [b"0", b"-1", b"1", b"65536", b"2147483648", b"99999999999999999999", b"1e400", b"nan", b"-", b"", b"/"]
EXTREMES += [b"../x", b"\x00", b"\xff\xff\xff\xff", b"\n", b"(", b"+", b"x9999999", b":5", b"\xe2\x80\xae", b"#"]
EXTREMES += [b"100000000", b"10000000", b"1e-300", b"40000000", b"\xfe\xff\xff\x7f", b"\x00\x00\x00\x01"]


def damage(content: bytes, rng: random.Random, most: int = 4, head: int | None = None) -> bytes:
    """One to `most` mutations (mostly one: what is too damaged is refused at once), within the first `head` bytes."""
    for _ in range(1 if rng.random() < 0.6 else rng.randint(1, most)):
        size = min(len(content), head or len(content))
        at = rng.randrange(max(size, 1))
        length, extreme = rng.randint(1, 64), rng.choice(EXTREMES)
        kind = rng.choice(("flip", "cut", "put", "repeat", "erase", "word", "word", "field", "field"))
        if kind == "flip" and content:
            content = content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        elif kind == "cut":
            content = content[:at] if rng.random() < 0.5 else content[: rng.randint(0, len(content))]
        elif kind == "put":
            content = content[:at] + extreme + content[at + len(extreme) :]
        elif kind == "repeat":
            content = content[:at] + content[at : at + length] * 3 + content[at + length :]
        elif kind == "erase":
            content = content[:at] + content[at + length :]
        elif kind in ("word", "field"):  # a whole field of a text header; a field keeps its width
            start, end = word_around(content, at)
            extreme = extreme[: end - start].ljust(end - start) if kind == "field" else extreme
            content = content[:start] + extreme + content[end:]
    return content


def word_around(content: bytes, at: int) -> tuple[int, int]:
    """Where the text between separators begins and ends."""
    start, end = at, at
    while start > 0 and content[start - 1] not in b" \n,;\t()/":
        start -= 1
    while end < len(content) and content[end] not in b" \n,;\t()/":
        end += 1
    return start, end


def header_of(name: str, samples: np.ndarray, fmt: str = "16") -> bytes:
    """A WFDB header of records like `SAMPLES`."""
    lines = [f"{name} {samples.shape[1]} 100 {len(samples)}"]
    for lead, first, total in zip(LEADS, samples[0], samples.sum(axis=0, dtype=np.int64) % 65536):
        lines.append(f"{name}.dat {fmt} 1000.0(0)/mV 16 0 {first} {total} 0 {lead}")
    return ("\n".join(lines) + "\n# age: 61\n").encode()


def wfdb_case(folder: Path, rng: random.Random) -> Case:
    """Format 16 with header and signals damaged, formats that wfdb decodes, or a record of segments."""
    kind = rng.choice(("16", "16", "other", "segments"))
    if kind == "segments":
        for name, part in (("a", SAMPLES[:20]), ("b", SAMPLES[20:])):
            (folder / f"{name}.hea").write_bytes(header_of(name, part))
            part.tofile(folder / f"{name}.dat")
        length = rng.choice((b"", b" 70"))  # without the sum, any length of a gap may be claimed
        (folder / "m.hea").write_bytes(damage(b"m/3 3 100" + length + b"\na 20\n~ 10\nb 40\n", rng))
        return folder / "m.hea", {}
    fmt = "16" if kind == "16" else rng.choice(OTHER_FORMATS)
    (folder / "r.hea").write_bytes(damage(header_of("r", SAMPLES, fmt), rng, 4 if kind == "16" else 2))
    signals = SAMPLES.tobytes()
    (folder / "r.dat").write_bytes(damage(signals, rng, 1) if rng.random() < 0.5 else signals)
    lenient = {"checksum": "ignore", "allow_truncated": True}
    return folder / "r.hea", lenient if kind == "other" or rng.random() < 0.5 else {}


def mat_case(folder: Path, rng: random.Random) -> Case:
    """MATLAB 4 or 5, plain or compressed (damaged also inside), with or without a WFDB header; the struct of CPSC."""
    import scipy.io

    kind = rng.choice(("4", "5", "5z", "inside", "struct", "header"))
    path = folder / "r.mat"
    value: dict[str, Any] = {"val": SAMPLES.T}
    if kind == "struct":
        value = {"ECG": {"sex": "Male", "age": 61.0, "data": np.zeros((12, 40))}}
    scipy.io.savemat(path, value, format="4" if kind == "4" else "5", do_compression=kind == "5z")
    content = path.read_bytes()
    if kind == "inside":  # what is compressed is damaged, its wrapping is whole
        packed = zlib.compress(damage(content[128:], rng, head=80))
        content = content[:128] + struct.pack("<II", 15, len(packed)) + packed
    elif kind == "header":
        (folder / "r.hea").write_bytes(damage(header_of("r", SAMPLES).replace(b".dat", b".mat"), rng))
    if kind not in ("inside", "header") or rng.random() < 0.3:
        content = damage(content, rng, head=260)
    path.write_bytes(content)
    return path, {} if kind in ("struct", "header") else HINTS


def numpy_case(folder: Path, rng: random.Random) -> Case:
    """An NPY file, or an NPZ archive damaged as a whole or in one of its members; some only lie about their arrays."""
    stream = BytesIO()
    np.lib.format.write_array(stream, SAMPLES)
    kind = rng.choice(("npy", "npz", "member"))
    damaged = lying_npy(rng) if rng.random() < 0.4 else damage(stream.getvalue(), rng, head=140)
    path = folder / ("r.npy" if kind == "npy" else "r.npz")
    if kind == "npy":
        path.write_bytes(damaged)
    elif kind == "npz":
        save = rng.choice((np.savez, np.savez_compressed))
        save(path, signal=SAMPLES, sampling_rate=100.0, units="uV")
        path.write_bytes(damage(path.read_bytes(), rng))
        return path, {"lead_names": LEADS}
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("signal.npy", damaged)
    return path, HINTS


def lying_npy(rng: random.Random) -> bytes:
    """An NPY file whose well-formed header declares another type, order or shape than its content has."""
    descr = rng.choice(
        ("'<i2'", "'<f8'", "'>i2'", "'|O'", "'|V0'", "'<U9'", "'<M8[s]'", "'?'", "'<c16'", "[('a', '<i2')]")
    )
    size = rng.choice((0, 1, 3, 60, 180, -1, 2**31, 2**62, 10**30, "None", "True", "1.0"))
    shape = rng.choice((f"({size},)", f"(60, {size})", f"({size}, 3)", f"({size}, {size}, 3)", "()", f"{size}"))
    text = f"{{'descr': {descr}, 'fortran_order': {rng.choice(('False', 'True', '0'))}, 'shape': {shape}, }}"
    content = SAMPLES.tobytes()[: rng.choice((0, 359, 360, 360, 360))]
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n" + content


def csv_case(folder: Path, rng: random.Random) -> Case:
    """A table of samples with one of three separators, with or without names, in one of several encodings."""
    separator = rng.choice(",;\t")
    rows = [separator.join(map(str, row)) for row in SAMPLES]
    lines = [separator.join(LEADS), *rows] if rng.random() < 0.8 else rows
    encoding = rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"))
    path = folder / "r.csv"
    path.write_bytes(damage("\n".join(lines).encode(encoding), rng))
    return path, {"sampling_rate": 100.0}


def edf_case(folder: Path, rng: random.Random) -> Case:
    """An EDF file with a damaged header."""
    import edfio

    signals = [
        edfio.EdfSignal(
            SAMPLES[:50, n].astype(float), 50, label=name, physical_dimension="uV", physical_range=(-600, 600)
        )
        for n, name in enumerate(LEADS)
    ]
    path = folder / "r.edf"
    edfio.Edf(signals).write(path)
    path.write_bytes(damage(path.read_bytes(), rng, head=1100))
    return path, {}


@lru_cache(maxsize=1)
def hospital_files() -> dict[str, list[tuple[str, bytes]]]:
    """Small valid files of the hospital formats, several variants each."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data" / "readers"))
    import hospital_files as files

    counts = files.ecg_counts(120)
    beat = (counts[20:60], 5000, [(21, 41, 60)])
    holter = files.ecg_counts(120, ["V1", "V2", "V3"])
    return {
        "dicom": [
            ("r.dcm", files.dicom(counts, syntax=syntax)) for syntax in ("explicit", "implicit", "big", "deflated")
        ],
        "aecg": [("r.xml", files.aecg(counts, unit=unit)) for unit in ("s", "ms")],
        "philips": [("r.xml", files.philips(counts, compress=compress)) for compress in (True, False)],
        "muse": [("r.xml", files.muse(counts[:, [0, 1, 6, 7, 8, 9, 10, 11]]))],
        "scp": [
            ("r.scp", files.scp(counts)),
            ("r.scp", files.scp(counts, huffman=False, order=0)),
            ("r.scp", files.scp(counts, beat=beat)),
        ],
        "ishne": [("r.ecg", files.ishne(holter)), ("r.ecg", files.ishne(holter, block=b"a block of words"))],
        "bdf": [
            ("r.bdf", files.edf(holter[:100, :2], width=3)),
            ("r.bdf", files.edf(holter[:100, :2], width=3, per_record=10)),
            ("r.edf", files.edf(holter[:100, :2], per_record=7)),
            ("r.edf", files.edf(holter[:100, :2], kind="EDF+D", onsets=[0, 0.2, 0.5, 0.9, 2], per_record=20)),
            ("r.bdf", files.edf(holter[:100, :2], width=3, kind="BDF+D", onsets=[0, 40], per_record=50)),
            ("r.edf", files.edf(holter[:100, :2], kind="EDF+D", onsets=[0, 9], per_record=50)),
        ],
    }


HEADS = {"ishne": 540, "bdf": 1100}  # where the header ends: behind it any bytes are samples


def random_part(rng: random.Random) -> dict[str, Any]:
    """From where to where a record is to be read: mostly within it, also nothing, or behind its end."""
    start = rng.choice((None, 0, rng.randrange(130), rng.randrange(130), 10**9))
    stop = rng.choice((None, rng.randrange(130), rng.randrange(130), 130, 10**9))
    return {"start": start, "stop": stop}


def hospital_case(name: str) -> Callable[[Path, random.Random], Case]:
    """A file of one hospital format, damaged anywhere, mostly read without its checksums: those would end it all."""

    def make(folder: Path, rng: random.Random) -> Case:
        file_name, content = rng.choice(hospital_files()[name])
        if rng.random() < 0.2:  # sound: a part of it is that of the whole
            pass
        elif content.startswith(b"\xff\xfe"):  # UTF-16: what is damaged is the text
            text = damage(content.decode("utf-16").encode(), rng)
            content = text.decode("utf-8", "replace").encode("utf-16") if rng.random() < 0.8 else damage(content, rng)
        else:
            content = damage(content, rng, head=HEADS.get(name) if rng.random() < 0.8 else None)
        (folder / file_name).write_bytes(content)
        hints: dict[str, Any] = {"checksum": "ignore", "allow_truncated": rng.random() < 0.5}
        hints = hints if rng.random() < 0.8 else {}
        return folder / file_name, {**hints, **(random_part(rng) if rng.random() < 0.5 else {})}

    return make


READERS: dict[str, Callable[[Path, random.Random], Case]] = {
    "wfdb": wfdb_case,
    "mat": mat_case,
    "numpy": numpy_case,
    "csv": csv_case,
    "edf": edf_case,
    **{name: hospital_case(name) for name in ("dicom", "aecg", "philips", "muse", "scp", "ishne", "bdf")},
}


def make_case(name: str, seed: int, number: int, folder: Path) -> Case:
    """The files of a case in an empty folder."""
    return READERS[name](folder, random.Random(f"{name}-{seed}-{number}"))


def complaint(path: Path, hints: dict[str, Any]) -> tuple[str, str]:
    """What became of a file ("record", the class of its error, or "FAIL"), and what is wrong with that."""
    from ecg_transformers.data.errors import ECGDataError, OptionError
    from ecg_transformers.data.readers import read_record

    started = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            record = read_record(path, **hints)
    except ECGDataError as error:
        outcome, wrong = type(error).__name__, wrong_sentence(str(error), path)
        if not wrong and not isinstance(error, OptionError):
            wrong = unlike_the_whole(None, path, hints)
    except BaseException as error:
        outcome, wrong = "FAIL", f"{type(error).__name__}: {error}"
    else:
        shape = (record.num_samples, len(record.lead_names))
        sound = record.signal.dtype == np.float32 and record.signal.shape == shape and 0 not in shape
        sound = sound and 1 <= record.sampling_rate <= 100_000
        outcome, wrong = "record", "" if sound else f"not a record: {record!r:.300}"
        wrong = wrong or unlike_the_whole(record.signal, path, hints)
    seconds = time.process_time() - started
    if seconds > MOST_SECONDS:
        wrong = f"{seconds:.1f} s of CPU time; {wrong}"
    return ("FAIL" if wrong else outcome), wrong


def unlike_the_whole(part: np.ndarray | None, path: Path, hints: dict[str, Any]) -> str:
    """What differs between a part that was read, or could not be (None), and the same samples of the whole record."""
    from ecg_transformers.data.errors import ECGDataError
    from ecg_transformers.data.readers import read_record

    if hints.get("start") is None and hints.get("stop") is None:
        return ""
    try:
        whole = read_record(path, **{**hints, "start": None, "stop": None}).signal
    except ECGDataError:  # damage elsewhere
        return ""
    if part is None:
        return "a part of it cannot be read, the whole can"
    start = hints["start"] or 0
    there = np.array_equal(part, whole[start : hints["stop"]], equal_nan=True)
    return "" if there else "the part is not that of the whole record"


def wrong_sentence(said: str, path: Path) -> str:
    """What an error message lacks to be one sentence that names the file."""
    if not 20 < len(said) < 1000 or "\n" in said:
        return f"no sentence: {said[:1000]!r}"
    return "" if path.parent.name in said else f"it does not name the file: {said}"


def soak(name: str, cases: int, seed: int, first: int, keep: Path) -> bool:
    """All cases of a reader, in this process; prints what came of them."""
    counts: dict[str, int] = {}
    slowest, began = 0.0, time.process_time()
    for number in range(first, first + cases):
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        path, hints = make_case(name, seed, number, folder)
        started = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, 5 * MOST_SECONDS)  # a hang ends here
        outcome, wrong = complaint(path, hints)
        signal.setitimer(signal.ITIMER_PROF, 0)
        slowest = max(slowest, time.process_time() - started)
        counts[outcome] = counts.get(outcome, 0) + 1
        if wrong:
            shutil.copytree(folder, keep / f"{name}-{number}", dirs_exist_ok=True)
            print(f"FAIL  {name} --seed {seed} --first {number} --cases 1: {wrong}", flush=True)
        shutil.rmtree(folder)
    outcomes = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items(), key=lambda item: -item[1]))
    seconds = time.process_time() - began
    good = "FAIL" not in counts
    print(
        f"{'pass' if good else 'FAIL'}  {name}: {cases} cases in {seconds:.0f} s CPU, slowest {slowest:.2f} s; {outcomes}"
    )
    return good


def in_bounds(action: Callable[[], bool]) -> bool:
    """Run in a forked process whose address space may grow by `MOST_GROWTH`."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        good = False
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + MOST_GROWTH
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            signal.signal(signal.SIGPROF, _hang)
            good = action()
        finally:
            sys.stdout.flush()
            os._exit(0 if good else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _hang(*_: object) -> None:
    raise TimeoutError("the reader does not come to an end")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000, help="cases of each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", choices=list(READERS), help="one reader")
    options = parser.parse_args()
    keep = Path(tempfile.mkdtemp(prefix="fuzz-failures-"))
    for name in READERS:  # what is imported once does not count as growth
        with tempfile.TemporaryDirectory() as folder:
            complaint(*make_case(name, options.seed, 0, Path(folder)))
    import wfdb  # noqa: F401

    names = [options.only] if options.only else list(READERS)
    results = [
        in_bounds(lambda name=name: soak(name, options.cases, options.seed, options.first, keep)) for name in names
    ]
    print(f"{sum(results)} of {len(results)} readers passed" + ("" if all(results) else f"; files in {keep}"))
    if all(results):
        keep.rmdir()
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
