"""Registry entry of wav2vec 2.0 for ECG: ECG-FM, DeepECG-SSL, MELP and D-BETA."""

from typing import Any

from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe
from ecg_transformers.signal.leads import STANDARD_LEADS

# MIMIC-IV-ECG, on which MELP was trained, stores aVF before aVL, and its code did not reorder
MELP_LEADS = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]

# what a published model's config does not spell out
VARIANTS: dict[str, dict[str, Any]] = {
    "ecg_fm": {
        "sampling_rate": 500,
        "seq_len": 2500,
        "lead_names": list(STANDARD_LEADS),
        "class_token": False,
        "pooling": "mean_nonzero",
        "feature_grad_mult": 0.1,
    },
    "deepecg_ssl": {
        "sampling_rate": 250,
        "seq_len": 2500,
        "lead_names": list(STANDARD_LEADS),
        "class_token": False,
        "pooling": "mean_nonzero",
        "feature_grad_mult": 0.1,
    },
    "melp": {
        "sampling_rate": 500,
        "seq_len": 5000,
        "lead_names": MELP_LEADS,
        "class_token": False,
        "pooling": "attention",
        "feature_grad_mult": 0.1,
    },
    "d_beta": {
        "sampling_rate": 500,
        "seq_len": 5000,
        "lead_names": list(STANDARD_LEADS),
        "class_token": True,
        "pooling": "class_tanh",
        "feature_grad_mult": 1.0,
    },
}

# `model_size` in the config of MELP's Hub repository
MELP_SIZES: dict[str, dict[str, int]] = {
    "small": {"num_hidden_layers": 8, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    "base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096},
}

PREPROCESSING: dict[str, Any] = {
    "sampling_rate": 500,
    "seq_len": 2500,
    "lead_names": list(STANDARD_LEADS),
}

METHOD = ECGMethod(
    name="ecg_wav2vec2",
    title="wav2vec 2.0 (ECG)",
    paper="",
    summary="",
    licence="",
    config="ecg_transformers.models.ecg_wav2vec2.configuration_ecg_wav2vec2.ECGWav2Vec2Config",
    classes={
        "base": "ecg_transformers.models.ecg_wav2vec2.modeling_ecg_wav2vec2.ECGWav2Vec2Model",
        "pretraining": "ecg_transformers.models.ecg_wav2vec2.modeling_ecg_wav2vec2_pretraining.ECGWav2Vec2ForPreTraining",
        "classification": "ecg_transformers.models.ecg_wav2vec2.modeling_ecg_wav2vec2.ECGWav2Vec2ForSequenceClassification",
    },
    preprocessing=PREPROCESSING,
    recipes={},
    convert="ecg_transformers.models.ecg_wav2vec2.convert_ecg_wav2vec2.convert_ecg_wav2vec2",
)
