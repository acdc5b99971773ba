"""Registry entry of Weimann and Conrad's ECG-JEPA."""

import struct
from dataclasses import replace
from typing import Any

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe
from ecg_transformers.signal.leads import STANDARD_LEADS


def half(values: list[float]) -> list[float]:
    """The published code keeps its statistics in half precision."""
    return [struct.unpack("e", struct.pack("e", value))[0] for value in values]


# of the training folds 1 to 8 of PTB-XL; for another corpus the authors compute its own (options `mean`, `std`)
MEAN = half([-0.002, -0.002, 0.0, 0.002, -0.001, -0.001, 0.0, -0.001, -0.002, -0.001, -0.001, -0.001])
STD = half([0.191, 0.166, 0.173, 0.142, 0.149, 0.147, 0.235, 0.338, 0.335, 0.299, 0.294, 0.242])

PREPROCESSING: dict[str, Any] = {
    "sampling_rate": 500,
    "seq_len": 5000,
    "lead_names": list(STANDARD_LEADS),
    "resample": "fourier",
    "resample_rounding": "ratio_first",
    "crop": "center",
    "crop_before_filter": False,
    "normalize": "fixed",
    "mean": MEAN,
    "std": STD,
    "clip": 5.0,
    "nan": "interpolate",
    "max_gap": 10.0,
    "patch_size": 25,
}

_PRETRAIN = StageRecipe(
    lr=1e-3,
    batch_size=2048,
    max_steps=100_000,
    warmup_steps=10_000,
    min_lr=1e-6,
    schedule="warmup_cosine",
    weight_decay=0.01,
    final_weight_decay=0.1,
    no_decay=("registers", "mask_token"),
    betas=(0.9, 0.99),
    eps=1e-6,
)
_WINDOWS = {"seq_len": 1250}  # 2.5 s, one every 1.25 s in evaluation: 7 of 10 s
_FINETUNE = StageRecipe(
    lr=1e-3,
    batch_size=128,
    max_steps=10_000,
    warmup_steps=200,
    min_lr=1e-5,
    schedule="warmup_cosine",
    weight_decay=0.01,
    no_decay=("registers",),
    betas=(0.9, 0.99),
    config={"pooling": "register", "hidden_dropout_prob": 0.05},
    num_crops=7,
    evaluations=100,
)
_LINEAR = StageRecipe(
    lr=1e-3,
    batch_size=128,
    max_steps=5_000,
    schedule="constant",
    weight_decay=0.1,
    clip_norm=1.0,
    config={"classifier_bias": True},  # the published head has none; a linear probe writes its intercept into it
    num_crops=7,
)
_ATTENTION = replace(_LINEAR, config={"head_pooling": "attention"})
_DOWNSTREAM = {"finetune": _FINETUNE, "linear": _LINEAR, "attention": _ATTENTION}

PUBLISHED = Recipe(
    description="ViT-S with the settings of the released configurations; 10 s records in pre-training.",
    stages={"pretrain": _PRETRAIN, **_DOWNSTREAM},
)
PUBLISHED_XS = Recipe(
    description="The same with ViT-XS.",
    config={
        "hidden_size": 192,
        "num_attention_heads": 4,
        "predictor_hidden_size": 96,
        "predictor_num_attention_heads": 4,
    },
    stages=PUBLISHED.stages,
)
PUBLISHED_BASE = Recipe(
    description="The same with ViT-B: batches of 512 records, which the authors accumulate over two passes.",
    config={
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "predictor_hidden_size": 384,
        "predictor_num_hidden_layers": 12,
        "predictor_num_attention_heads": 12,
    },
    stages={"pretrain": replace(_PRETRAIN, batch_size=512), **_DOWNSTREAM},
)
PUBLISHED_WINDOWS = Recipe(
    description="Downstream training as released: random windows of 2.5 s, test windows every 1.25 s, averaged.",
    config={"seq_len": 1250},
    preprocessing=_WINDOWS,
    stages=_DOWNSTREAM,
)
TINY = Recipe(
    description="A small model for CPUs: 5 s at 100 Hz, width 64, standardised crops, 600 updates.",
    config={
        **recipes.TINY_JEPA,
        "patch_size": 10,
        "min_block_size": 4,
        "momentum_start": 0.99,
        "classifier_bias": True,
    },
    preprocessing={"sampling_rate": 100, "seq_len": 500, **recipes.TINY_BAND},
    stages={
        "pretrain": replace(_PRETRAIN, batch_size=32, max_steps=600, warmup_fraction=0.1, eps=1e-8, clip_norm=1.0),
        "finetune": recipes.TINY_FINETUNE,
    },
)

METHOD = ECGMethod(
    name="weimann_jepa",
    prefix="WeimannJEPA",
    title="ECG-JEPA (Weimann)",
    paper=(
        "Weimann, Conrad, Self-Supervised Pre-Training with Joint-Embedding Predictive Architecture Boosts ECG "
        "Classification Performance, Computers in Biology and Medicine, 2025, arXiv:2410.13867"
    ),
    idea="predicts hidden times of all leads together",
    summary="Predicts a slow teacher's tokens of hidden blocks of time; a token is a short window over all leads.",
    licence="Released code: MIT; no weights were published in the snapshot that is specified",
    preprocessing=PREPROCESSING,
    recipes={
        "published": PUBLISHED,
        "published_xs": PUBLISHED_XS,
        "published_base": PUBLISHED_BASE,
        "published_windows": PUBLISHED_WINDOWS,
        "tiny": TINY,
    },
    file_overrides="ecg_transformers.models.weimann_jepa.convert_weimann_jepa.settings_in_file",
    tiny_config={
        **recipes.SMALLEST_JEPA,
        "patch_size": 10,
        "min_block_size": 2,
    },
    notes=(
        "Not Kim's ECG-JEPA (`ecg_jepa`), which has other tokens, masks and files. Downstream the teacher is used, as "
        "the authors do; the embedding is the mean of its patch tokens, which is our choice, because they read out with "
        "heads only. Records stay in single precision here, where the published code stores them in half precision "
        "(differences up to 5e-3 of a standard deviation). With accumulated passes the published code moves the teacher "
        "at every pass, this package once a step."
    ),
)
