"""Registry entry of ST-MEM."""

from dataclasses import replace

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe

PREPROCESSING = {**recipes.PREPROCESSING, "patch_size": 75}

PUBLISHED = Recipe(
    description=recipes.EXAMPLE_SETTINGS,
    config={"norm_pix_loss": True},
    stages={"pretrain": recipes.MASKED_PRETRAIN, **recipes.DOWNSTREAM, "delineation": recipes.DELINEATION},
)

TINY_PREPROCESSING = {**recipes.TINY_PREPROCESSING, "patch_size": 30}
TINY_FINETUNE = replace(recipes.TINY_FINETUNE, config={"head_norm": "batch_norm", "norm_pix_loss": True})

TINY = Recipe(
    description="A small model for CPUs: 3 s crops at 100 Hz, width 64, 2,000 updates.",
    config={**recipes.TINY_ENCODER, **recipes.TINY_DECODER, "patch_size": 30, "norm_pix_loss": True},
    preprocessing=TINY_PREPROCESSING,
    stages={
        "pretrain": replace(recipes.TINY_PRETRAIN, batch_size=32),
        "finetune": TINY_FINETUNE,
        "delineation": recipes.TINY_DELINEATION,
    },
)

TINY_WIDE = Recipe(
    description="The small model at width 96 with 3,000 updates of 64 crops, which takes the loss off its plateau.",
    config={
        **TINY.config,
        "hidden_size": 96,
        "intermediate_size": 384,
        "decoder_hidden_size": 48,
        "decoder_intermediate_size": 192,
    },
    preprocessing=TINY_PREPROCESSING,
    stages={
        "pretrain": replace(recipes.TINY_PRETRAIN, lr=1.5e-3, max_steps=3000, warmup_steps=200),
        "finetune": TINY_FINETUNE,
        "delineation": recipes.TINY_DELINEATION,
    },
)

METHOD = ECGMethod(
    name="st_mem",
    prefix="STMEM",
    title="ST-MEM",
    paper=(
        "Na et al., Guiding Masked Representation Learning to Capture Spatio-Temporal Relationship of "
        "Electrocardiogram, ICLR 2024, arXiv:2402.09450"
    ),
    idea="rebuilds masked patches of every lead",
    summary="Masks patches in space (leads) and time and reconstructs them with a decoder that all leads share.",
    licence="Released code and weights: CC BY-NC 4.0, with a later notice that reserves all rights",
    preprocessing=PREPROCESSING,
    recipes={"published": PUBLISHED, "tiny": TINY, "tiny_wide": TINY_WIDE},
    has_official_weights=True,
    labels_tokens=True,
    tiny_config={**recipes.SMALLEST_ENCODER, **recipes.SMALLEST_DECODER, "patch_size": 15},
)
