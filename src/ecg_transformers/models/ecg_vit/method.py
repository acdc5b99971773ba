"""Registry entry of the plain ECG ViT."""

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe

PUBLISHED = Recipe(
    description=f"The supervised baseline of the comparison. {recipes.EXAMPLE_SETTINGS}",
    stages={"scratch": recipes.downstream(), "finetune": recipes.downstream()},
)

TINY = Recipe(
    description=(
        "A small ViT (about 222,000 parameters) on whole band-passed records of 10 s at 100 Hz, one token per 0.25 s, "
        "amplitudes kept."
    ),
    config={
        "sampling_rate": 100,
        "seq_len": 1000,
        "patch_size": 25,
        "patch_norm": False,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "attention_head_size": 16,
        "intermediate_size": 256,
        "hidden_dropout_prob": 0.1,
        "initializer": "mae",
        "feature_pooling": "mean",
    },
    preprocessing={
        "sampling_rate": 100,
        "seq_len": 1000,
        "patch_size": 25,
        "crop_before_filter": False,
        "highpass": 0.5,
        "filter_order": 2,
        "normalize": None,
        "scale": 4.0,  # divides by 0.25 mV
    },
    stages={
        "finetune": recipes.TINY_SUPERVISED,
    },
)

METHOD = ECGMethod(
    name="ecg_vit",
    prefix="ECGViT",
    title="ECG ViT",
    paper=f"Dosovitskiy et al., An Image Is Worth 16x16 Words, ICLR 2021, arXiv:2010.11929; {recipes.ST_MEM_PAPER}",
    idea="a plain transformer, from labels alone",
    summary="A plain transformer on windows of time over all leads, trained with labels from scratch.",
    licence=recipes.NO_WEIGHTS,
    preprocessing={**recipes.PREPROCESSING, "patch_size": 75},
    recipes={"published": PUBLISHED, "tiny": TINY},
    tiny_config={**recipes.SMALLEST_ENCODER, "attention_head_size": 16, "patch_size": 15},
    stages=(),
)
