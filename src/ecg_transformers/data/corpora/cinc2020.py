"""The PhysioNet/CinC Challenge of 2020: six of the sources of 2021, met in two editions of headers."""

from __future__ import annotations

from typing import ClassVar

from ecg_transformers.data.corpora.base import CorpusFacts
from ecg_transformers.data.corpora.cinc2021 import SOURCES_2020, CinC2021Corpus


class CinC2020Corpus(CinC2021Corpus):
    """The six sources of 2020, 43,101 records."""

    facts = CorpusFacts(
        name="cinc2020",
        title="PhysioNet/CinC Challenge 2020",
        summary="12-lead ECGs of six sources with SNOMED CT codes",
        records="43,101; patients of INCART, and of PTB-XL with ptbxl_database.csv",
        leads="12",
        sampling_rates="500 Hz (INCART 257, PTB 1000)",
        duration="5 s to 30 min, mostly 10 s",
        labels="SNOMED CT codes; tasks all, scored (24 classes), superclass",
        split="none official; ten folds by label with a seed, 10 test, 9 validation",
        licence="CC BY 4.0",
        citation="Perez Alday et al., Classification of 12-lead ECGs: the PhysioNet/CinC Challenge 2020, "
        "Physiol. Meas. 41 (2020) 124003",
        homepage="https://physionet.org/content/challenge-2020/",
        download="challenge-2020 1.0.2, the folder training/",
        layout="headers A0001.hea, Q0001.hea, I0001.hea, S0001.hea, HR00001.hea, E00001.hea … with .mat files",
        notes=(
            "The first edition states wrong gains for PTB, PTB-XL and Georgia; they are put right to 1000 per "
            "millivolt, counted as gain_corrected (correct_gain=False keeps them).",
            "Contains PTB-XL, PTB, CPSC 2018 and INCART: do not test there after pre-training here.",
        ),
    )
    edition: ClassVar[int] = 2020
    sources = SOURCES_2020
