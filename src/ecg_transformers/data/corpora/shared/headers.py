"""Records in the form of the PhysioNet Challenges: what the comments of a header say, and the signals with their traps.

One header can be written in many ways (`# Dx:` or `#Dx:`, `F` or `Female`, doubled commas), the first edition of 2020
states wrong gains, and two headers of `ecg-arrhythmia` lost a line break. Specification: corpora, 2.2 and 5.2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg_transformers.data.corpora.shared.copies import lead_sums
from ecg_transformers.data.errors import HeaderError, TruncatedError
from ecg_transformers.data.readers.limits import Limits, read_bytes
from ecg_transformers.data.readers.mat_format import load_mat
from ecg_transformers.data.readers.reading import read_digital
from ecg_transformers.data.readers.wfdb.header import Signal, parse_header
from ecg_transformers.data.readers.wfdb.samples import lead_names_of, scale_of, verify_checksums
from ecg_transformers.data.record import DigitalRecord

_COMMENT = re.compile(r"#\s*([A-Za-z][^:]*?)\s*:\s*(.*)\Z")
# "JS01052 12 500 500000/mV 16 0 15 31255 0 I": the end of the record line and the start of the next line are lost
_MERGED = re.compile(r"(?P<record>\S+ \d+ \d+) \d+/(?P<unit>\S+) (?P<rest>\d+ -?\d+ -?\d+ -?\d+ \d+ \S.*)\Z")
_SEX = {"m": "male", "male": "male", "f": "female", "female": "female"}
OVER_89 = 300


@dataclass(frozen=True)
class HeaderComments:
    """Age in years, sex "male" or "female", and the codes of `Dx` in their order, each once; None where not stated.

    `lead_sums` are those of the signal lines, see `copies.lead_sums`.
    """

    age: float | None = None
    sex: str | None = None
    codes: tuple[str, ...] = ()
    age_over_89: bool = False
    lead_sums: tuple[int, ...] = ()
    others: tuple[tuple[str, str], ...] = ()

    def other(self, key: str) -> str:
        """The value of another comment, such as `Patient ID`; empty where there is none."""
        return dict(self.others).get(key.lower(), "")


def read_comments(path: Path, root: Path, limits: Limits) -> HeaderComments:
    """The comments of a header; of its signal lines only the sums."""
    content = read_bytes(path, limits.max_header_bytes, root)
    return parse_comments(content.decode("utf-8-sig", errors="replace").splitlines())


def parse_comments(lines: list[str]) -> HeaderComments:
    """The same from the lines of a header."""
    values: dict[str, str] = {}
    for line in lines:
        match = _COMMENT.match(line.strip())
        if match is not None:
            values.setdefault(match[1].lower(), match[2].strip())
    age = age_in_years(values.pop("age", ""))
    sex = _SEX.get(values.pop("sex", "").lower())
    codes = [code for code in re.split(r"[,;\s]+", values.pop("dx", "")) if code.isdigit()]
    over = age is not None and age >= OVER_89
    others = tuple(values.items())
    return HeaderComments(None if over else age, sex, tuple(dict.fromkeys(codes)), over, lead_sums(lines), others)


def age_in_years(text: str) -> float | None:
    """An age; None for `NaN`, `-1`, and what is no number."""
    try:
        age = float(text)
    except ValueError:
        return None
    return age if math.isfinite(age) and age >= 0 else None


def sex_of(text: str) -> str | None:
    """`M`, `Male`, `female` … to "male" or "female"."""
    return _SEX.get(text.strip().lower())


def read_challenge_record(path: Path, root: Path, limits: Limits) -> DigitalRecord:
    """A record of the Challenges by its header. A header with a lost line break is put right, with the flag
    `header_repaired`, where the checksums of all leads then agree.
    """
    content = read_bytes(path, limits.max_header_bytes, root)
    repaired = repair_merged_lines(content)
    if repaired is None:
        return read_digital(path, root=root, limits=limits)
    header = parse_header(repaired, path, limits)
    signal_path = path.with_name(header.signals[0].file_name)
    value = load_mat(read_bytes(signal_path, limits.max_file_bytes, root), signal_path, limits).get("val")
    if not isinstance(value, np.ndarray) or value.shape[0] != len(header.signals) or value.dtype != np.int16:
        raise HeaderError("the header lost a line break and does not fit its signal file.", path=path)
    samples = np.ascontiguousarray(value.T)
    flags = [*header.flags, "header_repaired"]
    verify_checksums(samples, header.signals, path, header.record_name, "error", flags)
    everything = list(range(len(header.signals)))
    names = lead_names_of(header.signals, flags)
    gain, offset = scale_of(everything, header.signals, None, path, header.record_name, False, flags)
    metadata = {"comments": list(header.comments), "flags": sorted(set(flags))}
    return DigitalRecord(
        samples, gain, offset, header.sampling_rate, names, path.stem, source=str(path), metadata=metadata
    )


def read_signal_files(path: Path, root: Path, limits: Limits, suffixes: Sequence[str]) -> DigitalRecord:
    """The signals of a record that lie in files of some suffixes, each file of format 16; the others stay unread."""
    header = parse_header(read_bytes(path, limits.max_header_bytes, root), path, limits)
    blocks: list[np.ndarray] = []
    signals: list[Signal] = []
    for suffix in suffixes:
        own = tuple(signal for signal in header.signals if signal.file_name.lower().endswith(suffix))
        if not own or header.num_samples is None or any(signal.fmt != "16" for signal in own):
            raise HeaderError(f"the header names no signal of format 16 in a {suffix} file.", path=path)
        file = path.with_name(own[0].file_name)
        content = read_bytes(file, limits.max_file_bytes, root)
        values = np.frombuffer(content, dtype="<i2", count=len(content) // 2)
        if values.size < header.num_samples * len(own):
            raise TruncatedError(
                f"the header promises {header.num_samples} samples of {len(own)} leads, the file holds {values.size}.",
                path=file,
                record=path.stem,
            )
        blocks.append(values[: header.num_samples * len(own)].reshape(-1, len(own)))
        signals += own
    samples, flags = np.ascontiguousarray(np.hstack(blocks)), list(header.flags)
    verify_checksums(samples, tuple(signals), path, path.stem, "error", flags)
    everything = list(range(len(signals)))
    names = lead_names_of(tuple(signals), flags)
    gain, offset = scale_of(everything, tuple(signals), None, path, path.stem, False, flags)
    metadata = {"comments": list(header.comments), **({"flags": sorted(set(flags))} if flags else {})}
    return DigitalRecord(
        samples, gain, offset, header.sampling_rate, names, path.stem, source=str(path), metadata=metadata
    )


def repair_merged_lines(content: bytes) -> bytes | None:
    """A header whose record line ran into the first signal line, taken apart again; None for all others.

    File, format and gain of the first signal are those of the second; the number of samples is that of the file.
    """
    lines = content.decode("latin-1").splitlines()
    match = _MERGED.match(lines[0].strip()) if lines else None
    fields = lines[1].split() if match is not None and len(lines) > 1 else []
    if match is None or len(fields) < 9:
        return None
    first = f"{fields[0]} {fields[1]} {fields[2]} {match['rest']}"
    return "\n".join([match["record"], first, *lines[1:]]).encode("latin-1")
