"""The unused records of CPSC 2018, as a part of the Challenges of 2020 and 2021."""

from __future__ import annotations

from ecg_transformers.data.corpora.base import CorpusFacts
from ecg_transformers.data.corpora.shared.challenge import ChallengeCorpus


class CPSCExtraCorpus(ChallengeCorpus):
    """The unused records of CPSC 2018, as a part of the Challenges of 2020 and 2021."""

    facts = CorpusFacts(
        name="cpsc_extra",
        title="CPSC-Extra",
        summary="12-lead ECGs that the China Physiological Signal Challenge 2018 did not use",
        records="3,453; no patient ids",
        leads="12",
        sampling_rates="500 Hz",
        duration="8 to 98 s",
        labels="SNOMED CT codes; tasks all, scored (26 classes), superclass",
        split="none official; ten folds by label with a seed, 10 test, 9 validation",
        licence="CC BY 4.0",
        citation="Perez Alday et al., Physiol. Meas. 41 (2020) 124003",
        homepage="https://physionet.org/content/challenge-2021/",
        download="training/cpsc_2018_extra of challenge-2021 1.0.3",
        layout="Q0001.hea and Q0001.mat …, at any depth",
        notes=(
            "Q0400 and Q2961 are flat in every lead: left out.",
            "About 155 records copy a waveform of CPSC 2018, with other codes.",
        ),
    )
    sources = ("cpsc_extra",)
