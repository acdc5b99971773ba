"""Registry entry of ECGFounder's Net1D."""

from dataclasses import replace
from typing import Any

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe
from ecg_transformers.signal.leads import STANDARD_LEADS

BAND_AND_BASELINE: list[Any] = [
    {"step": "band_pass", "low": 0.67, "high": 40.0, "order": 4},
    {"step": "median_baseline", "window_s": 0.4},
]

# The released reader: notch, band-pass and median baseline on the whole 10 s, then one mean and deviation for all leads.
# It has no rule for other lengths and rates: straight lines to 500 Hz, the centre, and zeros at the end are ours.
PREPROCESSING: dict[str, Any] = {
    "sampling_rate": 500,
    "seq_len": 5000,
    "lead_names": list(STANDARD_LEADS),
    "nan": "zero",
    "resample": "linear",
    "resample_rounding": "round",
    "crop": "center",
    "pad": "zero",
    "normalize": "joint",
    "normalize_eps": 1e-8,
    "chain": [
        *("resample", "pad", "crop"),
        {"step": "notch", "frequency": 50.0, "quality_factor": 30.0},
        *BAND_AND_BASELINE,
        "normalize",
    ],
}

# published: Adam with an L2 penalty and a plateau schedule; a constant rate and AdamW stand in for them
FINETUNE = StageRecipe(lr=1e-4, batch_size=256, epochs=5, schedule="constant", weight_decay=1e-5)

PUBLISHED = Recipe(
    description=(
        "Fine-tuning as in the released notebook (learning rate 1e-4, 5 epochs; a linear head on the mean token); its "
        "plateau schedule is a constant rate here."
    ),
    stages={
        "finetune": FINETUNE,
        "scratch": replace(FINETUNE, lr=1e-3, epochs=50, schedule="one_cycle"),
        "linear": replace(FINETUNE, lr=1e-3, epochs=50),
    },
)

TINY = Recipe(
    description="A small Net1D (about 63,000 parameters) on whole records of 10 s at 100 Hz, without the notch.",
    config={
        "sampling_rate": 100,
        "seq_len": 1000,
        "stem_dim": 32,
        "stage_dims": [32, 32, 64, 64],
        "depths": [1, 1, 1, 1],
        "kernel_size": 8,
    },
    preprocessing={
        "sampling_rate": 100,
        "seq_len": 1000,
        "chain": ["resample", "pad", "crop", *BAND_AND_BASELINE, "normalize"],
    },
    stages={
        "finetune": replace(recipes.TINY_SUPERVISED, lr=3e-3),
        "linear": recipes.TINY_LINEAR,
    },
)

METHOD = ECGMethod(
    name="ecg_net1d",
    prefix="ECGNet1D",
    title="ECGFounder",
    paper=(
        "Li et al., An Electrocardiogram Foundation Model Built on over 10 Million Recordings, NEJM AI 2(7), 2025, "
        "arXiv:2410.04133"
    ),
    idea="a residual network trained on 150 diagnoses",
    summary="A residual network trained on 150 diagnostic statements of ten million records (ECGFounder).",
    licence="Released code: MIT; the page of the weights (Hub, PKUDigitalHealth/ECGFounder) is read as MIT by others",
    preprocessing=PREPROCESSING,
    recipes={"published": PUBLISHED, "tiny": TINY},
    has_official_weights=True,
    stages=(),
    tiny_config={
        "num_leads": 12,
        "seq_len": 128,
        "sampling_rate": 200,  # the notch needs more than 100 Hz
        "stem_dim": 32,  # as wide as every stage, so that all hidden states are
        "stage_dims": [32, 32],
        "depths": [1, 2],
        "kernel_size": 8,
    },
    notes=(
        "The filters follow the released reader, which its README insists on; the paper names other corner frequencies, "
        "and the released PTB-XL evaluation uses none: which of them the weights were trained with is not known "
        '(chain=["resample", "pad", "crop", "normalize"] leaves them out). The first and last 0.2 s carry the zero padding '
        "of the median. No decision thresholds were published."
    ),
)
