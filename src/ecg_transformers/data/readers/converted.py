"""What `data.converting` writes beside the samples, and how it is read again: patient, beats, statements, age, sex, time.

WFDB has comments for it, lines `key: value` behind the one that says whether the identity is hidden; NPZ and CSV have a
JSON file beside them (`NAME.npz.json`). Texts are UTF-8. Files that others wrote have no such line, and are left as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.errors import AnnotationError, HeaderError, LimitError
from ecg_transformers.data.readers.arrays import Hints
from ecg_transformers.data.readers.clinical.identity import Patient
from ecg_transformers.data.readers.clinical.leads import distinct_names
from ecg_transformers.data.readers.clinical.record import beats_within, bounded, names_without_identity
from ecg_transformers.data.readers.csv_text import column_title
from ecg_transformers.data.readers.limits import Limits, open_file, read_array
from ecg_transformers.data.readers.units import units_per_millivolt
from ecg_transformers.data.readers.wfdb.annotations import read_annotations
from ecg_transformers.data.readers.wfdb.header import read_header
from ecg_transformers.data.record import DigitalRecord, ECGRecord, standard_lead_names

MARK = "identity_hidden"
_LISTS = ("statements", "machine_statements", "universal_statements", "flags")
_LAYOUT = ("sampling_rate", "lead_names", "units")
_HEAD = 4096
TIME_COLUMN = "time_s"
"""The title of the first column of a table that was written here."""


def facts_of(record: DigitalRecord | ECGRecord, keep_identity: bool) -> dict[str, Any]:
    """Everything that a record says beside its samples and beats, as plain data."""
    own = {} if record.patient_id is None else {"patient_id": record.patient_id}
    return {
        MARK: not (keep_identity and "identity" in record.metadata),  # of a file that hides it nobody can keep it
        **own,
        **{key: value for key, value in record.metadata.items() if key != "comments"},
    }


def comment_lines(facts: dict[str, Any]) -> list[str]:
    """Facts as lines of a WFDB header: texts as they are where they can be told again, everything else as JSON."""
    lines = []
    for key, value in facts.items():
        values = value if key in _LISTS and isinstance(value, list) and value else [value]
        lines += [f"{key}: {_written(part)}" for part in values]
    return lines


def facts_in_comments(comments: Sequence[str]) -> tuple[dict[str, Any], list[str]] | None:
    """The facts in the comments of a header, and the comments before them; None for a header of others."""
    start = next((place for place, line in enumerate(comments) if line.startswith(f"{MARK}: ")), None)
    if start is None:
        return None
    facts: dict[str, Any] = {}
    for line in comments[start:]:
        key, _, text = line.partition(": ")
        if key in _LISTS and text != "[]":
            facts.setdefault(key, []).append(_read(text))
        else:
            facts[key] = _read(text)
    return facts, list(comments[:start])


def sidecar_text(layout: dict[str, Any], facts: dict[str, Any], annotations: dict[str, np.ndarray] | None) -> str:
    """The JSON file beside an NPZ or CSV file, a line for each fact: a day has a hundred thousand beats."""
    beats = {key: np.asarray(values).tolist() for key, values in (annotations or {}).items()}
    whole = {MARK: facts[MARK], **layout, **facts, **({"annotations": beats} if beats else {})}
    lines = (
        f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False, default=str)}" for key, value in whole.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def most_bytes_beside(path: Path) -> int:
    """How large the JSON file beside a file may be: a day's beats are 2 MB, and longer recordings are larger themselves."""
    return 2**22 + path.stat().st_size // 8


def sidecar_facts(path: Path, hints: Hints) -> dict[str, Any] | None:
    """What the JSON file beside an NPZ or CSV file says; None where there is none of ours.

    Raises:
        HeaderError: it is ours, and damaged; LimitError: it is out of proportion to the file it lies beside.
    """
    beside = path.with_name(f"{path.name}.json")
    if not beside.is_file():
        return None
    descriptor, size = open_file(beside, hints.root, follow_links=hints.follow_links)
    with open(descriptor, "rb") as stream:
        if f'"{MARK}"'.encode() not in read_array(descriptor, "u1", min(size, _HEAD)).tobytes():
            return None
        if size > (most := most_bytes_beside(path)):
            raise LimitError(
                f"the file has {size} bytes, more than the {most} allowed beside {path.name}.", path=beside
            )
        content = stream.read(size)
    try:
        facts = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise HeaderError(
            "the description beside the samples is no JSON; it was changed or cut.", path=beside
        ) from error
    if not isinstance(facts, dict):
        raise HeaderError("the description beside the samples is no JSON object.", path=beside)
    return facts


def layout_in(facts: dict[str, Any], path: Path) -> tuple[float, list[str], str]:
    """Rate, lead names and unit of a file without a place for them.

    Raises:
        HeaderError: the description beside the file was changed.
    """
    rate, names, unit = (facts.get(key) for key in _LAYOUT)
    named = names and isinstance(names, list) and all(isinstance(name, str) for name in names)
    is_unit = isinstance(unit, str) and units_per_millivolt(unit) is not None
    if isinstance(rate, int | float) and isinstance(names, list) and named and isinstance(unit, str) and is_unit:
        return float(rate), names, unit
    raise HeaderError(
        f"{path.name}.json does not tell the rate, the lead names and the unit; it was changed.", path=path
    )


def wfdb_names(names: Sequence[str]) -> list[str]:
    """Names as a WFDB header can hold them: no control characters, none empty, none twice."""
    return distinct_names([column_title(name).strip() or "signal" for name in names], [])


def with_facts(
    record: DigitalRecord | ECGRecord, facts: dict[str, Any], path: Path, hints: Hints, comments: Sequence[str] = ()
) -> DigitalRecord | ECGRecord:
    """The record with what was written beside its samples.

    Raises:
        HeaderError, AnnotationError: the facts are not those that were written.
    """
    beats = facts.get("annotations")
    if isinstance(beats, dict):
        record.annotations = _beats(beats.get("beat_samples"), beats.get("beat_symbols"), _length(record), path)
    patient = _patient(facts, path)
    record.patient_id = _patient_id(patient, facts, hints)
    texts = {key: value for key, value in facts.items() if key not in (MARK, "patient_id", "annotations", *_LAYOUT)}
    if not (facts[MARK] or hints.keep_identity):
        texts.pop("identity", None)
        plain: dict[str, Any] = {key: texts.pop(key) for key in ("acquired", "age", "sex", "flags") if key in texts}
        texts, shortened = bounded(texts)
        texts = {**plain, **dict(zip(texts, patient.hide_in(list(texts.values()))))}
        record.metadata.setdefault("flags", []).extend(["texts_shortened"] * shortened)
        names = names_without_identity(record.lead_names, patient, keep_identity=False)
        record.lead_names = distinct_names(names, record.metadata["flags"])
    flags = [*texts.pop("flags", []), *record.metadata.get("flags", [])]
    record.metadata = {**({"comments": list(comments)} if comments else {}), **texts}
    if flags:
        record.metadata["flags"] = list(dict.fromkeys(flags))
    return record


def with_wfdb_facts(
    record: DigitalRecord | ECGRecord, path: str | Path, hints: Hints, limits: Limits
) -> DigitalRecord | ECGRecord:
    """A WFDB record with the facts of its comments and the beats of its `.atr`, where they were written here."""
    found = facts_in_comments(record.metadata.get("comments", ()))
    if found is None:
        return record
    path = Path(path)
    beside = path.with_suffix(".atr")
    if beside.is_file():
        marks = read_annotations(beside, root=hints.root, limits=limits, record=record.record_id)
        symbols = [note or symbol for note, symbol in zip(marks.notes, marks.symbols.tolist())]
        length, start = _length(record), hints.start or 0
        is_part = not (hints.start is hints.stop is None)
        beats = _beats(marks.samples, symbols, None if is_part else length, beside)
        record.annotations = beats_within(beats, start, start + length) if is_part else beats
    names = found[0].get("lead_names")
    if isinstance(names, list) and all(isinstance(name, str) for name in names):  # where the header cannot hold them
        exact = dict(zip(standard_lead_names(wfdb_names(names)), names))
        record.lead_names = [exact.get(name, name) for name in record.lead_names]
    return with_facts(record, found[0], path, hints, found[1])


def patient_beside(path: Path, kind: str, hints: Hints, limits: Limits) -> str | None:
    """The patient of a record that was written here, without its samples; None where nothing names one.

    Raises:
        ECGDataError: header or description cannot be read.
    """
    if kind == "wfdb":
        header = path if path.suffix == ".hea" else path.with_suffix(".hea") if path.suffix else Path(f"{path}.hea")
        found = facts_in_comments(read_header(header, limits, hints.root, follow_links=hints.follow_links).comments)
        facts = None if found is None else found[0]
    else:
        facts = sidecar_facts(path, hints)
    return None if facts is None else _patient_id(_patient(facts, path), facts, hints)


def _patient(facts: dict[str, Any], path: Path) -> Patient:
    own, identity = facts.get("patient_id", ""), facts.get("identity", {})
    texts = identity.values() if isinstance(identity, dict) else [None]
    if not isinstance(facts.get(MARK), bool) or not all(isinstance(text, str) for text in (own, *texts)):
        raise HeaderError("what is written of the patient is no text; the file was changed.", path=path)
    others = {key: text for key, text in identity.items() if key not in ("name", "birth_date")}
    return Patient(id=own, names=[identity.get("name", "")], birth_date=identity.get("birth_date", ""), others=others)


def _patient_id(patient: Patient, facts: dict[str, Any], hints: Hints) -> str | None:
    return patient.patient_id(keep=hints.keep_identity or facts[MARK])  # what is hidden already stays as it is


def _length(record: DigitalRecord | ECGRecord) -> int:
    return len(record.samples) if isinstance(record, DigitalRecord) else record.num_samples


def _beats(samples: Any, symbols: Any, length: int | None, path: Path) -> dict[str, np.ndarray]:
    """Beats as a record holds them; with a `length` they are to lie within it."""
    places = np.asarray(samples if samples is not None else [])
    sound = places.ndim == 1 and (places.dtype.kind in "iu" or not places.size) and isinstance(symbols, Iterable)
    names = [str(symbol) for symbol in symbols] if sound else []
    if (
        not sound
        or len(names) != places.size
        or (length is not None and places.size and not 0 <= places.min() <= places.max() < length)
    ):
        raise AnnotationError(f"the beats do not lie within the {length} samples of the record.", path=path)
    return {"beat_samples": places.astype(np.int64), "beat_symbols": np.array(names, dtype=np.str_)}


def _written(value: Any) -> str:
    if isinstance(value, str) and value and _read(value) == value and value.isprintable() and value == value.strip():
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
