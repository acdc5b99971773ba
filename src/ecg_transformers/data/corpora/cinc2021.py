"""The PhysioNet/CinC Challenge of 2021: eight sources of 12-lead ECGs with SNOMED CT codes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ecg_transformers.data.corpora.base import CorpusFacts, CorpusPlan
from ecg_transformers.data.corpora.shared.challenge import ChallengeCorpus, ChallengeOptions
from ecg_transformers.data.corpora.shared.packaged import packaged_column
from ecg_transformers.data.corpora.shared.search import find_file
from ecg_transformers.data.errors import OptionError, RecordNotFoundError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.tables import integer, read_table

SOURCES_2020 = ("cpsc2018", "cpsc_extra", "incart", "ptb", "ptb_xl", "georgia")
SOURCES_2021 = (*SOURCES_2020, "chapman", "ningbo")
CODES_IN_2021 = "133 SNOMED CT codes; tasks all, scored (26 classes), superclass"


@dataclass(frozen=True)
class EditionOptions(ChallengeOptions):
    """Options of `cinc2020` and `cinc2021`, beside those of their parts.

    Attributes:
        include: only these sources.
        exclude: all sources but these, for instance those of the evaluation.
        ptbxl_database: the table `ptbxl_database.csv` of PTB-XL: the records of that source then have their patients, by
            the ids of `ptb_xl` (default: the file below the folder, if it is there).
    """

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    ptbxl_database: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("include", "exclude"):
            value = getattr(self, name)
            if value is None:
                continue
            listed = (value,) if isinstance(value, str) else tuple(value)
            for source in listed:
                check_choice(f"{name}: the source", source, SOURCES_2021)
            object.__setattr__(self, name, listed)


class CinC2021Corpus(ChallengeCorpus):
    """All eight sources, 88,253 records."""

    facts = CorpusFacts(
        name="cinc2021",
        title="PhysioNet/CinC Challenge 2021",
        summary="12-lead ECGs of eight sources with SNOMED CT codes",
        records="88,253; patients of INCART, and of PTB-XL with ptbxl_database.csv",
        leads="12",
        sampling_rates="500 Hz (INCART 257, PTB 1000)",
        duration="5 s to 30 min, mostly 10 s",
        labels=CODES_IN_2021,
        split="none official; ten folds by label with a seed, 10 test, 9 validation",
        licence="CC BY 4.0",
        citation="Reyna et al., Will Two Do? Varying Dimensions in Electrocardiography, CinC 48 (2021)",
        homepage="https://physionet.org/content/challenge-2021/",
        download="challenge-2021 1.0.3, the folder training/",
        layout="headers A0001.hea, E00001.hea, HR00001.hea, JS00001.hea … with .mat files, at any depth",
        notes=(
            "Sources: " + ", ".join(SOURCES_2021) + " (include=, exclude=).",
            "The premature ventricular beats of CPSC 2018 carry a code that is not scored (VEB, 164884008).",
            "Ningbo codes atrial fibrillation as flutter (164890007).",
            "38 records of PTB-XL were withdrawn as copies; they are left out (bad_records='keep' keeps them).",
            "Contains PTB-XL, PTB, CPSC 2018, Chapman and INCART: do not test there after pre-training here.",
        ),
    )
    options_class = EditionOptions
    sources: ClassVar[tuple[str, ...]] = SOURCES_2021

    def plan(self) -> CorpusPlan:
        table = self._ptbxl_database()
        self._ptb_xl_patients = {} if table is None else _ptb_xl_patients(table)
        plan = self.challenge_plan()
        plan.files += [] if table is None else [table]
        return plan

    def _ptbxl_database(self) -> Path | None:
        if "ptb_xl" not in self.wanted_sources():
            return None
        given = self.options.ptbxl_database
        if given is not None and not Path(given).is_file():
            raise RecordNotFoundError("there is no such table of PTB-XL.", path=given)
        return find_file(self.data_dir, ["ptbxl_database.csv"]) if given is None else Path(given)

    def patient_of(self, name: str) -> str | None:
        if name.startswith("HR"):
            return self._ptb_xl_patients.get(int(name[2:]))
        patient = packaged_column("incart_records", "challenge_record", "patient").get(name)
        return None if patient is None else f"incart {patient}"

    def wanted_sources(self) -> tuple[str, ...]:
        options: EditionOptions = self.options
        foreign = [source for source in options.include or () if source not in self.sources]
        if foreign:
            raise OptionError(f"{self.facts.name} has no source {foreign[0]!r}; it has {', '.join(self.sources)}.")
        chosen = [source for source in self.sources if options.include is None or source in options.include]
        chosen = [source for source in chosen if source not in (options.exclude or ())]
        if not chosen:
            raise OptionError(f"{self.facts.name}: include and exclude leave no source.")
        return tuple(chosen)


def _ptb_xl_patients(table: Path) -> dict[int, str]:
    """Patients of PTB-XL by `ecg_id`, which is the number of a record here."""
    patients = {}
    for row in read_table(table, ["ecg_id", "patient_id"]):
        record = integer(row["ecg_id"], "ecg_id", table)
        patient = integer(row["patient_id"], "patient_id", table, record=row["ecg_id"])
        if record is not None and patient is not None:
            patients[record] = str(patient)
    return patients
