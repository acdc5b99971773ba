"""Registry entry of MTAE."""

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe

PUBLISHED = Recipe(
    description=recipes.EXAMPLE_SETTINGS,
    config={"norm_pix_loss": True},
    stages={"pretrain": recipes.MASKED_PRETRAIN, **recipes.DOWNSTREAM},
)

PUBLISHED_RLM = Recipe(
    description=(
        "MTAE+RLM: the published settings with random lead masking as the released code has it (probability 0.3, "
        "remaining leads re-standardised, masked signal as target). Which settings the paper used is not known."
    ),
    config={**PUBLISHED.config, "random_lead_masking": True},
    stages=PUBLISHED.stages,
)

TINY = Recipe(
    description="A small model for CPUs: 3 s crops at 100 Hz, width 64, 2,000 updates.",
    config={**recipes.TINY_ENCODER, **recipes.TINY_DECODER, "patch_size": 30, "norm_pix_loss": True},
    preprocessing={**recipes.TINY_PREPROCESSING, "patch_size": 30},
    stages={"pretrain": recipes.TINY_PRETRAIN, "finetune": recipes.TINY_FINETUNE},
)

TINY_RLM = Recipe(
    description="The small model with random lead masking.",
    config={**TINY.config, "random_lead_masking": True},
    preprocessing=TINY.preprocessing,
    stages=TINY.stages,
)

METHOD = ECGMethod(
    name="mtae",
    prefix="MTAE",
    title="MTAE",
    paper=recipes.MAEFE_PAPER,
    idea="rebuilds masked times of all leads",
    summary="Masks windows of time over all leads and reconstructs them; with random lead masking as an option.",
    licence=recipes.NO_WEIGHTS,
    preprocessing={**recipes.PREPROCESSING, "patch_size": 75},
    recipes={"published": PUBLISHED, "published_rlm": PUBLISHED_RLM, "tiny": TINY, "tiny_rlm": TINY_RLM},
    tiny_config={**recipes.SMALLEST_ENCODER, **recipes.SMALLEST_DECODER, "patch_size": 15},
    notes=(
        "Leads that a record lacks are zeros, because a token holds all leads. Random lead masking in the released "
        'code changes the target too (`rlm_target="masked"`); `rlm_target="clean"` reconstructs the full signal.'
    ),
)
