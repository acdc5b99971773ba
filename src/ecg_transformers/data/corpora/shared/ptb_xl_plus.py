"""PTB-XL+: features, statements and median beats for the records of PTB-XL, joined by `ecg_id`.

Tables are joined by the *name* of the column `ecg_id` (it is the 145th in one of them, and rows are in another order),
and only the row of a record is read when that record is. Specification: corpora, 16.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.corpora.shared.columns import iterate_with_offsets, row_at
from ecg_transformers.data.corpora.shared.search import find_file, find_folder, walk_files
from ecg_transformers.data.errors import HeaderError, RecordNotFoundError, TableError, TruncatedError
from ecg_transformers.data.readers.limits import Limits, read_bytes
from ecg_transformers.data.readers.wfdb.header import parse_header
from ecg_transformers.data.record import ECGRecord, standard_lead_name
from ecg_transformers.data.tables import integer

FEATURES = {
    "12sl": "12sl_features.csv",
    "unig": "unig_features.csv",
    "ecgdeli": "ecgdeli_features.csv",
}
STATEMENTS = {"statements": "ptbxl_statements.csv", "12sl_statements": "12sl_statements.csv"}
SOURCES = ("12sl", "unig")
_MAX_LITERAL = 2**16
_DTYPES = {"16": "<i2", "32": "<i4"}
# 12sl: "ge_median_beats_wfdb/00001_medians 12 500 600", which would declare segments
_PREFIX = re.compile(rb"\A([^\s/]+/)(?=\S+_medians\s)")


class PTBXLPlus:
    """The tables of PTB-XL+ that lie below a folder, looked up by `ecg_id`."""

    def __init__(self, folder: str | Path, limits: Limits | None = None) -> None:
        self.folder = Path(folder)
        self.limits = limits or Limits()
        if not self.folder.is_dir():
            raise RecordNotFoundError("there is no such folder of PTB-XL+.", path=folder)
        self.tables: dict[str, Path] = {}
        self.offsets: dict[str, dict[int, int]] = {}
        for name, file in {**FEATURES, **STATEMENTS}.items():
            path = find_file(self.folder, [file])
            if path is None:
                continue
            self.tables[name] = path
            self.offsets[name] = {
                integer(line["ecg_id"], "ecg_id", path) or 0: offset
                for offset, line in iterate_with_offsets(path, ["ecg_id"], self.folder, self.limits)
            }
        self.median_folders = {source: self._median_folder(source) for source in SOURCES}
        if not self.tables and not any(self.median_folders.values()):
            raise RecordNotFoundError(
                f"no table of PTB-XL+ here (features/{FEATURES['12sl']}, labels/{STATEMENTS['statements']}, …).",
                path=folder,
            )

    def _median_folder(self, source: str) -> Path | None:
        beats = find_folder(self.folder, "median_beats")
        folder = beats / source if beats is not None else None
        return folder if folder is not None and folder.is_dir() else None

    def files(self) -> list[Path]:
        """All files of which an entry is made: the tables, and those of median beats."""
        beats = [
            path for folder in self.median_folders.values() if folder for path in walk_files(folder, (".hea", ".dat"))
        ]
        return [*self.tables.values(), *beats]

    def notes(self, ids: Sequence[int]) -> list[str]:
        """For each table how many of some records it covers."""
        return [
            f"PTB-XL+ {self.tables[name].name}: {sum(i in self.offsets[name] for i in ids):,} of {len(ids):,} records"
            for name in self.tables
        ]

    def entry(self, ecg_id: int, median_beat: str | None = None) -> dict[str, Any]:
        """What PTB-XL+ says of a record: numbers of each feature table, statements, and files of its median beats."""
        found: dict[str, Any] = {}
        for name, path in self.tables.items():
            offset = self.offsets[name].get(ecg_id)
            if offset is None:
                continue
            row = row_at(path, offset)
            row.pop("ecg_id")
            found[name] = {key: _value(text, name, path, ecg_id) for key, text in row.items() if key}
        files = {source: self._median_file(source, ecg_id) for source in SOURCES}
        found["median_beats"] = {
            source: path.relative_to(self.folder).as_posix() for source, path in files.items() if path is not None
        }
        if median_beat is not None and files[median_beat] is not None:
            record = self.median_beat(ecg_id, median_beat)
            found["median_beat"] = {
                "source": median_beat,
                "sampling_rate": record.sampling_rate,
                "lead_names": record.lead_names,
                "signal": np.round(record.signal.astype(np.float64), 4).tolist(),
            }
        return found

    def _median_file(self, source: str, ecg_id: int) -> Path | None:
        folder = self.median_folders[source]
        if folder is None:
            return None
        digits = 5 if source == "12sl" else 6
        path = folder / f"{ecg_id // 1000 * 1000:05d}" / f"{ecg_id:0{digits}d}_medians.hea"
        return path if path.exists() else None

    def median_beat(self, ecg_id: int, source: str = "12sl") -> ECGRecord:
        """The median beat of a record in millivolts `(600, 12)` at 500 Hz.

        Two things are put right: the record line of 12sl carries a folder, and the values of unig are microvolts
        under a header that says millivolts (flag `unit_corrected`).
        """
        path = self._median_file(source, ecg_id)
        if path is None:
            raise RecordNotFoundError(
                f"no median beat of {source} for this record.", path=self.folder, record=str(ecg_id)
            )
        content = _PREFIX.sub(b"", read_bytes(path, self.limits.max_header_bytes, self.folder))
        header = parse_header(content, path, self.limits)
        first = header.signals[0]
        if first.fmt not in _DTYPES or header.num_samples is None:
            raise HeaderError(f"a median beat of format {first.fmt} is not read.", path=path, record=str(ecg_id))
        file = path.with_name(first.file_name)
        content, dtype = read_bytes(file, self.limits.max_file_bytes, self.folder), np.dtype(_DTYPES[first.fmt])
        values = np.frombuffer(content, dtype=dtype, count=len(content) // dtype.itemsize)
        count = header.num_samples * len(header.signals)
        if values.size < count:
            raise TruncatedError(
                f"{count} values are promised, {values.size} are there.", path=file, record=str(ecg_id)
            )
        digital = values[:count].reshape(-1, len(header.signals)).astype(np.float64)
        digital[digital == np.iinfo(_DTYPES[first.fmt]).min] = np.nan
        gain, baseline = np.array([s.gain for s in header.signals]), np.array([s.baseline for s in header.signals])
        signal, flags = (digital - baseline) / gain, []
        if source == "unig":
            signal, flags = signal / 1000.0, ["unit_corrected"]
        names = [standard_lead_name(signal_.name) for signal_ in header.signals]
        metadata = {"flags": flags} if flags else {}
        return ECGRecord(signal.astype(np.float32), header.sampling_rate, names, f"{ecg_id}", metadata=metadata)


def _value(text: str, table: str, path: Path, ecg_id: int) -> Any:
    """A number of a feature table (None where empty), or a literal of a table of statements."""
    if table in STATEMENTS:
        return _literal(text, path, ecg_id)
    try:
        return float(text) if text and text.lower() != "nan" else None
    except ValueError:
        return text


def _literal(text: str, path: Path, ecg_id: int) -> Any:
    """A list or dictionary written as a Python literal: parsed as data, never evaluated; other text as it is."""
    if not text.startswith(("[", "{", "(")):
        return text
    try:
        if len(text) > _MAX_LITERAL:
            raise ValueError(f"it has {len(text)} characters")
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise TableError(
            f"{text[:40]!r}… is no list of statements ({error}).", path=path, record=str(ecg_id)
        ) from error
