"""WFDB annotation files (`.atr`, `.apn`, `.i`…) in MIT format: times, symbols and notes.

Each annotation is a 16-bit word, the upper 6 bits its type, the lower 10 the samples since the one before. Types from
59 on are instructions: a long skip, a subtype, a channel, a number, a note.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg_transformers.data.errors import AnnotationError
from ecg_transformers.data.readers.limits import Limits, read_bytes

_SKIP, _NUM, _SUB, _CHN, _AUX = 59, 60, 61, 62, 63
# Symbols of the types 1 to 41, by the format's definition; unassigned types have none.
_SYMBOLS = dict(
    zip(
        [*range(1, 15), 16, *range(18, 42)],
        [*'NLRaVFJASEj/Q~|sT*D"=pB^t+u?![]en@xf()r'],
    )
)


@dataclass(frozen=True)
class Annotations:
    """Annotations in file order: samples int64, symbols, and notes ('' where there is none)."""

    samples: np.ndarray
    symbols: np.ndarray
    notes: list[str]

    def __len__(self) -> int:
        return len(self.samples)


def read_annotations(
    path: str | Path,
    *,
    root: str | Path | None = None,
    limits: Limits | None = None,
    record: str | None = None,
) -> Annotations:
    """The annotations of a file in MIT format.

    Raises:
        AnnotationError: the file is truncated, goes back before the start, or is no annotation file.
    """
    content = read_bytes(path, (limits or Limits()).max_annotation_bytes, root)
    return parse_annotations(content, Path(path), record)


def parse_annotations(content: bytes, path: Path, record: str | None = None) -> Annotations:
    """The annotations in some bytes; `path` is only named in errors."""
    if len(content) > 2 and not content.strip(b"\0"):
        empty = "the file holds nothing but zeros, as one that was not fetched."
        raise AnnotationError(empty, path=path, record=record)
    words = np.frombuffer(content[: len(content) // 2 * 2], dtype="<u2").tolist()
    samples: list[int] = []
    symbols: list[str] = []
    notes: list[str] = []
    time, position, ended = 0, 0, False
    while position < len(words):
        kind, value = words[position] >> 10, words[position] & 0x3FF
        position += 1
        if kind == 0 and value == 0:
            ended = True
            break
        if kind == _SKIP and value == 0:
            if position + 2 > len(words):
                break
            jump = (words[position] << 16) | words[position + 1]
            time += jump - 2**32 if jump >= 2**31 else jump
            position += 2
        elif kind == _AUX:
            size = (value + 1) // 2
            if notes:
                raw = content[2 * position : 2 * position + value]
                notes[-1] = raw.split(b"\0")[0].decode("utf-8", errors="replace")
            position += size
        elif kind in (_NUM, _SUB, _CHN):
            continue
        elif kind == 0:  # "no annotation": time passes
            time += value
        else:
            time += value
            if not 0 <= time < 2**62:
                raise AnnotationError("an annotation lies before the start of the record.", path=path, record=record)
            samples.append(time)
            symbols.append(_SYMBOLS.get(kind, " "))
            notes.append("")
    if not ended:
        raise AnnotationError("the file ends in the middle of its annotations.", path=path, record=record)
    first = next((n for n, note in enumerate(notes) if samples[n] > 0 or not note.startswith("##")), len(notes))
    return Annotations(  # notes with ## at the start define the time resolution: they are no marks
        np.array(samples[first:], dtype=np.int64), np.array(symbols[first:], dtype="<U1"), notes[first:]
    )
