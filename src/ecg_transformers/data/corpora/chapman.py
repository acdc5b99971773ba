"""Chapman-Shaoxing, as the figshare deposit (CSV in microvolts and Diagnostics.xlsx) or as WFDB records (JS00001 …).

In the publisher's table `AF` is atrial *flutter* and `AFIB` fibrillation. Labels here are the publisher's acronyms in
both layouts, but flutter is called `AFL`, so that nobody takes it for fibrillation. Specification: corpora, 5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ecg_transformers.data.corpora.base import CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.corpora.shared.challenge import FIRST_OF_NINGBO, ChallengeCorpus, known_of_sources, source_of
from ecg_transformers.data.corpora.shared.finishing import compare_counts, finished_row, leave_out_absent, note_of_count
from ecg_transformers.data.corpora.shared.folds import as_in_merl, assign_folds, check_protocol, split_by_folds
from ecg_transformers.data.corpora.shared.forms import check_form, chosen_form
from ecg_transformers.data.corpora.shared.headers import age_in_years, sex_of
from ecg_transformers.data.corpora.shared.known import POLICIES, apply_known, known_records, sentence_of_known
from ecg_transformers.data.corpora.shared.packaged import packaged_table
from ecg_transformers.data.corpora.shared.search import by_name, find_file, some_of, walk_files
from ecg_transformers.data.corpora.shared.snomed import label_names_of, labels_of_codes, snomed_rows
from ecg_transformers.data.errors import EmptyRecordError, LabelError, RecordNotFoundError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers import read_digital
from ecg_transformers.data.tables import first_bytes, read_table
from ecg_transformers.data.xlsx import read_xlsx_table
from ecg_transformers.signal.leads import STANDARD_LEADS

ROWS = FIRST_OF_NINGBO - 1
TASKS = ("all", "rhythm", "rhythm4", "scored", "superclass")
_COLUMNS = ["FileName", "Rhythm", "Beat"]
_MEASURED = ("VentricularRate", "AtrialRate", "QRSDuration", "QTInterval", "QTCorrected", "RAxis", "TAxis", "QRSCount")
_RENAMED = {"AF": "AFL"}
# One code stands for several acronyms: the WFDB copies cannot tell them apart, so the general one is taken.
_GENERAL = {"164909002": "LBBB", "164865005": "MI", "698252002": "IVB", "251146004": "LQRSV", "195042002": "2AVB"}


@dataclass(frozen=True)
class ChapmanOptions:
    """Options of `chapman`.

    Attributes:
        task: "all" (rhythms and conditions), "rhythm" (11), "rhythm4" (AFIB with flutter, GSVT, SB, SR, as in the
            paper), "scored" and "superclass" (as in the Challenge), or None for no labels.
        signals: of the figshare deposit, "recorded" (ECGData) or "denoised" (ECGDataDenoised); None takes the recorded
            ones where they are there.
        bad_records: "skip" or "keep", as for the Challenges.
        correct_gain: as for the Challenges.
        protocol: "folds" (ten, by label) or "merl_split" (the random split of MERL over ecg-arrhythmia: `ningbo` has the
            other part of it).
        seed: of the ten folds.
        form: "original" (the figshare deposit) or "challenge" (WFDB), where a folder holds both; None takes the one that
            is there.
    """

    task: str | None = "all"
    signals: str | None = None
    bad_records: str = "skip"
    correct_gain: bool = True
    protocol: str = "folds"
    seed: int = 0
    form: str | None = None

    def __post_init__(self) -> None:
        check_form("chapman", self.form)
        if self.task is not None:
            check_choice("chapman: the task", self.task, TASKS)
        if self.signals is not None:
            check_choice("chapman: signals", self.signals, ("recorded", "denoised"))
        check_choice("chapman: bad_records", self.bad_records, POLICIES)
        check_protocol("chapman", self.protocol)


class ChapmanCorpus(ChallengeCorpus):
    """12-lead ECGs of Shaoxing People's Hospital, in either publication."""

    facts = CorpusFacts(
        name="chapman",
        title="Chapman-Shaoxing",
        summary="12-lead ECGs with rhythm and conditions by cardiologists",
        records="10,646 (figshare), 10,247 of them as WFDB; one record a patient, no patient ids",
        leads="12",
        sampling_rates="500 Hz",
        duration="10 s",
        labels="11 rhythms and 56 conditions; tasks " + ", ".join(TASKS),
        split="none official; ten folds by label with a seed, 10 test, 9 validation; or protocol=merl_split",
        licence="CC BY 4.0 (WFDB editions); the figshare deposit is quoted as CC0 and as CC BY 4.0",
        citation="Zheng et al., A 12-lead electrocardiogram database for arrhythmia research covering more than 10,000 "
        "patients, Scientific Data 7 (2020) 48",
        homepage="https://figshare.com/collections/ChapmanECG/4560497/2",
        download="Diagnostics.xlsx and ECGData.zip (or ECGDataDenoised.zip), unpacked; or PhysioNet ecg-arrhythmia 1.0.0",
        needs=("openpyxl",),
        layout="Diagnostics.xlsx with ECGData/ or ECGDataDenoised/ (unpacked), or JS00001.hea and .mat …, at any depth",
        notes=(
            "AF of the table is atrial flutter: called AFL here; AFIB is fibrillation.",
            "The WFDB copies lack the 399 records of rhythm SA; row n of the table is JS number n.",
            "Ages above 89 are written as 89 in the WFDB copies.",
            "40 denoised files are constant zero: left out. Limb leads of denoised files do not add up.",
        ),
    )
    options_class = ChapmanOptions
    sources = ("chapman",)

    def plan(self) -> CorpusPlan:
        table = find_file(self.data_dir, ["Diagnostics.xlsx", "Diagnostics.csv"])
        signals = [path for path in walk_files(self.data_dir, ".csv") if path.name.startswith("MUSE_")]
        headers = (path for path in walk_files(self.data_dir, ".hea") if source_of(path.stem) == "chapman")
        header = next(headers, None)
        original = signals[0] if signals else table if header is None else None
        form = chosen_form(self.options.form, original, header, self.data_dir)
        if form is None:
            raise self._nothing({}, [])
        plan = self._wfdb_plan() if form == "challenge" else self._figshare_plan(table, signals)
        return as_in_merl(plan, "split_ecg_arrhythmia_merl") if self.options.protocol == "merl_split" else plan

    def _wfdb_plan(self) -> CorpusPlan:
        plan = self.challenge_plan()
        plan.task_kind = _kind(self.options.task)
        if plan.task_kind == "multiclass":
            keep_one_rhythm(plan)
        return plan

    def label_names(self) -> list[str]:
        return chapman_label_names(self.options.task)

    def labels_of(self, codes: Sequence[str]) -> tuple[str, ...]:
        """Labels of a WFDB record, by its codes."""
        task = self.options.task
        if task in (None, "scored", "superclass"):
            return labels_of_codes(codes, task)
        acronyms = [label_of_snomed(code) for code in codes]
        return labels_of_acronyms([acronym for acronym in acronyms if acronym], task)

    @classmethod
    def about_known_records(cls) -> str:
        return sentence_of_known({**known_of_sources(cls.sources), **known_records("chapman_figshare")})

    def unknown_codes(self, codes: Sequence[str]) -> list[str]:
        return [code for code in codes if label_of_snomed(code) is None]

    def _figshare_plan(self, table: Path | None, signals: Sequence[Path]) -> CorpusPlan:
        options: ChapmanOptions = self.options
        paths, denoised = self._signal_files(signals)
        rows = self._rows_of(table)
        items, absent = [], []
        for number, row in enumerate(rows, start=1):
            name = row["FileName"].removesuffix(".csv")
            if name not in paths:
                absent.append(name)
                continue
            assert table is not None
            items.append(self._item(name, paths[name], row, table, number if len(rows) == ROWS else None))
        if table is not None and not items:
            raise RecordNotFoundError(
                f"none of its {len(rows):,} records is one of the {len(paths):,} files here ({some_of(sorted(paths), 2)}).",
                path=table,
            )
        if table is None:
            items = [Item(name, path) for name, path in sorted(paths.items())]
        notes = [note_of_count(len(items), ROWS, "chapman")]
        notes.append(f"signals: {'denoised (limb leads do not add up)' if denoised else 'as recorded'}, microvolts")
        known = known_records("chapman_figshare") if denoised else {}
        items, excluded, sentences = apply_known(items, known, options.bad_records)
        notes += [*sentences, "no patient ids; the publisher says one record a person"]
        files = [] if table is None else [table]
        plan = CorpusPlan({}, self.label_names(), _kind(options.task), files, [], excluded, notes)
        plan.splits = split_by_folds(assign_folds(items, options.seed))
        if table is None:
            plan.warnings.append("no Diagnostics.xlsx here: no labels, no ages, no sexes")
            return plan
        leave_out_absent(plan, absent, table)
        unlisted = len(set(paths) - {row["FileName"].removesuffix(".csv") for row in rows})
        if unlisted:
            plan.warnings.append(f"{unlisted} files are not in {table.name} and were left alone")
        if len(rows) == ROWS:
            published = {name: int(row["records_in_diagnostics_xlsx"]) for name, row in acronym_rows().items()}
            acronyms = Counter(name for row in rows for name in {row["Rhythm"], *row["Beat"].split()})
            compare_counts(plan, acronyms, published, "chapman, acronyms of the table")
        return plan

    def _rows_of(self, table: Path | None) -> list[dict[str, str]]:
        """The table of diagnoses; for a task it must be there."""
        if table is None:
            if self.options.task is not None:
                raise RecordNotFoundError(
                    "the signals are here, but no Diagnostics.xlsx, which has the labels; task=None reads them without.",
                    path=self.data_dir,
                )
            return []
        if table.suffix.lower() == ".csv":
            return read_table(table, _COLUMNS, root=self.data_dir, limits=self.limits)
        return read_xlsx_table(table, _COLUMNS, self.data_dir, self.limits)

    def _signal_files(self, signals: Sequence[Path]) -> tuple[dict[str, Path], bool]:
        """CSV files by name, of the folder that was asked for, and whether they are the denoised ones."""
        folders: dict[bool, list[Path]] = {False: [], True: []}
        kind_of: dict[Path, bool] = {}
        for path in signals:
            if path.parent not in kind_of:
                kind_of[path.parent] = _is_denoised(path, self.data_dir)
            folders[kind_of[path.parent]].append(path)
        wanted = self.options.signals
        denoised = wanted == "denoised" if wanted else not folders[False]
        if not folders[denoised]:
            archives = [path.name for path in walk_files(self.data_dir, ".zip")]
            unpack = f" (unpack {', '.join(archives[:2])})" if archives else ""
            raise RecordNotFoundError(
                f"no {'denoised ' if wanted == 'denoised' else ''}signal file MUSE_….csv here{unpack}.",
                path=self.data_dir,
            )
        return by_name(folders[denoised]), denoised

    def _item(self, name: str, path: Path, row: dict[str, str], table: Path, number: int | None) -> Item:
        acronyms = [row["Rhythm"], *(word for word in row["Beat"].split() if word != "NONE")]
        known = acronym_rows()
        unknown = [acronym for acronym in acronyms if acronym not in known]
        if unknown:
            raise LabelError(f"the acronyms {unknown} are none of the publisher's.", path=table, record=name)
        codes = [code for code in map(snomed_of_acronym, acronyms) if code]
        task = self.options.task
        renamed = [_RENAMED.get(acronym, acronym) for acronym in acronyms]
        labels = labels_of_codes(codes, task) if task in ("scored", "superclass") else labels_of_acronyms(renamed, task)
        metadata: dict[str, Any] = {
            "age": age_in_years(row.get("PatientAge", "")),
            "sex": sex_of(row.get("Gender", "")),
            "rhythm": row["Rhythm"],
            "rhythm_name": known[row["Rhythm"]]["name"],
            "beat": row["Beat"],
            "snomed": list(dict.fromkeys(codes)),
        }
        if number is not None:
            metadata["challenge_record"] = f"JS{number:05d}"
        metadata.update({key: float(row[key]) for key in _MEASURED if row.get(key, "").lstrip("-").isdigit()})
        challenge_name = (metadata["challenge_record"],) if number is not None else ()
        return Item(name, path, None, labels, None, metadata, names=challenge_name)

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        if item.path.suffix == ".hea":
            yield from super().rows(item, plan)
            return
        digital = read_digital(
            item.path,
            root=self.data_dir,
            limits=self.limits,
            sampling_rate=500.0,
            units="uV",
            lead_names=list(STANDARD_LEADS),
        )
        if not digital.to_record().signal.any():
            raise EmptyRecordError("the record is zero in every lead.", path=item.path, record=item.record_id)
        yield finished_row(digital, item, plan, "chapman")


def keep_one_rhythm(plan: CorpusPlan) -> None:
    """The codes of a WFDB copy name no rhythm in a few records, and several in others: those are left out, counted."""
    before = plan.num_items
    plan.splits = {part: [item for item in items if len(item.labels) == 1] for part, items in plan.splits.items()}
    if plan.num_items < before:
        plan.excluded["no rhythm, or several, among the codes"] = before - plan.num_items


def _is_denoised(path: Path, root: Path) -> bool:
    """By the name of the folder, or else because denoised files have no line of lead names."""
    if path.parent.name.lower() in ("ecgdata", "ecgdatadenoised"):
        return path.parent.name.lower() == "ecgdatadenoised"
    first = first_bytes(path, root).split(b"\n", 1)[0].replace(b"e", b"").replace(b"E", b"")
    return bool(first) and not any(65 <= byte <= 90 or 97 <= byte <= 122 for byte in first)


def _kind(task: str | None) -> str:
    if task is None:
        return "unlabelled"
    return "multiclass" if task in ("rhythm", "rhythm4") else "multilabel"


@lru_cache(maxsize=1)
def acronym_rows() -> dict[str, dict[str, str]]:
    """The publisher's acronyms, as in the table of diagnostics."""
    return {row["acronym"]: row for row in packaged_table("chapman_labels")}


def snomed_of_acronym(acronym: str) -> str:
    """The code that the Challenge gave it, or that of ConditionNames; '' where there is none."""
    row = acronym_rows()[acronym]
    return row["snomed_in_challenge"] or row["snomed_in_ConditionNames"]


@lru_cache(maxsize=1)
def _acronyms_by_code() -> dict[str, str]:
    by_code: dict[str, set[str]] = {}
    for column in ("snomed_in_challenge", "snomed_in_ConditionNames"):
        fresh: dict[str, set[str]] = {}
        for acronym, row in acronym_rows().items():
            if row[column] and row[column] not in by_code:
                fresh.setdefault(row[column], set()).add(_RENAMED.get(acronym, acronym))
        by_code.update(fresh)
    return {code: next(iter(names)) for code, names in by_code.items() if len(names) == 1}


def label_of_snomed(code: str) -> str | None:
    """The publisher's acronym of a code of the WFDB copies, or the Challenge's abbreviation; None for codes that the
    corpus does not use.
    """
    if code in _GENERAL:
        return _GENERAL[code]
    acronym = _acronyms_by_code().get(code)
    if acronym is not None or snomed_rows().get(code, {}).get("chapman", "0") == "0":
        return acronym
    abbreviation = snomed_rows()[code]["abbreviation"]
    taken = {_RENAMED.get(name, name) for name in acronym_rows()}
    return code if abbreviation in taken else abbreviation


def labels_of_acronyms(acronyms: list[str], task: str | None) -> tuple[str, ...]:
    """Labels of a record in the tasks that speak the publisher's acronyms."""
    if task is None:
        return ()
    rhythms = {_RENAMED.get(name, name): row for name, row in acronym_rows().items() if row["column"] == "rhythm"}
    if task == "all":
        return tuple(sorted(set(acronyms)))
    found = [name for name in acronyms if name in rhythms]
    if task == "rhythm4":
        found = [rhythms[name]["merged_rhythm"] for name in found]
    return tuple(sorted(set(found)))


def chapman_label_names(task: str | None) -> list[str]:
    """Names of the labels of a task, the same in both layouts."""
    if task in (None, "scored", "superclass"):
        return label_names_of(task)
    rows = [row for row in acronym_rows().values() if task == "all" or row["column"] == "rhythm"]
    if task == "rhythm4":
        return sorted({row["merged_rhythm"] for row in rows})
    names = {_RENAMED.get(row["acronym"], row["acronym"]) for row in rows if row["acronym"] != "NONE"}
    if task == "all":
        names |= {label for code in snomed_rows() if (label := label_of_snomed(code))}
    return sorted(names)
