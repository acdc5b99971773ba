"""Registry entry of MERL's ECG encoders."""

from dataclasses import replace
from typing import Any

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe

# aVF before aVL: the order of MIMIC-IV-ECG, into which the authors' readers bring every other corpus
LEADS = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]

# The first 10 s, zeros behind shorter records, then one least and greatest value of all leads to 0 and 1. No filter.
# The authors resample nothing; the Fourier method for other rates is ours.
PREPROCESSING: dict[str, Any] = {
    "sampling_rate": 500,
    "seq_len": 5000,
    "lead_names": LEADS,
    "resample": "fourier",
    "crop": "start",
    "pad": "zero",
    "chain": ["resample", "pad", "crop", {"step": "min_max", "scope": "joint", "low": 0.0, "high": 1.0, "eps": 1e-8}],
}

# published: the linear probe only
LINEAR = StageRecipe(lr=1e-3, batch_size=16, epochs=100, schedule="constant", weight_decay=1e-4)

PUBLISHED = Recipe(
    description=(
        "ResNet-18 and the released linear probe (learning rate 1e-3, 100 epochs), here with the encoder in evaluation "
        "mode; fine-tuning is not published, its rate is ours."
    ),
    stages={
        "linear": LINEAR,
        "finetune": replace(LINEAR, lr=1e-4, batch_size=64, epochs=50),
        "scratch": replace(LINEAR, batch_size=64, epochs=50, schedule="one_cycle"),
    },
)

VIT_TINY = Recipe(
    description="The released ViT-Tiny, with the same settings.",
    config={"backbone": "vit"},
    stages=PUBLISHED.stages,
)

TINY = Recipe(
    description="A small ResNet (about 65,000 parameters) on whole records of 10 s at 100 Hz.",
    config={"sampling_rate": 100, "seq_len": 1000, "stem_dim": 16, "stage_dims": [16, 32, 64], "depths": [1, 1, 1]},
    preprocessing={"sampling_rate": 100, "seq_len": 1000},
    stages={
        "finetune": replace(recipes.TINY_SUPERVISED, lr=3e-3, augmentation=None, augmentation_options={}),
        "linear": recipes.TINY_LINEAR,
    },
)

METHOD = ECGMethod(
    name="merl",
    prefix="MERL",
    title="MERL",
    paper=(
        "Liu et al., Zero-Shot ECG Classification with Multimodal Learning and Test-time Clinical Knowledge Enhancement, "
        "ICML 2024, arXiv:2403.06659"
    ),
    idea="encoders that agree with written reports",
    summary="ECG encoders (ResNet-18, ViT-Tiny) trained to agree with the reports of 770,000 records.",
    licence="Released code: MIT; the page of the weights (Google Drive) names no licence",
    preprocessing=PREPROCESSING,
    recipes={"published": PUBLISHED, "vit_tiny": VIT_TINY, "tiny": TINY},
    has_official_weights=True,
    stages=(),
    tiny_config={
        **recipes.SMALLEST_ENCODER,
        "backbone": "vit",
        "patch_size": 15,
        "attention_head_size": 16,
    },
    notes=(
        "Inputs are scaled by the extremes of the whole record, so a lead that is missing cannot be filled with zeros: "
        "twelve leads are needed. The encoders were trained on inputs in steps of 0.001, which is not reproduced. "
        "Zero-shot classification needs the text encoder of the whole checkpoint and is not part of this package."
    ),
)
