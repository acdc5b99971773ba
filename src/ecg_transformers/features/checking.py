"""`ecg.check`: every problem of a file, a folder or a corpus at once, before anything is trained on it.

Loads neither torch nor transformers. An *error* is a record that cannot be used; a *note* is everything else worth knowing.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.corpora import CORPORA, corpus_class, make_corpus
from ecg_transformers.data.corpora.base import Corpus, CorpusPlan, Item
from ecg_transformers.data.corpora.folder.files import FileIndex
from ecg_transformers.data.errors import ECGDataError, EmptyRecordError, OptionError, RecordNotFoundError
from ecg_transformers.data.options import refuse_misspelt
from ecg_transformers.data.readers import read_record
from ecg_transformers.data.record import ECGRecord
from ecg_transformers.features.check_report import CheckReport, Severity
from ecg_transformers.models.registry import get_method
from ecg_transformers.signal import leads as lead_tools
from ecg_transformers.signal import quality
from ecg_transformers.signal.units import unit_suspicion
from ecg_transformers.words import did_you_mean

ARGUMENTS = ("data_dir", "method", "recipe", "progress")  # of `check`, beside the options of a corpus
FEW_RECORDS = 10
ODD_RATES = (80.0, 2000.0)  # Hz: outside, a rate is more often a typing error than a device
ALIKE_SHARE = 4  # so many times as many records of the same number of samples have another rate
SHORT_SECONDS = 2.5
STILL_SECONDS = 2.0  # so long no lead of a patient holds one value
EINTHOVEN_SHARE = 0.2  # of the size of lead II: more is no rounding
KINDS = {
    "UnsupportedFormatError": "unknown format",
    "MissingDependencyError": "needs an extra",
    "LabelError": "label unreadable",
    "TableError": "table",
    "MissingHintError": "says too little",
    "RecordNotFoundError": "label without file",
    "DuplicateRecordError": "twice",
}
# what a plan says of rows that it leaves out
KINDS_OF_ROWS = {
    "no such file": "label without file",
    "no record of the name": "label without file",
    "the same record": "twice",
    "its patient": "patient in two splits",
    "is empty": "no label",
    "label": "label unreadable",
}


def kind_of(error: str, reason: str) -> str:
    """The kind of a record that could not be read, from the name of the error class and its sentence."""
    if error not in ("", "Listed"):  # the file itself
        return (
            KINDS.get(error, "unreadable") if "no readable" not in reason else "unreadable"
        )  # a known format, damaged
    return next((kind for text, kind in KINDS_OF_ROWS.items() if text in reason), "unreadable")


@dataclass(frozen=True)
class Needs:
    """What a method asks of a record: its leads, and seconds of signal."""

    method: str
    lead_names: tuple[str, ...] | None
    missing_leads: str
    seconds: float
    nan: str = "error"

    @classmethod
    def of(cls, name: str, recipe: str = "published") -> Needs:
        """From the registry, without loading the extractor."""
        method = get_method(name)
        preset: Mapping[str, Any] = {**method.preprocessing, **method.recipe(recipe).preprocessing}
        rate, length = preset.get("sampling_rate") or 250, preset.get("seq_len")
        pads = preset.get("pad") is not None
        seconds = 0.0 if length is None or pads else length / rate * method.crops_end_to_end
        names = preset.get("lead_names", lead_tools.STANDARD_LEADS)
        missing = str(preset.get("missing_leads", "derive"))
        missing = "derive" if missing == "single" else missing
        return cls(name, tuple(names) if names else None, missing, seconds, preset.get("nan", "error"))

    def refuses_without_values(self, lead: str) -> bool:
        """Whether a lead that holds no value at all makes a record useless."""
        is_used = self.lead_names is None or lead_tools.canonical_lead(lead) in self.lead_names
        return is_used and self.nan not in ("zero", "zero_lead")


def check(
    path_or_name: str | Path,
    data_dir: str | Path | None = None,
    *,
    method: str | None = None,
    recipe: str | None = None,
    sampling_rate: float | None = None,
    lead_names: Sequence[str] | None = None,
    units: str | None = None,
    progress: Callable[[int], object] | None = None,
    **builder_options: Any,
) -> CheckReport:
    """Every problem of a file, a folder (with or without a table), or a known corpus.

    Args:
        path_or_name: a record, a folder of records, or the name of a corpus (then with `data_dir`).
        method: leads and length that this method needs are errors where they are missing; without it they are notes.
        recipe: the method's recipe, which may take shorter crops; the published one when None.
        sampling_rate, lead_names, units: of files that do not state them.
        progress: called with 1 after each record.
        builder_options: options of the corpus.

    Raises:
        ECGDataError: nothing of that name, or an option that the corpus does not have.

    Example:
        >>> report = check("my_records", method="st_mem")  # doctest: +SKIP
        >>> report.ok, [problem.sentence for problem in report.problems]  # doctest: +SKIP
    """
    hints = {"sampling_rate": sampling_rate, "lead_names": lead_names, "units": units}
    hints = {name: value for name, value in hints.items() if value is not None}
    if recipe is not None and method is None:
        raise OptionError(f"recipe={recipe!r} is one of a method: name the method too.")
    report, needs = CheckReport(str(path_or_name)), None if method is None else Needs.of(method, recipe or "published")
    path = Path(path_or_name)
    # patients in two splits are told here, all of them, and not by the plan, which stops at the first
    of_folder = {"patients_may_repeat": True, "bad_rows": "skip", **hints, **builder_options}
    corpus = str(path_or_name) if str(path_or_name) in CORPORA else "folder"
    refuse_misspelt(builder_options, ARGUMENTS, [option.name for option in fields(corpus_class(corpus).options_class)])
    if str(path_or_name) in CORPORA:
        given = of_folder if str(path_or_name) == "folder" else builder_options
        _check_corpus(make_corpus(str(path_or_name), data_dir, given), report, needs, progress)
    elif path.is_dir():
        _check_corpus(make_corpus("folder", path, of_folder), report, needs, progress)
    elif path.exists() or path.with_suffix(".hea").exists():
        for name in builder_options:
            known = ("method", "recipe", "sampling_rate", "lead_names", "units")
            raise OptionError(
                f"a single file is checked without {name!r}, an option of corpora{did_you_mean(name, known)}"
            )
        _check_file(path, hints, report, needs)
    else:
        raise RecordNotFoundError(f"there is no file, folder or corpus of this name ({', '.join(CORPORA)}).", path=path)
    return report


def _check_file(path: Path, hints: Mapping[str, Any], report: CheckReport, needs: Needs | None) -> None:
    report.records += 1
    try:
        record = read_record(path, **hints)
    except ECGDataError as error:
        _add_error(report, error, file=str(path))
        return
    _check_record(record, report, needs, file=str(path))


def _check_corpus(
    corpus: Corpus, report: CheckReport, needs: Needs | None, progress: Callable[[int], object] | None
) -> None:
    try:
        plan = corpus.plan()
    except ECGDataError as error:
        _add_error(report, error)
        if corpus.facts.name == "folder":  # the table is wrong: the files are looked at all the same
            _check_files(corpus, report, needs)
        return
    for record_id, reason in plan.skipped:
        report.add("error", kind_of("", reason), reason, record_id=record_id)
    for reason, count in plan.excluded.items():
        report.add("note", "left out", f"{count} records are left out: {reason}.")
    for sentence in [*plan.notes, *plan.warnings]:
        report.add("note", "worth knowing", sentence)
    seen = _Seen()
    for split, items in plan.splits.items():
        for item in items:
            report.records += 1
            for record in _rows(corpus, plan, item, report):
                file = str(item.path) if item.path is not None else None
                _check_record(record, report, needs, file=file)
                seen.note(split, item, record, file)
            if progress is not None:
                progress(1)
    seen.tell(plan, report)


def _check_files(corpus: Corpus, report: CheckReport, needs: Needs | None) -> None:
    options = corpus.options
    hints = {name: getattr(options, name, None) for name in ("sampling_rate", "lead_names", "units")}
    for path in sorted(FileIndex.scan(corpus.data_dir).paths.values()):
        _check_file(path, {name: value for name, value in hints.items() if value is not None}, report, needs)
    # what a file does not say may stand in the table
    report.problems = [problem for problem in report.problems if problem.kind != KINDS["MissingHintError"]]


def _rows(corpus: Corpus, plan: CorpusPlan, item: Item, report: CheckReport) -> Iterator[ECGRecord]:
    try:
        for row in corpus.rows(item, plan):
            yield ECGRecord.from_row(row)
    except EmptyRecordError as error:
        report.add("note", "left out", str(error), record_id=item.record_id)
    except ECGDataError as error:
        _add_error(report, error, file=None if item.path is None else str(item.path), record_id=item.record_id)


def _add_error(report: CheckReport, error: ECGDataError, file: str | None = None, record_id: str | None = None) -> None:
    kind = kind_of(type(error).__name__, error.reason)
    where = {"file": error.path or file, "record_id": error.record or record_id, "lead": error.lead}
    report.add("error", kind, error.reason, **where)


def _check_record(record: ECGRecord, report: CheckReport, needs: Needs | None, file: str | None) -> None:
    where: dict[str, str | None] = {"file": file, "record_id": record.record_id}
    signal, rate = record.signal, record.sampling_rate
    missing = np.isnan(signal).sum(axis=0)
    names = np.asarray(record.lead_names)
    for lead in names[missing == len(signal)]:
        refused = needs is not None and needs.refuses_without_values(str(lead))
        text = f"lead {lead} holds no value at all{f'; {needs.method} needs it' if needs and refused else ''}."
        report.add("error" if refused else "note", "flat or dead leads", text, **where, lead=str(lead))
    partly = (missing > 0) & (missing < len(signal))
    for count in np.unique(missing[partly]):  # a gap mostly goes through all leads: it is told once
        found = names[partly & (missing == count)]
        text = f"{'lead' if len(found) == 1 else 'leads'} {', '.join(found)} {'has' if len(found) == 1 else 'have'} no value"
        way_out = quality.BY_PARTS if "gaps" in record.metadata.get("flags", ()) else "cut the record there, or mend it"
        text += f" at {count} of {len(signal)} samples: {way_out}."
        report.add("error", "gaps", text, **where, lead=str(found[0]) if len(found) == 1 else None)
    if np.isinf(signal).any():
        lead = record.lead_names[int(np.flatnonzero(np.isinf(signal).any(axis=0))[0])]
        report.add("error", "infinite values", f"lead {lead} is infinite somewhere: mend it.", **where, lead=lead)
        return
    _check_amplitudes(record, np.nan_to_num(signal), report, where)
    if not ODD_RATES[0] <= rate <= ODD_RATES[1]:
        report.add("note", "odd rate", f"a rate of {rate:g} Hz is unusual for an ECG: is it right?", **where)
    _check_needs(record, report, needs, where)


def _check_amplitudes(record: ECGRecord, signal: np.ndarray, report: CheckReport, where: dict[str, str | None]) -> None:
    flat = [name for name, column in zip(record.lead_names, signal.T, strict=True) if column.min() == column.max()]
    dead = [name for name, column in zip(record.lead_names, record.signal.T, strict=True) if np.isnan(column).all()]
    if len(flat) == record.num_leads:
        report.add("error", "flat or dead leads", "every lead is flat: nothing was recorded.", **where)
        return
    for lead in [name for name in flat if name not in dead]:  # those were told before
        report.add("note", "flat or dead leads", f"lead {lead} is flat: it was not recorded.", **where, lead=lead)
    for name, column in zip(record.lead_names, record.signal.T, strict=True):
        start, length = _longest_rest(column)
        seconds = length / record.sampling_rate
        if name not in flat and seconds >= STILL_SECONDS:
            text = f"lead {name} does not move for {seconds:.3g} s from second {start / record.sampling_rate:.3g} on: was the "
            report.add("note", "flat or dead leads", f"{text}electrode off?", **where, lead=name)
    suspicion = unit_suspicion(signal)
    if suspicion:
        report.add("note", "wrong scale", suspicion, **where)
    names = lead_tools.canonical_leads(record.lead_names)
    if {"I", "II", "III"} <= set(names):
        first, second, third = (signal[:, names.index(lead)] for lead in ("I", "II", "III"))
        size = float(np.std(second))
        if size > 0 and float(np.std(second - first - third)) > EINTHOVEN_SHARE * size:
            text = "leads I, II and III do not obey Einthoven's law (II = I + III): are the leads in another order?"
            report.add("note", "misplaced leads", text, **where)


def _longest_rest(lead: np.ndarray) -> tuple[int, int]:
    """Start and length of the longest run of equal samples of a lead `(T,)`."""
    ends = np.flatnonzero(lead[1:] != lead[:-1]) + 1
    starts = np.concatenate([[0], ends])
    lengths = np.diff(starts, append=len(lead))
    longest = int(lengths.argmax())
    return int(starts[longest]), int(lengths[longest])


def _check_needs(record: ECGRecord, report: CheckReport, needs: Needs | None, where: dict[str, str | None]) -> None:
    seconds = record.num_samples / record.sampling_rate
    wanted = lead_tools.STANDARD_LEADS if needs is None else needs.lead_names
    if needs is None and seconds < SHORT_SECONDS:
        report.add("note", "too short", f"{seconds:g} s are short for most methods.", **where)
    if needs is not None and seconds + 1e-9 < needs.seconds:
        text = f"{seconds:g} s are less than the {needs.seconds:g} s that {needs.method} needs."
        report.add("error", "too short", text, **where)
    if wanted is None:
        return
    missing, names = "derive" if needs is None else needs.missing_leads, lead_tools.canonical_leads(record.lead_names)
    lost = [
        name
        for name in wanted
        if name not in names and (missing == "error" or lead_tools.derivation(name, names) is None)
    ]
    if lost and (missing not in ("drop", "zero") or len(lost) == len(wanted)):
        derived = " (limb leads follow from any two others)" if missing == "derive" else ""
        text = f"no lead {', '.join(lost)} among {', '.join(names)}{derived}"
        text += "." if needs is None else f"; {needs.method} needs {'it' if len(lost) == 1 else 'them'}."
        report.add("note" if needs is None else "error", "missing leads", text, **where)


class _Seen:
    """What only all records together show: copies, patients in two splits, odd rates, classes with few records."""

    def __init__(self) -> None:
        self._content: dict[bytes, str] = {}
        self._splits: dict[str, set[str]] = {}
        self._labels: Counter[str] = Counter()
        self._twice: list[tuple[Item, str, str | None]] = []
        self._unlabelled: list[tuple[Item, str | None]] = []
        self._rates: dict[int, dict[float, list[tuple[Item, str | None]]]] = {}

    def note(self, split: str, item: Item, record: ECGRecord, file: str | None) -> None:
        digest = hashlib.sha256(record.signal.tobytes() + json.dumps(record.lead_names).encode()).digest()
        if digest in self._content:
            self._twice.append((item, self._content[digest], file))
        self._content.setdefault(digest, item.record_id)
        if record.patient_id is not None:
            self._splits.setdefault(str(record.patient_id), set()).add(split)
        self._rates.setdefault(record.num_samples, {}).setdefault(record.sampling_rate, []).append((item, file))
        if split == "train":
            self._labels.update(item.labels)
        if not item.labels:
            self._unlabelled.append((item, file))

    def tell(self, plan: CorpusPlan, report: CheckReport) -> None:
        for item, other, file in self._twice:
            report.add("note", "twice", f"the same signal as record {other}.", record_id=item.record_id, file=file)
        for patient, splits in self._splits.items():
            if len(splits) > 1:
                text = f"patient {patient} has records in the splits {', '.join(sorted(splits))}: put them into one."
                report.add("error", "patient in two splits", text)
        for samples, rates in self._rates.items():
            usual = max(rates, key=lambda rate: len(rates[rate]))
            for rate, found in rates.items():
                if len(rates[usual]) < ALIKE_SHARE * len(found):
                    continue
                text = (
                    f"{samples} samples at {rate:g} Hz are {samples / rate:g} s, but {len(rates[usual])} records of as "
                )
                text += f"many samples have {usual:g} Hz: is the rate right?"
                for item, file in found:
                    report.add("note", "odd rate", text, record_id=item.record_id, file=file)
        if plan.task_kind not in ("multilabel", "multiclass"):
            return
        for item, file in self._unlabelled:
            severity: Severity = "error" if plan.task_kind == "multiclass" else "note"
            report.add(severity, "no label", "the record carries no label.", record_id=item.record_id, file=file)
        for name in plan.label_names:
            if self._labels[name] < FEW_RECORDS:
                text = f"the class {name!r} has {self._labels[name]} training records: too few to learn or to judge."
                report.add("note", "class with few records", text)
