"""Registry entry of ECG-SL."""

from typing import Any

from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe

PREPROCESSING = {
    "lead_names": ["II"],
    "missing_leads": "single",  # a recorder with one lead names it anything
    "peak_method": "zero_phase",
    "beat_mode": "window",
    "beat_len": 128,
    "before_s": 0.25,
    "after_s": 0.45,
    "beat_norm": "record",
    "max_beats": 64,
}

COMMON: dict[str, Any] = {
    "schedule": "linear_warmup_cosine",
    "warmup_fraction": 0.05,
    "weight_decay": 0.01,
    "clip_norm": 1.0,
}
STRUCTURAL = {"structural_encoder": 0.1}

PUBLISHED = Recipe(
    description=(
        "Our proposal: the paper's hyper-parameters are not known to us, and there is no official code. A batch of 96 "
        "records of ten seconds holds about 1,000 beats."
    ),
    stages={
        "autoencoder": StageRecipe(lr=1e-3, batch_size=96, epochs=20, config={"stage": "autoencoder"}, **COMMON),
        "masked": StageRecipe(
            lr=3e-4, batch_size=128, epochs=50, lr_factors=STRUCTURAL, config={"stage": "masked"}, **COMMON
        ),
        "finetune": StageRecipe(lr=1e-4, batch_size=64, epochs=30, lr_factors=STRUCTURAL, **COMMON),
        "scratch": StageRecipe(lr=1e-4, batch_size=64, epochs=30, **COMMON),
    },
)

TINY = Recipe(
    description="A small model for CPUs: width 64, two layers over beats.",
    config={
        "conv_channels": [16, 16, 32, 32, 32, 32],
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 128,
    },
    stages={
        "autoencoder": StageRecipe(lr=2e-3, batch_size=32, max_steps=600, config={"stage": "autoencoder"}, **COMMON),
        "masked": StageRecipe(
            lr=1e-3, batch_size=32, max_steps=1000, lr_factors=STRUCTURAL, config={"stage": "masked"}, **COMMON
        ),
        "finetune": StageRecipe(
            lr=1e-3,
            batch_size=32,
            max_steps=400,
            max_steps_by_fraction={0.1: 150, 0.05: 150},
            lr_factors={"structural_encoder": 0.3},
            **COMMON,
        ),
        "scratch": StageRecipe(
            lr=1e-3, batch_size=32, max_steps=400, max_steps_by_fraction={0.1: 150, 0.05: 150}, **COMMON
        ),
    },
)

METHOD = ECGMethod(
    name="ecg_sl",
    prefix="ECGSL",
    title="ECG-SL",
    paper=(
        "Yu, Yang, Sano, ECG-SL: Electrocardiogram (ECG) Segment Learning, a deep learning method for ECG signal, "
        "2023, arXiv:2310.00818"
    ),
    idea="learns beat by beat, then from their order",
    summary=(
        "Learns heartbeat by heartbeat: a convolutional autoencoder of single beats, then a transformer over beats "
        "that reconstructs masked ones."
    ),
    licence="No official code or weights exist; this implementation: Apache-2.0",
    preprocessing=PREPROCESSING,
    recipes={"published": PUBLISHED, "tiny": TINY},
    view="beats",
    extractor="ecg_transformers.features.feature_extraction_beats.ECGSLFeatureExtractor",
    tiny_config={
        "beat_len": 32,
        "max_beats": 8,
        "conv_channels": [8, 8, 8, 8, 16, 16],
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 37,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "head_dropout": 0.0,
    },
    stages=("autoencoder", "masked"),
    notes=(
        "Re-implementation from the description; no official code or weights exist. Established by the paper: "
        "fixed-length heartbeats of one lead, a beat autoencoder described as a 6-layer 1-D CNN, a transformer with "
        "positions over the beats, attention aggregation, two pre-training stages (autoencoder, masked beats). Our "
        "proposals: the R-peak detector, the beat window, amplitude scale, all widths, RR features, mask ratio, "
        "optimisation, and several leads."
    ),
)
