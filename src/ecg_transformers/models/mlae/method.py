"""Registry entry of MLAE."""

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe

PUBLISHED = Recipe(
    description=recipes.EXAMPLE_SETTINGS,
    config={"norm_pix_loss": True},
    stages={"pretrain": recipes.MASKED_PRETRAIN, **recipes.DOWNSTREAM},
)

TINY = Recipe(
    description="A small model for CPUs: 3 s crops at 100 Hz, width 64, 2,000 updates.",
    config={**recipes.TINY_ENCODER, **recipes.TINY_DECODER, "norm_pix_loss": True},
    preprocessing=recipes.TINY_PREPROCESSING,
    stages={"pretrain": recipes.TINY_PRETRAIN, "finetune": recipes.TINY_FINETUNE},
)

METHOD = ECGMethod(
    name="mlae",
    prefix="MLAE",
    title="MLAE",
    paper=recipes.MAEFE_PAPER,
    idea="rebuilds whole leads from the others",
    summary="Masks whole leads and reconstructs them from the visible ones.",
    licence=recipes.NO_WEIGHTS,
    preprocessing=recipes.PREPROCESSING,
    recipes={"published": PUBLISHED, "tiny": TINY},
    tiny_config={**recipes.SMALLEST_ENCODER, **recipes.SMALLEST_DECODER},
    notes=(
        "The input length is fixed: a token is a whole lead. Fewer leads are served by their rows of the position "
        "table."
    ),
)
