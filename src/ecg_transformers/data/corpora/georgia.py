"""Georgia 12-lead ECGs (Emory University), as a part of the Challenges of 2020 and 2021."""

from __future__ import annotations

from ecg_transformers.data.corpora.base import CorpusFacts
from ecg_transformers.data.corpora.shared.challenge import ChallengeCorpus


class GeorgiaCorpus(ChallengeCorpus):
    """Georgia 12-lead ECGs (Emory University), as a part of the Challenges of 2020 and 2021."""

    facts = CorpusFacts(
        name="georgia",
        title="Georgia 12-lead ECG Challenge database",
        summary="12-lead ECGs of a hospital in Georgia, USA",
        records="10,344; no patient ids",
        leads="12",
        sampling_rates="500 Hz",
        duration="10 s (52 records 5 s)",
        labels="SNOMED CT codes; tasks all, scored (26 classes), superclass",
        split="none official; ten folds by label with a seed, 10 test, 9 validation",
        licence="CC BY 4.0",
        citation="Perez Alday et al., Physiol. Meas. 41 (2020) 124003",
        homepage="https://physionet.org/content/challenge-2021/",
        download="training/georgia of challenge-2021 1.0.3",
        layout="E00001.hea and E00001.mat …, at any depth",
        notes=(
            "The first edition of 2020 states 4880 units per millivolt; put right to 1000 (correct_gain=False keeps it).",
            "Six records hold huge values at R peaks, 92 groups of records are identical.",
        ),
    )
    sources = ("georgia",)
