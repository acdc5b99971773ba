"""The PhysioNet/CinC Challenge of 2021: eight sources of 12-lead ECGs with SNOMED CT codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ecg_transformers.data.corpora.base import CorpusFacts
from ecg_transformers.data.corpora.shared.challenge import ChallengeCorpus, ChallengeOptions
from ecg_transformers.data.errors import OptionError
from ecg_transformers.data.options import check_choice

SOURCES_2020 = ("cpsc2018", "cpsc_extra", "incart", "ptb", "ptb_xl", "georgia")
SOURCES_2021 = (*SOURCES_2020, "chapman", "ningbo")
CODES_IN_2021 = "133 SNOMED CT codes; tasks all, scored (26 classes), superclass"


@dataclass(frozen=True)
class EditionOptions(ChallengeOptions):
    """Options of `cinc2020` and `cinc2021`, beside those of their parts.

    Attributes:
        include: only these sources.
        exclude: all sources but these, for instance those of the evaluation.
    """

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None

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
        records="88,253; no patient ids",
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
