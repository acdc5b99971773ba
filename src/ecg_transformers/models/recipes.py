"""Settings that several methods have in common: those of the ST-MEM comparison (Na et al., ICLR 2024, arXiv 2402.09450),
and our own of the small models for CPUs."""

from dataclasses import replace
from typing import Any

from ecg_transformers.models.registry import StageRecipe
from ecg_transformers.signal.leads import STANDARD_LEADS

ST_MEM_PAPER = (
    "as a baseline in Na et al., Guiding Masked Representation Learning to Capture Spatio-Temporal Relationship of "
    "Electrocardiogram, ICLR 2024, arXiv:2402.09450"
)
MAEFE_PAPER = (
    "Zhang et al., MaeFE: Masked Autoencoders Family of Electrocardiogram for Self-Supervised Pretraining and "
    f"Transfer Learning, IEEE Transactions on Instrumentation and Measurement 72, 2023; {ST_MEM_PAPER}"
)
NO_WEIGHTS = "Released code: CC BY-NC 4.0, with a later notice that reserves all rights; no weights were released"

PREPROCESSING: dict[str, Any] = {
    "sampling_rate": 250,
    "seq_len": 2250,
    "lead_names": list(STANDARD_LEADS),
    "resample": "fourier",
    "crop": "center",
    "crop_before_filter": True,  # the filters see the crop only, as published
    "highpass": 0.67,
    "lowpass": 40.0,
    "filter_order": 5,
    "normalize": "joint",
    "normalize_eps": 0.0,
}

# the released example settings of all three masked autoencoders
MASKED_PRETRAIN = StageRecipe(
    base_lr=1.5e-4,
    batch_size=16,
    epochs=10,
    warmup_epochs=3,
    weight_decay=0.01,
    betas=(0.9, 0.95),
    decay_one_dimensional=True,
)


def downstream(**config: Any) -> StageRecipe:
    """The released example settings of fine-tuning; `config` are fields of the model's config in this stage."""
    return StageRecipe(
        base_lr=1e-3,
        batch_size=16,
        epochs=10,
        warmup_epochs=3,
        weight_decay=0.05,
        decay_one_dimensional=True,
        augmentation="randaugment",
        config=config,
        num_crops=3,
    )


DOWNSTREAM = {"finetune": downstream(), "scratch": downstream(initializer="torch_default")}

EXAMPLE_SETTINGS = (
    "Sizes and example settings of the released code (its YAML files are for a dummy set; batch size and epochs of "
    "the paper's own runs are in an appendix that was not available to us)."
)

TINY_PREPROCESSING: dict[str, Any] = {
    "sampling_rate": 100,
    "seq_len": 300,
    "crop_before_filter": False,
    "filter_order": 2,
}

TINY_ENCODER: dict[str, Any] = {
    "sampling_rate": 100,
    "seq_len": 300,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 256,
}

TINY_DECODER: dict[str, Any] = {
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 1,
    "decoder_intermediate_size": 128,
}

TINY_PRETRAIN = StageRecipe(
    lr=1e-3,
    batch_size=64,
    max_steps=2000,
    warmup_steps=100,
    weight_decay=0.05,
    betas=(0.9, 0.95),
    clip_norm=1.0,
    schedule="linear_warmup_cosine",
)

TINY_FINETUNE = StageRecipe(
    lr=1e-3,
    batch_size=32,
    max_steps=180,
    max_steps_by_fraction={0.1: 80, 0.05: 80},
    warmup_fraction=0.1,
    weight_decay=0.05,
    clip_norm=1.0,
    schedule="linear_warmup_cosine",
    config={"head_norm": "batch_norm"},
    num_crops=3,
)

# classifiers from labels alone
TINY_SUPERVISED = StageRecipe(
    lr=2e-3,
    batch_size=64,
    max_steps=200,
    max_steps_by_fraction={0.1: 80, 0.05: 60},
    schedule="one_cycle",
    weight_decay=0.01,
    clip_norm=5.0,
    augmentation="circular_shift",
    augmentation_options={"max_shift": 100},
    evaluations=5,
)
TINY_LINEAR = StageRecipe(lr=1e-3, batch_size=64, max_steps=200)

TINY_SCHEDULE: dict[str, Any] = {
    "schedule": "linear_warmup_cosine",
    "warmup_fraction": 0.1,
    "weight_decay": 0.01,
    "clip_norm": 1.0,
}
# networks that come from speech
TINY_SPEECH_FINETUNE = StageRecipe(
    lr=1e-3,
    batch_size=32,
    max_steps=200,
    max_steps_by_fraction={0.1: 80, 0.05: 60},
    config={"head_norm": "batch_norm"},
    num_crops=2,
    **TINY_SCHEDULE,
)

TINY_BAND: dict[str, Any] = {"highpass": 0.5, "lowpass": 40.0, "filter_order": 2}

TINY_JEPA: dict[str, Any] = {
    "sampling_rate": 100,
    "seq_len": 500,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "predictor_hidden_size": 32,
    "predictor_num_hidden_layers": 2,
    "predictor_num_attention_heads": 4,
    "predictor_intermediate_size": 128,
}

# not published: where the waves are, by every sample of every lead
DELINEATION = StageRecipe(
    lr=1e-3,
    batch_size=8,
    max_steps=1500,
    max_steps_by_fraction={0.2: 1000, 0.05: 600},
    warmup_fraction=0.1,
    weight_decay=0.05,
    clip_norm=1.0,
    schedule="linear_warmup_cosine",
    evaluations=6,
)
TINY_DELINEATION = replace(DELINEATION, lr=2e-3, batch_size=4)

# for tests: two layers, a few tokens
SMALLEST_ENCODER: dict[str, Any] = {
    "num_leads": 12,
    "seq_len": 120,
    "sampling_rate": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 37,
}

SMALLEST_DECODER: dict[str, Any] = {
    "attention_head_size": 16,
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 32,
    "decoder_attention_head_size": 8,
    "norm_pix_loss": True,
}

SMALLEST_JEPA: dict[str, Any] = {
    **SMALLEST_ENCODER,
    "num_attention_heads": 4,
    "predictor_hidden_size": 16,
    "predictor_num_hidden_layers": 1,
    "predictor_num_attention_heads": 2,
    "predictor_intermediate_size": 32,
}
