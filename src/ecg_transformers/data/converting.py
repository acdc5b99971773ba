"""Records of any readable format written as WFDB, NPZ or CSV, so that a group leaves its cart's format behind once.

WFDB keeps the file's own counts and scale, in as many bits as they need (16, 24 for most BDF, 32): the numbers come out
again. NPZ and CSV hold float32 millivolt, from which a count of 24 bits can still be told.
The identity of the patient is left out unless it is asked for; what the file says beside its samples (age, sex, time,
statements, beats, the stand-in for the patient) is written beside them and read again (`readers.converted`).
A recording of a day is read twice, in parts: once for its length and range, once to be written.
"""

from __future__ import annotations

import csv
import itertools
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ecg_transformers.data.errors import ECGDataError, LimitError, OptionError, brief
from ecg_transformers.data.millivolts import to_millivolt
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers.converted import (
    TIME_COLUMN,
    comment_lines,
    facts_of,
    most_bytes_beside,
    sidecar_text,
    wfdb_names,
)
from ecg_transformers.data.readers.csv_text import column_title
from ecg_transformers.data.readers.limits import DEFAULT_LIMITS, MOST_EMPTY
from ecg_transformers.data.readers.reading import read_stored_parts, read_stored_runs
from ecg_transformers.data.record import DigitalRecord, ECGRecord
from ecg_transformers.files import replacing, temporary_folder

TARGETS = ("wfdb", "npz", "csv")
GAPS = ("nan", "split")
_MOST_TIMES = 100
_BLOCK = 2**17


class Converted(NamedTuple):
    """What became of one file: the file to open, or the sentence why there is none."""

    source: str
    written: Path | None
    problem: str


def convert_records(
    paths: Iterable[str | Path], output_dir: str | Path, to: str = "wfdb", gaps: str = "nan", **hints: Any
) -> Iterator[Converted]:
    """Write several records into a folder, one by one; a file that cannot be read is told and ends nothing.

    Files of one name (`A/IM0001`, `B/IM0001`) become `IM0001`, `IM0001_2` … in their order.

    Args:
        paths: files of any readable format.
        output_dir: a folder, made when absent. Nothing in it is overwritten.
        to: "wfdb" (header, signals, beats as `.atr`), "npz" or "csv" (with a `.json` beside).
        gaps: of a discontinuous recording (EDF+D, BDF+D): "nan" writes one record with missing values there, "split" a
            record of each part (`NAME_1`, `NAME_2`).
        **hints: as `read_record`: `keep_identity=True` writes the files' own ids, names and birth dates.

    Raises:
        OptionError: another target, or options that do not go together.
    """
    check_choice("convert-record: the target", to, TARGETS)
    check_choice("convert-record: gaps", gaps, GAPS)
    if gaps == "split" and not (hints.get("start") is hints.get("stop") is None):
        raise OptionError("gaps='split' writes all parts of a recording: leave start and stop out.")
    names: dict[str, dict[Path, int]] = {}
    for path in paths:
        try:
            if gaps == "nan":
                recording = _survey(Path(path), partial(read_stored_parts, path, **hints), hints)
                recording.record.record_id = _numbered(recording.record.record_id, Path(path), names)
                yield Converted(str(path), _written(recording, Path(path), Path(output_dir), to), "")
                continue
            own = ""
            for number, run in enumerate(read_stored_runs(path, **hints), 1):
                own = own or _numbered(run.record_id, Path(path), names)
                run.record_id = f"{own}_{number}" if "start_seconds" in run.metadata else own
                recording = _survey(Path(path), partial(iter, [run]), hints)
                yield Converted(str(path), _written(recording, Path(path), Path(output_dir), to), "")
        except ECGDataError as error:
            yield Converted(str(path), None, str(error))


def convert_record(path: str | Path, output_dir: str | Path, to: str = "wfdb", **hints: Any) -> Path:
    """Write one record; returns the file to open (`.hea`, `.npz`, `.csv`).

    The files appear together when all of them are written; after an error or an interruption none of them is there.

    Raises:
        ECGDataError: the record cannot be read, a file of that name is there already, the folder cannot be written to.

    Example:
        >>> convert_record("export.xml", "converted", to="wfdb")  # doctest: +SKIP
        PosixPath('converted/export.hea')
    """
    check_choice("convert-record: the target", to, TARGETS)
    recording = _survey(Path(path), partial(read_stored_parts, path, **hints), hints)
    return _written(recording, Path(path), Path(output_dir), to)


def _file_name(record_id: str) -> str:
    """What WFDB allows in a name."""
    return re.sub(r"[^A-Za-z0-9_\-]", "_", record_id) or "record"


def _numbered(record_id: str, path: Path, names: dict[str, dict[Path, int]]) -> str:
    """The name of a record, with a number behind it where other files before it had the same."""
    name = _file_name(record_id)
    known = names.setdefault(name, {})
    number = known.setdefault(path.resolve(), len(known) + 1)
    return name if number == 1 else f"{name}_{number}"


def _written(recording: _Recording, path: Path, folder: Path, to: str) -> Path:
    name = _file_name(recording.record.record_id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder) as beside:
            main = _WRITERS[to](recording, beside, name)
            for file in beside.iterdir():
                _check_size(file, path)
            made = sorted(beside.iterdir(), key=lambda file: file == main)  # the one to open comes last
            taken = next((file.name for file in made if (folder / file.name).exists()), None)
            if taken is not None:
                raise OptionError(f"{taken} is there already in {folder}; give another folder.", path=path)
            _publish(made, folder)
    except OSError as error:
        problem = f"the record cannot be written to {folder} ({error.strerror or error})."
        raise ECGDataError(problem, path=path) from error
    return folder / main.name


_MOST_BYTES = {
    ".hea": DEFAULT_LIMITS.max_header_bytes,
    ".atr": DEFAULT_LIMITS.max_annotation_bytes,
    ".csv": DEFAULT_LIMITS.max_table_bytes,
}


def _check_size(file: Path, path: str | Path) -> None:
    """Refuse to write what `read_record` would not read."""
    size = file.stat().st_size
    if file.suffix == ".json":
        most = most_bytes_beside(file.with_suffix(""))
    else:
        most = _MOST_BYTES.get(file.suffix, DEFAULT_LIMITS.max_file_bytes)
    if size > most:
        raise LimitError(
            f"{file.name} would have more than the {most} bytes that read_record takes; {_WAY_OUT}.", path=path
        )


_TOO_FAR = ": its gaps are too long; give gaps='split', which writes a record of each part"
_WAY_OUT = "convert it in parts (start=…, stop=…), each into a folder of its own"


def _publish(made: list[Path], folder: Path) -> None:
    done: list[Path] = []
    try:
        for file in made:
            done.append(folder / file.name)
            with replacing(done[-1]) as free:
                file.rename(free)
    except BaseException:  # an interruption, too, leaves all or nothing
        for written in done:
            written.unlink(missing_ok=True)
        raise


@dataclass
class _Recording:
    """A file that is read as often as needed, in parts of bounded size.

    Attributes:
        record: its first part, with what the whole says beside the samples.
        length: samples a lead.
        low, high: of each lead, in counts where `is_digital`, else in millivolts; NaN where a lead has no value at all.
    """

    read: Callable[[], Iterator[DigitalRecord | ECGRecord]]
    record: DigitalRecord | ECGRecord
    keep_identity: bool
    is_digital: bool = True
    length: int = 0
    low: np.ndarray = field(default_factory=lambda: np.zeros(0))
    high: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def facts(self) -> dict[str, Any]:
        return facts_of(self.record, self.keep_identity)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Counts (or millivolts) `(block, L)` and what is missing, from the beginning to the end."""
        for part in self.read():
            if self.is_digital and isinstance(part, DigitalRecord):
                for at in range(0, len(part.samples), _BLOCK):
                    block = part.samples[at : at + _BLOCK]
                    yield block, block == np.iinfo(block.dtype).min
                continue
            signal = part.to_record().signal if isinstance(part, DigitalRecord) else part.signal
            for at in range(0, len(signal), _BLOCK):
                yield signal[at : at + _BLOCK], np.isnan(signal[at : at + _BLOCK])

    def millivolts(self) -> Iterator[np.ndarray]:
        """float32 `(block, L)` from the beginning to the end."""
        for block, _ in self.blocks():
            if self.is_digital and isinstance(self.record, DigitalRecord):
                block = to_millivolt(block, self.record.gain, self.record.offset)
            yield block


def _survey(path: Path, read: Callable[[], Iterator[DigitalRecord | ECGRecord]], hints: dict[str, Any]) -> _Recording:
    """Length, range, and what a recording says beside its samples.

    Raises:
        LimitError: its gaps make it far longer than its file, or nobody could read at once what would be written.
    """

    parts = read()
    first, second = next(parts), next(parts, None)
    found = _Recording(read, replace(first), bool(hints.get("keep_identity")))
    if second is None:  # nothing is won by reading it again
        found.read = lambda: iter([first])
    beats: list[dict[str, np.ndarray]] = []
    metadata = dict(first.metadata)
    # what is read at once was held against its file by its reader, and the file of a WFDB record is its header
    size = 2**62 if second is None else path.stat().st_size
    for part in itertools.chain([first], [] if second is None else [second], parts):
        found.is_digital = (
            found.is_digital and isinstance(part, DigitalRecord) and bool((np.abs(part.offset) < 2**31).all())
        )
        _join(metadata, beats, part, found.length)
        found.length += len(part.samples) if isinstance(part, DigitalRecord) else part.num_samples
        DEFAULT_LIMITS.check_growth(found.length, len(part.lead_names), size, path=path, way_out=_TOO_FAR)
        if found.length > DEFAULT_LIMITS.max_samples:
            raise LimitError(
                f"it has more than the {DEFAULT_LIMITS.max_samples} samples a lead that read_record takes; {_WAY_OUT}.",
                path=path,
            )
    names = {name for part in beats for name in part}
    found.record.annotations = {name: np.concatenate([part[name] for part in beats]) for name in sorted(names)} or None
    found.record.metadata = metadata
    low, high = [], []
    for block, missing in found.blocks():
        values = np.where(missing, np.nan, block)
        low.append(np.fmin.reduce(values, axis=0))
        high.append(np.fmax.reduce(values, axis=0))
    found.low, found.high = np.fmin.reduce(low), np.fmax.reduce(high)
    return found


def _join(
    metadata: dict[str, Any], beats: list[dict[str, np.ndarray]], part: DigitalRecord | ECGRecord, at: int
) -> None:
    """What a part that begins at a sample adds: flags, gaps and beats in the time of the whole."""
    flags = [*metadata.get("flags", []), *part.metadata.get("flags", [])]
    if flags:
        metadata["flags"] = list(dict.fromkeys(flags))
    if "gaps" in part.metadata:
        gaps = metadata.get("gaps", []) if at else []
        for start, stop in part.metadata["gaps"]:
            if gaps and gaps[-1][1] == start + at:
                gaps[-1][1] = stop + at
            else:
                gaps.append([start + at, stop + at])
        metadata["gaps"] = gaps
    if part.annotations is not None:
        beats.append({key: value + at if key == "beat_samples" else value for key, value in part.annotations.items()})


def _write_wfdb(recording: _Recording, folder: Path, name: str) -> Path:
    import wfdb

    record = recording.record
    gain, baseline, times, width = _scale(recording)
    leads = len(record.lead_names)
    sums, first = np.zeros(leads, dtype=np.int64), np.zeros(leads, dtype=np.int64)
    with (folder / f"{name}.dat").open("wb") as stream:
        at = 0
        for counts in _counts(recording, gain, baseline, times):
            counts[counts == _MISSING] = -(2 ** (8 * width - 1))
            first = first if at else counts[0]
            at += len(counts)
            sums = (sums + counts.sum(axis=0)) % 65536
            stream.write(np.ascontiguousarray(counts.astype("<i4").view("u1").reshape(-1, 4)[:, :width]).tobytes())
    acquired = _acquired(record)
    each: dict[str, Any] = {"file_name": f"{name}.dat", "fmt": str(8 * width), "units": "mV"}
    each |= {"adc_res": 8 * width, "adc_zero": 0, "block_size": 0}
    names, facts = wfdb_names(record.lead_names), _for_a_header(recording.facts)
    if names != record.lead_names:
        facts["lead_names"] = record.lead_names
    head = wfdb.Record(
        record_name=name,
        n_sig=leads,
        fs=record.sampling_rate,
        sig_len=recording.length,
        base_date=acquired.date() if acquired else None,
        base_time=acquired.time() if acquired else None,
        **{key: [value] * leads for key, value in each.items()},
        adc_gain=gain.tolist(),
        baseline=baseline.tolist(),
        init_value=first.tolist(),
        checksum=sums.tolist(),
        sig_name=names,
        comments=[*map(column_title, record.metadata.get("comments", ())), *comment_lines(facts)],
    )
    try:
        head.wrheader(str(folder))
    except ValueError as error:
        raise ECGDataError(f"WFDB cannot hold its header ({brief(error)}).", path=record.source) from error
    beats = record.annotations or {}
    if len(beats.get("beat_samples", ())):
        own = [str(symbol) for symbol in beats["beat_symbols"]]
        symbols = [_WFDB_BEATS.get(symbol, "Q") for symbol in own]
        notes = [symbol if symbol != usual else "" for symbol, usual in zip(own, symbols)]
        notes = [note.encode().decode("latin-1") for note in notes]  # wfdb writes a byte a character: those of UTF-8
        places = np.asarray(beats["beat_samples"])
        wfdb.wrann(name, "atr", places, symbol=symbols, aux_note=notes, fs=record.sampling_rate, write_dir=str(folder))
    return folder / f"{name}.hea"


_MOST_GAPS = 2**14


def _for_a_header(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts that fit a header: where there are so many gaps, the samples alone tell of them (a day may have 86,400)."""
    if len(facts.get("gaps", ())) <= _MOST_GAPS:
        return facts
    others = {key: value for key, value in facts.items() if key != "gaps"}
    return {**others, "flags": [*facts.get("flags", []), "gaps_not_listed"]}


_WFDB_BEATS = {"N": "N", "V": "V", "S": "S", "P": "/", "B": "B", "X": "|", "U": "Q"}
"""Beat labels of ISHNE in WFDB's letters; calibration pulses and others become Q (unclassifiable). Notes keep their own."""
_MISSING = -(2**62)


def _scale(recording: _Recording) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Counts a millivolt, whole baselines, times the file's own counts, and bytes of the narrowest WFDB format.

    WFDB's baseline is whole, that of EDF often a half: such a lead is stored as a small multiple of its counts.
    """
    low, high, record = np.nan_to_num(recording.low), np.nan_to_num(recording.high), recording.record
    if recording.is_digital and isinstance(record, DigitalRecord):
        gain, offset = (np.broadcast_to(np.asarray(v, float), low.shape) for v in (record.gain, record.offset))
    else:
        gain, offset = _over_the_range(recording.low, recording.high)
        low, high = np.rint(low * gain + offset), np.rint(high * gain + offset)
    reach = np.maximum(np.maximum(np.abs(low), np.abs(high)), np.abs(offset))
    times = np.array([_whole_after(start, most) for start, most in zip(offset, (2**31 - 1) / np.maximum(reach, 1))])
    widest = (np.maximum(np.abs(low), np.abs(high)) * times).max()
    width = next((width for width in (2, 3) if widest < 2 ** (8 * width - 1)), 4)
    return gain * times, np.rint(offset * times).astype(np.int64), times, width


def _counts(recording: _Recording, gain: np.ndarray, baseline: np.ndarray, times: np.ndarray) -> Iterator[np.ndarray]:
    """Whole numbers `(block, L)` as they are to be stored."""
    for block, missing in recording.blocks():
        if recording.is_digital:
            counts = block.astype(np.int64) * times
        else:
            counts = np.rint(np.where(missing, 0.0, block.astype(np.float64)) * gain + baseline).astype(np.int64)
        counts[missing] = _MISSING
        yield counts


def _whole_after(offset: float, most: float) -> int:
    """The small number by which an offset is to be multiplied to be whole, to a hundredth of a count at worst."""
    return Fraction(offset).limit_denominator(max(1, int(min(most, _MOST_TIMES)))).denominator


def _over_the_range(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gain and offset of 24 bits over the range of each lead in millivolts."""
    low, high = low.astype(np.float64), high.astype(np.float64)
    middle = np.where(np.isfinite(low), (low + high) / 2, 0.0)
    reach = np.where(np.isfinite(low), (high - low) / 2, 0.0)
    reach = np.maximum(reach, np.abs(middle) / 200)  # the baseline has 31 bits
    with np.errstate(divide="ignore"):
        gain = np.exp2(np.clip(np.floor(np.log2((2**23 - 2) / reach)), -40, 24))
    return gain, -np.rint(middle * gain)


def _acquired(record: DigitalRecord | ECGRecord) -> datetime | None:
    """When the first sample was recorded, which of a part is later than what the file says."""
    try:
        begin = datetime.strptime(str(record.metadata.get("acquired")), "%Y-%m-%dT%H:%M:%S")
        for key, per_second in (("start_sample", record.sampling_rate), ("start_seconds", 1.0)):
            late = record.metadata.get(key)
            begin += timedelta(seconds=late / per_second if isinstance(late, int | float) else 0)
        return begin
    except (ValueError, OverflowError):
        return None


def _write_npz(recording: _Recording, folder: Path, name: str) -> Path:
    """As `numpy.savez_compressed` writes it, but for the samples, which need not be in memory at once.

    What is too long to be believed of a small file is not packed.
    """
    record, path = recording.record, folder / f"{name}.npz"
    shape = (recording.length, len(record.lead_names))
    small = {"sampling_rate": np.float64(record.sampling_rate), "lead_names": np.array(record.lead_names)}
    packing = zipfile.ZIP_DEFLATED if shape[0] * shape[1] <= MOST_EMPTY else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", packing) as archive:
        with archive.open("signal.npy", "w", force_zip64=True) as stream:
            _npy_head(stream, shape)
            for block in recording.millivolts():
                stream.write(np.ascontiguousarray(block, dtype="<f4").tobytes())
        for key, value in {**small, "units": np.array("mV")}.items():
            with archive.open(f"{key}.npy", "w") as stream:
                np.lib.format.write_array(stream, np.asanyarray(value), allow_pickle=False)
    _write_sidecar(recording, path)
    return path


def _npy_head(stream: Any, shape: tuple[int, int]) -> None:
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})


def _write_csv(recording: _Recording, folder: Path, name: str) -> Path:
    """A column of seconds, then one a lead; nine digits give every float32 again, twelve each sample of a day its time."""
    record, path = recording.record, folder / f"{name}.csv"
    line = ",".join(["%.12g", *["%.9g"] * len(record.lead_names)])
    with path.open("w", encoding="utf-8", newline="") as stream:
        titles = [TIME_COLUMN, *map(column_title, record.lead_names)]
        csv.writer(stream, lineterminator="\n").writerow(titles)
        at = 0
        for block in recording.millivolts():
            times = (np.arange(at, at + len(block)) / record.sampling_rate).tolist()
            at += len(block)
            for second, row in zip(times, block.tolist()):
                stream.write(f"{line % (second, *row)}\n".replace("nan", ""))
            _check_size(path, record.source)
    _write_sidecar(recording, path)
    return path


def _write_sidecar(recording: _Recording, path: Path) -> None:
    """What NPZ and CSV have no place for, as JSON beside them."""
    record = recording.record
    layout = {"sampling_rate": record.sampling_rate, "lead_names": record.lead_names, "units": "mV"}
    comments = record.metadata.get("comments")
    facts = {**recording.facts, **({"comments": comments} if comments else {})}
    path.with_name(f"{path.name}.json").write_text(sidecar_text(layout, facts, record.annotations), encoding="utf-8")


_WRITERS: dict[str, Callable[[_Recording, Path, str], Path]] = {
    "wfdb": _write_wfdb,
    "npz": _write_npz,
    "csv": _write_csv,
}
