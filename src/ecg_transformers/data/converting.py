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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ecg_transformers.data.errors import ECGDataError, LimitError, OptionError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers.converted import (
    TIME_COLUMN,
    most_bytes_beside,
    sidecar_text,
)
from ecg_transformers.data.readers.csv_text import column_title
from ecg_transformers.data.readers.limits import DEFAULT_LIMITS, MOST_EMPTY
from ecg_transformers.data.readers.reading import read_stored_parts, read_stored_runs
from ecg_transformers.data.record import DigitalRecord, ECGRecord
from ecg_transformers.data.recording import Recording
from ecg_transformers.data.wfdb_writer import write_wfdb
from ecg_transformers.files import replacing, temporary_folder

TARGETS = ("wfdb", "npz", "csv")
GAPS = ("nan", "split")


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


def _written(recording: Recording, path: Path, folder: Path, to: str) -> Path:
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


def _check_size(file: Path, path: str | Path) -> None:
    """Refuse to write what `read_record` would not read."""
    size = file.stat().st_size
    if file.suffix == ".json":
        most = most_bytes_beside(file.with_suffix(""))
    else:
        own = {".hea": "max_header_bytes", ".atr": "max_annotation_bytes", ".csv": "max_table_bytes"}
        most = getattr(DEFAULT_LIMITS, own.get(file.suffix, "max_file_bytes"))
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


def _survey(path: Path, read: Callable[[], Iterator[DigitalRecord | ECGRecord]], hints: dict[str, Any]) -> Recording:
    """Length, range, and what a recording says beside its samples.

    Raises:
        LimitError: its gaps make it far longer than its file, or nobody could read at once what would be written.
    """

    parts = read()
    first, second = next(parts), next(parts, None)
    found = Recording(read, replace(first), bool(hints.get("keep_identity")))
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


def _write_npz(recording: Recording, folder: Path, name: str) -> Path:
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


def _write_csv(recording: Recording, folder: Path, name: str) -> Path:
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


def _write_sidecar(recording: Recording, path: Path) -> None:
    """What NPZ and CSV have no place for, as JSON beside them."""
    record = recording.record
    layout = {"sampling_rate": record.sampling_rate, "lead_names": record.lead_names, "units": "mV"}
    comments = record.metadata.get("comments")
    facts = {**recording.facts, **({"comments": comments} if comments else {})}
    path.with_name(f"{path.name}.json").write_text(sidecar_text(layout, facts, record.annotations), encoding="utf-8")


_WRITERS: dict[str, Callable[[Recording, Path, str], Path]] = {
    "wfdb": write_wfdb,
    "npz": _write_npz,
    "csv": _write_csv,
}
