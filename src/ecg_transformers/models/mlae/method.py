"""Registry entry of MLAE."""

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe

PUBLISHED = Recipe(
    description=recipes.EXAMPLE_SETTINGS,
    config={"norm_pix_loss": True},
    stages={
        "pretrain": recipes.MASKED_PRETRAIN,
        "finetune": recipes.downstream(),
        "scratch": recipes.downstream(initializer="torch_default"),
    },
)

TINY = Recipe(
    description="A small model for CPUs: 3 s crops at 100 Hz, width 64, 2,000 updates.",
    config={**recipes.TINY_ENCODER, **recipes.TINY_DECODER, "norm_pix_loss": True},
    preprocessing=recipes.TINY_PREPROCESSING,
    stages={"pretrain": recipes.TINY_PRETRAIN, "finetune": recipes.TINY_FINETUNE},
)

_FOLDER = "ecg_transformers.models.mlae"

METHOD = ECGMethod(
    name="mlae",
    title="MLAE",
    paper=(
        "Zhang et al., MaeFE: Masked Autoencoders Family of Electrocardiogram for Self-Supervised Pretraining and "
        f"Transfer Learning, IEEE Transactions on Instrumentation and Measurement 72, 2023; {recipes.ST_MEM_PAPER}"
    ),
    summary="Masks whole leads and reconstructs them from the visible ones.",
    licence="Released code: CC BY-NC 4.0, with a later notice that reserves all rights; no weights were released",
    config=f"{_FOLDER}.configuration_mlae.MLAEConfig",
    classes={
        "base": f"{_FOLDER}.modeling_mlae.MLAEModel",
        "pretraining": f"{_FOLDER}.modeling_mlae.MLAEForPreTraining",
        "classification": f"{_FOLDER}.modeling_mlae.MLAEForSequenceClassification",
    },
    preprocessing=recipes.PREPROCESSING,
    recipes={"published": PUBLISHED, "tiny": TINY},
    convert=f"{_FOLDER}.convert_mlae.convert_mlae",
    tiny_config={**recipes.SMALLEST_ENCODER, **recipes.SMALLEST_DECODER},
    notes=(
        "The input length is fixed: a token is a whole lead. Fewer leads are served by their rows of the position "
        "table."
    ),
)
