"""PhysioNet/CinC Challenge 2017: single-lead hand-held recordings, labels of version 3."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecg_transformers.data.corpora.base import Corpus, CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.corpora.shared.finishing import finished_row, leave_out_absent, note_of_count
from ecg_transformers.data.corpora.shared.folds import assign_folds, split_by_folds
from ecg_transformers.data.corpora.shared.search import find_files, walk_files
from ecg_transformers.data.errors import LabelError, RecordNotFoundError, TableError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers import read_digital
from ecg_transformers.data.readers.limits import read_bytes, refuse_foreign_text
from ecg_transformers.data.tables import first_cells, separator_of

CLASSES = ("N", "A", "O", "~")
RECORDS = 8528
COUNTS = {
    "v0": {"N": 5154, "A": 771, "O": 2557, "~": 46},
    "v1": {"N": 5040, "A": 736, "O": 2469, "~": 283},
    "v2": {"N": 5050, "A": 738, "O": 2456, "~": 284},
    "v3": {"N": 5076, "A": 758, "O": 2415, "~": 279},
}
_NAME = re.compile(r"A\d{5}\Z")
_COPIES = ("validation", "sample2017")
NO_PATIENTS = "no patient ids in this corpus: parts are drawn by record"


@dataclass(frozen=True)
class CinC2017Options:
    """Options of `cinc2017`.

    Attributes:
        task: "all" (N normal, A atrial fibrillation, O other, ~ noisy), or None for no labels.
        labels_version: "v0" to "v3"; v3 is read from REFERENCE-v3.csv, or from REFERENCE.csv where only that is there.
        seed: of the ten folds.
    """

    task: str | None = "all"
    labels_version: str = "v3"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task is not None:
            check_choice("cinc2017: the task", self.task, ("all",))
        check_choice("cinc2017: labels_version", self.labels_version, tuple(COUNTS))


class CinC2017Corpus(Corpus):
    """8,528 recordings of one lead, four classes."""

    facts = CorpusFacts(
        name="cinc2017",
        title="PhysioNet/CinC Challenge 2017",
        summary="Hand-held single-lead recordings, normal rhythm, atrial fibrillation, other or noise",
        records="8,528; no patient ids",
        leads="1 (ECG, polarity unknown)",
        sampling_rates="300 Hz",
        duration="9 to 61 s",
        labels="N, A, O, ~ (labels of version 3)",
        split="none official; ten folds by label with a seed, 10 test, 9 validation",
        licence="ODC-By 1.0",
        citation="Clifford et al., AF classification from a short single lead ECG recording, CinC 44 (2017)",
        homepage="https://physionet.org/content/challenge-2017/",
        download="training2017.zip (or training/ and REFERENCE-v3.csv), unpacked",
        layout="A00001.mat (and .hea) … and REFERENCE-v3.csv or REFERENCE.csv, at any depth",
        notes=(
            "The 300 records of validation/ are copies of training records: each is read once.",
            "Some recordings are inverted. The date in the headers is not real.",
        ),
    )
    options_class = CinC2017Options

    def plan(self) -> CorpusPlan:
        options: CinC2017Options = self.options
        paths, copies = self._records()
        reference = self._reference_file()
        if reference is None:
            return self._without_labels(paths, copies)
        labels = self._labels(reference)
        skipped = [(name, f"not in {reference.name}") for name in paths if name not in labels]
        excluded = {"copies of training records (validation/)": copies} if copies else {}
        items = [
            Item(name, path, None, (labels[name],) if options.task else (), None, {"label": labels[name]})
            for name, path in sorted(paths.items())
            if name in labels
        ]
        absent = [name for name in labels if name not in paths]
        items = assign_folds(items, options.seed)
        notes = [note_of_count(len(items), RECORDS, "cinc2017"), f"labels from {reference.name}"]
        notes += self._check_counts(Counter(labels[item.record_id] for item in items), reference)
        notes.append(NO_PATIENTS)
        names = list(CLASSES) if options.task else []
        kind = "multiclass" if names else "unlabelled"
        plan = CorpusPlan(split_by_folds(items), names, kind, [reference], skipped, excluded, notes)
        if all(path.parent.name in _COPIES for path in paths.values()):
            plan.warnings.append(
                "all records lie in validation/: copies of training records, no test for what saw those"
            )
        leave_out_absent(plan, absent, reference)
        return plan

    def _without_labels(self, paths: dict[str, Path], copies: int) -> CorpusPlan:
        """Records for pre-training, of a copy that has lost its table."""
        items = assign_folds([Item(name, path) for name, path in sorted(paths.items())], self.options.seed)
        excluded = {"copies of training records (validation/)": copies} if copies else {}
        notes = [note_of_count(len(items), RECORDS, "cinc2017"), NO_PATIENTS]
        warnings = ["no REFERENCE-v3.csv or REFERENCE.csv here: no labels"]
        return CorpusPlan(split_by_folds(items), excluded=excluded, notes=notes, warnings=warnings)

    def _records(self) -> tuple[dict[str, Path], int]:
        """Paths by record: the header where there is one; a record that lies here twice counts once."""
        paths: dict[str, Path] = {}
        copies = 0
        found = [path for path in walk_files(self.data_dir, ".mat") if _NAME.match(path.stem)]
        for path in sorted(found, key=lambda p: (any(part in _COPIES for part in p.parts), p)):
            if path.stem in paths:
                copies += 1
                continue
            header = path.with_suffix(".hea")
            paths[path.stem] = header if header.exists() else path
        if not paths:
            raise RecordNotFoundError(
                f"no record A00001.mat … here; expected is {self.facts.layout}.", path=self.data_dir
            )
        return paths, copies

    def _reference_file(self) -> Path | None:
        """The table of labels; None where there is none and no labels are asked for."""
        version = self.options.labels_version
        named = find_files(self.data_dir, [f"REFERENCE-{version}.csv"])
        plain = find_files(self.data_dir, ["REFERENCE.csv"], fits=self._is_ours) if version == "v3" else []
        candidates = sorted([*named, *plain], key=lambda p: (any(part in _COPIES for part in p.parts), p not in named))
        if not candidates and self.options.task is not None:
            plain_too = " or REFERENCE.csv" if version == "v3" else ""
            raise RecordNotFoundError(
                f"no REFERENCE-{version}.csv{plain_too} here, which has the labels; task=None reads the records without.",
                path=self.data_dir,
            )
        return candidates[0] if candidates else None

    def _is_ours(self, reference: Path) -> bool:
        """Whether a REFERENCE.csv is not that of CPSC 2018, which has several labels a record and headings."""
        return "First_label" not in first_cells(reference, self.data_dir)

    def _labels(self, path: Path) -> dict[str, str]:
        """Symbols by record; the file has no header line, and some mirrors add a third column."""
        content = read_bytes(path, self.limits.max_table_bytes, self.data_dir)
        refuse_foreign_text(content[:64], path)
        labels: dict[str, str] = {}
        lines = content.decode("utf-8-sig", errors="replace").splitlines()
        for row in csv.reader(lines, delimiter=separator_of(lines[0] if lines else "")):
            cells = [cell.strip() for cell in row]
            if not any(cells) or cells[0].lower() in ("recording", "record", "file"):
                continue
            if len(cells) < 2 or cells[1] not in CLASSES:
                raise LabelError(f"the line {','.join(cells)[:60]!r} does not end in N, A, O or ~.", path=path)
            if labels.setdefault(cells[0], cells[1]) != cells[1]:
                raise LabelError(f"the record is {labels[cells[0]]} and {cells[1]}.", path=path, record=cells[0])
        return labels

    def _check_counts(self, counts: Counter[str], reference: Path) -> list[str]:
        """Which version a complete copy of REFERENCE.csv holds, told by its counts."""
        if sum(counts.values()) != RECORDS:
            return []
        fitting = [version for version, published in COUNTS.items() if published == dict(counts)]
        if self.options.labels_version in fitting:
            return [f"the counts are those of version {self.options.labels_version[1:]}"]
        found = f"version {fitting[0][1:]}" if fitting else "none of the published versions"
        raise TableError(
            f"the counts {dict(counts)} are those of {found}, not of {self.options.labels_version}; put "
            f"REFERENCE-{self.options.labels_version}.csv beside, or pass labels_version=….",
            path=reference,
        )

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        alone: dict[str, Any] = {"sampling_rate": 300.0, "lead_names": ["ECG"], "units": "uV"}
        digital = read_digital(
            item.path, root=self.data_dir, limits=self.limits, **(alone if item.path.suffix.lower() == ".mat" else {})
        )
        yield finished_row(digital, item, plan, "cinc2017")
