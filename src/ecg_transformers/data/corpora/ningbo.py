"""Ningbo First Hospital, as a part of the Challenge of 2021 or inside ecg-arrhythmia 1.0.0."""

from __future__ import annotations

from dataclasses import dataclass

from ecg_transformers.data.corpora.base import CorpusFacts, CorpusPlan
from ecg_transformers.data.corpora.shared.challenge import ChallengeCorpus, ChallengeOptions
from ecg_transformers.data.corpora.shared.folds import as_in_merl, check_protocol


@dataclass(frozen=True)
class NingboOptions(ChallengeOptions):
    """Options of `ningbo`, beside those of the Challenges.

    Attributes:
        protocol: "folds" (ten, by label) or "merl_split" (the random split of MERL over ecg-arrhythmia: `chapman` has the
            other part of it).
    """

    protocol: str = "folds"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_protocol("ningbo", self.protocol)


class NingboCorpus(ChallengeCorpus):
    """Ningbo First Hospital, as a part of the Challenge of 2021 or inside ecg-arrhythmia 1.0.0."""

    facts = CorpusFacts(
        name="ningbo",
        title="Ningbo First Hospital",
        summary="12-lead ECGs of Ningbo with SNOMED CT codes",
        records="34,905; no patient ids",
        leads="12",
        sampling_rates="500 Hz",
        duration="10 s",
        labels="SNOMED CT codes; tasks all, scored (26 classes), superclass",
        split="none official; ten folds by label with a seed, 10 test, 9 validation; or protocol=merl_split",
        licence="CC BY 4.0",
        citation="Zheng et al., Sci. Rep. 10 (2020) 2898",
        homepage="https://physionet.org/content/challenge-2021/",
        download="training/ningbo of challenge-2021 1.0.3, or ecg-arrhythmia 1.0.0",
        layout="JS10647.hea … JS45551.hea with .mat files, at any depth",
        notes=(
            "Atrial fibrillation is coded as flutter (AFL, 164890007) throughout: AF never occurs.",
            "97 records hold samples without a value, 1,480 an all-zero lead: they are kept and flagged.",
            "71 records are copies of records of Chapman, 43 of them with other codes.",
        ),
    )
    options_class = NingboOptions
    sources = ("ningbo",)

    def plan(self) -> CorpusPlan:
        plan = self.challenge_plan()
        return as_in_merl(plan, "split_ecg_arrhythmia_merl") if self.options.protocol == "merl_split" else plan
