"""Registry entry of HuBERT-ECG."""

from typing import Any

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe
from ecg_transformers.signal.leads import STANDARD_LEADS

PREPROCESSING: dict[str, Any] = {
    "sampling_rate": 100,
    "seq_len": 500,
    "lead_names": list(STANDARD_LEADS),
    "crop_sampling_rate": 500,
    "resample": "fourier",
    "resample_rounding": "ratio_first",
    "crop": "start",
    "chain": [
        {"step": "fir_band_pass", "low": 0.05, "high": 47.0, "taps_s": 0.3},
        "resample",
        {"step": "min_max", "scope": "per_lead", "low": -1.0, "high": 1.0},
        "pad",
        "crop",
        {"step": "decimate_flattened", "factor": 5},
    ],
}

# layer drop leaves parameters without a gradient, which training on several processes does not allow
DOWNSTREAM = {
    "freeze_feature_encoder": True,
    "feat_proj_dropout": 0.1,
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
    "layerdrop": 0.0,
    "head_dropout": 0.1,
}
FINETUNE: dict[str, Any] = {
    "lr": 1e-5,
    "batch_size": 64,
    "epochs": 50,
    "schedule": "linear",
    "warmup_fraction": 0.08,
    "weight_decay": 0.01,
    "betas": (0.9, 0.98),
    "eps": 1e-9,
    "num_crops": 2,
}

PUBLISHED = Recipe(
    description=(
        "The authors' fine-tuning (AdamW at 1e-5, linear warm-up over 8 % and linear decay, every dropout 0.1, frozen "
        "convolutions), all layers tuned, without layer drop and positive weights; batch size and epochs are our choice. "
        "Of a record of 10 s the two halves are averaged, where the authors draw random crops."
    ),
    stages={
        "finetune": StageRecipe(**FINETUNE, config=DOWNSTREAM),
        "scratch": StageRecipe(**{**FINETUNE, "lr": 1e-4}, config={**DOWNSTREAM, "freeze_feature_encoder": False}),
        "linear": StageRecipe(**{**FINETUNE, "lr": 1e-3}),
    },
)

SMALL = Recipe(
    description="The small size, fine-tuned as the base model.",
    config={"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "intermediate_size": 2048},
    stages=PUBLISHED.stages,
)

LARGE = Recipe(
    description="The large size (12 heads of 80), fine-tuned as the base model.",
    config={
        "hidden_size": 960,
        "num_hidden_layers": 16,
        "num_attention_heads": 12,
        "intermediate_size": 3840,
        "classifier_proj_size": 512,
        "layerdrop": 0.0,
    },
    stages=PUBLISHED.stages,
)

TINY = Recipe(
    description="A small model for CPUs, from scratch: width 64, four layers, narrow convolutions.",
    config={
        "conv_dim": [32, 32, 32, 32, 32],
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "num_conv_pos_embeddings": 32,
        "layerdrop": 0.0,
    },
    stages={
        "finetune": recipes.TINY_SPEECH_FINETUNE,
    },
)

_FOLDER = "ecg_transformers.models.hubert_ecg"

METHOD = ECGMethod(
    name="hubert_ecg",
    prefix="HubertECG",
    title="HuBERT-ECG",
    paper=(
        "Coppola et al., HuBERT-ECG as a self-supervised foundation model for broad and scalable cardiac applications, "
        "medRxiv 2024, doi:10.1101/2024.11.14.24317328"
    ),
    idea="predicts the clusters of masked pieces",
    summary="A HuBERT encoder over twelve leads joined to one series; its classifiers know 164 labels.",
    licence="CC BY-NC 4.0 (released weights and code)",
    preprocessing=PREPROCESSING,
    recipes={"published": PUBLISHED, "small": SMALL, "large": LARGE, "tiny": TINY},
    stages=(),
    model_types={"hubert_ecg_classification": f"{_FOLDER}.configuration_hubert_ecg.HubertECGClassificationConfig"},
    has_official_weights=True,
    tiny_config={
        "num_leads": 12,
        "seq_len": 60,
        "sampling_rate": 100,
        "conv_dim": [16, 16, 16, 16, 16],
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 37,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 4,
        "layerdrop": 0.0,
    },
    notes=(
        "Input, as the authors' code makes it: an FIR band-pass of 0.3 s (0.05-47 Hz, which leaves the baseline nearly as "
        "it is), Fourier resampling to 500 Hz, each lead of the whole record mapped to -1 … 1, the first 5 s, then all "
        "leads joined and decimated by five to 100 Hz, so that leads mix at their seams. A longer record gives other "
        "inputs for the same 5 s, because its extremes count. The authors replace NaN by the mean of a crop; here they "
        'are an error unless nan= says otherwise. A shorter record can be padded (pad="zero"); the published attention '
        "mask would leave the wrong tokens and is not offered. Pre-training needs the authors' clusters and is not part "
        "of this package."
    ),
)
