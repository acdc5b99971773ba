"""Registry entry of ECG-JEPA."""

from dataclasses import replace

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe

EIGHT_LEADS = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]

PREPROCESSING = {
    "sampling_rate": 250,
    "seq_len": 2500,
    "lead_names": EIGHT_LEADS,
    "resample": "fourier",
    "crop": "center",
    "crop_sampling_rate": 500,  # 10 s are cut at 500 Hz and then resampled, as published; no filter, no normalisation
    "patch_size": 50,
}

# no decay on biases and vectors; the mask token has three axes and decays, as in the released code
_PRETRAIN = StageRecipe(
    lr=5.5e-5,
    batch_size=64,
    epochs=100,
    warmup_epochs=5,
    min_lr=1e-6,
    schedule="unshifted_cosine",  # the released cosine does not know of its warm-up: the rate drops when that ends
    weight_decay=0.05,
)
_LINEAR = StageRecipe(
    lr=0.01, min_lr=0.001, batch_size=16, epochs=10, warmup_steps=10, weight_decay=0.01, decay_one_dimensional=True
)
_FINETUNE = StageRecipe(
    base_lr=1e-4,
    batch_size=16,
    epochs=10,
    warmup_epochs=3,
    weight_decay=0.05,
    betas=(0.9, 0.95),
    decay_one_dimensional=True,
    augmentation="randaugment",
)
_DOWNSTREAM = {"finetune": _FINETUNE, "linear": _LINEAR, "delineation": recipes.DELINEATION}

PUBLISHED = Recipe(
    description="Multi-block masking with the settings of the released command.",
    stages={"pretrain": _PRETRAIN, **_DOWNSTREAM},
)
PUBLISHED_RANDOM = Recipe(
    description="Random masking with the settings of the released command.",
    config={"mask_type": "random"},
    stages={"pretrain": replace(_PRETRAIN, lr=2.5e-5, batch_size=128), **_DOWNSTREAM},
)
PUBLISHED_FINETUNE = Recipe(
    description="Fine-tuning as released: band-pass 0.67 to 40 Hz on training and test records.",
    preprocessing={"highpass": 0.67, "lowpass": 40.0, "filter_order": 5},
    stages=_DOWNSTREAM,
)

TINY_PREPROCESSING = {
    **recipes.TINY_BAND,
    "sampling_rate": 100,
    "seq_len": 500,
    "crop_sampling_rate": None,
    "crop_before_filter": False,
    "normalize": "joint",
    "patch_size": 25,
}
TINY = Recipe(
    description=(
        "A small model for CPUs: 5 s crops at 100 Hz, width 64, 600 updates. Standardised crops and a patch "
        "projection that starts ten times larger keep it from collapsing onto its positions, as it does on millivolts "
        "with the published initialisation."
    ),
    config={
        **recipes.TINY_JEPA,
        "patch_size": 25,
        "patch_projection_scale": 10.0,
    },
    preprocessing=TINY_PREPROCESSING,
    stages={
        "pretrain": StageRecipe(lr=5e-4, batch_size=32, max_steps=600, weight_decay=0.05, clip_norm=1.0),
        "finetune": recipes.TINY_FINETUNE,
        "delineation": recipes.TINY_DELINEATION,
    },
)

METHOD = ECGMethod(
    name="ecg_jepa",
    prefix="ECGJEPA",
    title="ECG-JEPA",
    paper=(
        "Kim, Learning General Representation of 12-Lead Electrocardiogram with a Joint-Embedding Predictive "
        "Architecture, 2024, arXiv:2410.08559"
    ),
    idea="predicts hidden times as a teacher sees them",
    summary=(
        "Predicts a slow teacher's tokens of hidden times from the visible ones; attention is limited to a token's "
        "own lead and its own time."
    ),
    licence="Released code: MIT; no separate licence for the weights",
    preprocessing=PREPROCESSING,
    recipes={
        "published": PUBLISHED,
        "published_random": PUBLISHED_RANDOM,
        "published_finetune": PUBLISHED_FINETUNE,
        "tiny": TINY,
    },
    has_official_weights=True,
    labels_tokens=True,
    tiny_config={
        **recipes.SMALLEST_JEPA,
        "num_leads": 8,
        "patch_size": 15,
        "drop_path_rate": 0.1,
    },
    notes=(
        "Two models are called ECG-JEPA; this is Kim's (repository sehunfromdaegu/ECG_JEPA), not that of Weimann and "
        "Conrad. The published crop takes the first 10 s of a record, ours the centre unless crop_start is given."
    ),
)
