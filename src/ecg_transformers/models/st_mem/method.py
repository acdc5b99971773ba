"""Registry entry of ST-MEM."""

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe

PREPROCESSING = {**recipes.PREPROCESSING, "patch_size": 75}

PUBLISHED = Recipe(
    description=(
        "Sizes and example settings of the released code (its YAML files are for a dummy set; batch size and epochs of "
        "the paper's own runs are in an appendix that was not available to us)."
    ),
    config={"norm_pix_loss": True},
    stages={
        "pretrain": StageRecipe(
            base_lr=1.5e-4,
            batch_size=16,
            epochs=10,
            warmup_epochs=3,
            weight_decay=0.01,
            betas=(0.9, 0.95),
            decay_one_dimensional=True,
        ),
        "finetune": StageRecipe(
            base_lr=1e-3,
            batch_size=16,
            epochs=10,
            warmup_epochs=3,
            weight_decay=0.05,
            decay_one_dimensional=True,
            augmentation="randaugment",
            num_crops=3,
        ),
        "scratch": StageRecipe(
            base_lr=1e-3,
            batch_size=16,
            epochs=10,
            warmup_epochs=3,
            weight_decay=0.05,
            decay_one_dimensional=True,
            augmentation="randaugment",
            config={"initializer": "torch_default"},
            num_crops=3,
        ),
    },
)

TINY_PREPROCESSING = {
    "sampling_rate": 100,
    "seq_len": 300,
    "crop_before_filter": False,
    "filter_order": 2,
    "patch_size": 30,
}
TINY_HEAD = {"head_norm": "batch_norm", "norm_pix_loss": True}
TINY_FINETUNE = StageRecipe(
    lr=1e-3,
    batch_size=32,
    max_steps=180,
    max_steps_by_fraction={0.1: 80, 0.05: 80},
    warmup_fraction=0.1,
    weight_decay=0.05,
    clip_norm=1.0,
    schedule="linear_warmup_cosine",
    config=TINY_HEAD,
    num_crops=3,
)

TINY = Recipe(
    description="A small model for CPUs: 3 s crops at 100 Hz, width 64, 2,000 updates.",
    config={
        "sampling_rate": 100,
        "seq_len": 300,
        "patch_size": 30,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 256,
        "decoder_hidden_size": 32,
        "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 1,
        "decoder_intermediate_size": 128,
        "norm_pix_loss": True,
    },
    preprocessing=TINY_PREPROCESSING,
    stages={
        "pretrain": StageRecipe(
            lr=1e-3,
            batch_size=32,
            max_steps=2000,
            warmup_steps=100,
            weight_decay=0.05,
            betas=(0.9, 0.95),
            clip_norm=1.0,
            schedule="linear_warmup_cosine",
        ),
        "finetune": TINY_FINETUNE,
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
        "pretrain": StageRecipe(
            lr=1.5e-3,
            batch_size=64,
            max_steps=3000,
            warmup_steps=200,
            weight_decay=0.05,
            betas=(0.9, 0.95),
            clip_norm=1.0,
            schedule="linear_warmup_cosine",
        ),
        "finetune": TINY_FINETUNE,
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
    summary="Masks patches in space (leads) and time and reconstructs them with a decoder that all leads share.",
    licence="Released code and weights: CC BY-NC 4.0, with a later notice that reserves all rights",
    preprocessing=PREPROCESSING,
    recipes={"published": PUBLISHED, "tiny": TINY, "tiny_wide": TINY_WIDE},
    has_official_weights=True,
    tiny_config={
        "num_leads": 12,
        "seq_len": 120,
        "patch_size": 15,
        "sampling_rate": 100,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 37,
        "attention_head_size": 16,
        "decoder_hidden_size": 16,
        "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 32,
        "decoder_attention_head_size": 8,
        "norm_pix_loss": True,
    },
)
