"""Registry entry of MoCo v3 on ECG."""

from dataclasses import replace

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe

PUBLISHED = Recipe(
    description=(
        "Objective, heads and optimiser of the published ViT recipe on images (batch 4096, 300 epochs), with the "
        "encoder, crops and augmentations of the ECG comparison, whose own hyper-parameters are not known."
    ),
    stages={
        "pretrain": StageRecipe(
            base_lr=1.5e-4,
            batch_size=4096,
            epochs=300,
            warmup_epochs=40,
            weight_decay=0.1,
            augmentation="randaugment",
        ),
        **recipes.DOWNSTREAM,
    },
)

TINY = Recipe(
    description="A small model for CPUs: pairs of 3 s crops at 100 Hz, width 64, 1,500 updates.",
    config={
        **recipes.TINY_ENCODER,
        "patch_size": 30,
        "projector_hidden_size": 256,
        "projection_size": 64,
    },
    preprocessing={**recipes.TINY_PREPROCESSING, "patch_size": 30},
    stages={
        "pretrain": replace(
            recipes.TINY_PRETRAIN,
            batch_size=128,
            max_steps=1500,
            weight_decay=0.1,
            betas=(0.9, 0.999),
            augmentation="randaugment",
        ),
        "finetune": recipes.TINY_FINETUNE,
    },
)

METHOD = ECGMethod(
    name="ecg_moco_v3",
    prefix="ECGMoCoV3",
    title="MoCo v3 (ECG)",
    paper=(
        "Chen, Xie and He, An Empirical Study of Training Self-Supervised Vision Transformers, ICCV 2021, "
        f"arXiv:2104.02057; {recipes.ST_MEM_PAPER}"
    ),
    idea="two views of a record agree",
    summary="Two augmented crops of a record agree against all other records, with a momentum encoder for the keys.",
    licence="Released code of MoCo v3: CC BY-NC 4.0; no ECG weights were released",
    preprocessing={**recipes.PREPROCESSING, "patch_size": 75},
    recipes={"published": PUBLISHED, "tiny": TINY},
    view="two_crops",
    tiny_config={
        **recipes.SMALLEST_ENCODER,
        "patch_size": 15,
        "projector_hidden_size": 24,
        "projection_size": 16,
    },
    notes="How the ECG comparison set this method up was not published: encoder, views and objective follow its text.",
)
