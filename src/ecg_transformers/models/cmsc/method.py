"""Registry entry of CMSC."""

from dataclasses import replace

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe

PUBLISHED = Recipe(
    description=(
        "The CLOCS loss with the optimiser of its later public implementation (Adam, 5e-5, batch 64 on each of 8 "
        "devices, 200 epochs) on the encoder of the ECG comparison, whose own hyper-parameters are not known; it is said "
        "to have augmented the contrastive baselines with its eight transformations."
    ),
    stages={
        "pretrain": StageRecipe(
            lr=5e-5,
            batch_size=512,
            epochs=200,
            schedule="constant",
            weight_decay=0.01,
            betas=(0.9, 0.98),
            eps=1e-6,
            augmentation="randaugment",
        ),
        **recipes.DOWNSTREAM,
    },
)

TINY = Recipe(
    description="A small model for CPUs: adjacent 3 s segments at 100 Hz, width 64, 2,000 updates.",
    config={**recipes.TINY_ENCODER, "patch_size": 30, "projection_size": 64},
    preprocessing={**recipes.TINY_PREPROCESSING, "patch_size": 30},
    stages={"pretrain": replace(recipes.TINY_PRETRAIN, betas=(0.9, 0.98)), "finetune": recipes.TINY_FINETUNE},
)

METHOD = ECGMethod(
    name="cmsc",
    prefix="CMSC",
    title="CMSC",
    paper=(
        "Kiyasseh, Zhu and Clifton, CLOCS: Contrastive Learning of Cardiac Signals Across Space, Time, and Patients, "
        f"ICML 2021, arXiv:2005.13249; {recipes.ST_MEM_PAPER}"
    ),
    idea="neighbouring segments of a patient agree",
    summary="Adjacent segments of a record, and records of one patient, agree against those of other patients.",
    licence="Released code of CLOCS: CC BY-NC-SA 4.0; no weights were released",
    # two segments of 4.5 s fit into a record of 10 s
    preprocessing={**recipes.PREPROCESSING, "seq_len": 1125, "patch_size": 75},
    recipes={"published": PUBLISHED, "tiny": TINY},
    view="adjacent_segments",
    tiny_config={**recipes.SMALLEST_ENCODER, "patch_size": 15, "projection_size": 16},
    notes="Segment length and head of the ECG comparison were not published; segments of 4.5 s are our choice.",
)
