"""Registry entry of wav2vec 2.0 for ECG: ECG-FM, DeepECG-SSL, MELP and D-BETA."""

from dataclasses import replace

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe, Variant
from ecg_transformers.signal.leads import STANDARD_LEADS

# MIMIC-IV-ECG, on which MELP was trained, stores aVF before aVL, and its code did not reorder
MIMIC_LEADS = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]

# `model_size` in the config of MELP's Hub repository
MELP_SIZES: dict[str, dict[str, int]] = {
    "small": {"num_hidden_layers": 8, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    "base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096},
}

MISSING = (
    'The network needs all twelve leads; with missing_leads="drop" the model puts zeros in the place of absent ones, '
    "after normalisation."
)

ECG_FM = Variant(
    title="ECG-FM",
    paper="McKeen et al., ECG-FM: An Open Electrocardiogram Foundation Model, arXiv:2408.05178",
    licence="MIT (released code and weights)",
    notes=(
        "Input: linear resampling to 500 Hz with both ends kept, every lead standardised over the whole record, then all "
        "whole segments of 5 s; the authors give an embedding for each segment, and one for a record is their mean here. "
        f"A record shorter than 5 s is refused. {MISSING} The authors' offline code has no 1e-8 in the divisor; it gives "
        "the same to 1.4e-6."
    ),
    preprocessing={
        "sampling_rate": 500,
        "seq_len": 2500,
        "lead_names": list(STANDARD_LEADS),
        "resample": "linear",
        "normalize": "per_lead",
        "normalize_eps": 1e-8,
        "crop": "sliding",
        "chain": ["resample", "normalize", "pad", "crop"],
    },
    config={
        "sampling_rate": 500,
        "seq_len": 2500,
        "lead_names": list(STANDARD_LEADS),
        "class_token": False,
        "pooling": "mean_nonzero",
        "feature_grad_mult": 0.1,
    },
)

DEEPECG_SSL = Variant(
    title="DeepECG-SSL",
    paper="DeepECG-SSL, European Heart Journal 2026, ehaf1119; medRxiv 2025.03.02.25322575",
    licence=(
        "Released code: MIT; released weights: gated, licence not known to us (the CLSA model's page says CC BY-NC 4.0)"
    ),
    notes=(
        "Input: millivolts at 250 Hz as they are, the first 10 s; a rate that is a multiple of 250 Hz keeps every k-th "
        "sample without a filter, as published, another is resampled by the Fourier method (our choice). Shorter records "
        "are refused. The authors' container also scales each batch to a common spectrum and flattens peaks above 20 Hz; "
        f"both depend on the other records of the batch and are left out. {MISSING}"
    ),
    preprocessing={
        "sampling_rate": 250,
        "seq_len": 2500,
        "lead_names": list(STANDARD_LEADS),
        "crop": "start",
        "chain": [{"step": "keep_every", "sampling_rate": 250.0}, "resample", "pad", "crop"],
    },
    config={
        **ECG_FM.config,
        "sampling_rate": 250,
    },
)

MELP = Variant(
    title="MELP",
    paper="Wang et al., From Token to Rhythm: A Multi-Scale Approach for ECG-Language Pretraining, ICML 2025, arXiv:2506.21803",
    licence="Apache-2.0 (released weights), MIT (released code)",
    notes=(
        "The ECG side alone. Input: 500 Hz, the first 10 s, least and greatest value of all leads together mapped to 0 "
        "and 1, aVF before aVL as in its pre-training data. Shorter records are padded with zeros before that, as its "
        "CPSC2018 code does; other rates are resampled by the Fourier method (our choice). The embedding is the rhythm "
        "level's, not normalised; zero-shot use takes it L2-normalised. Classification heads sit on the queries' mean "
        f"before the projection, as the authors' linear probe does. {MISSING}"
    ),
    preprocessing={
        "sampling_rate": 500,
        "seq_len": 5000,
        "lead_names": MIMIC_LEADS,
        "crop": "start",
        "pad": "zero",
        "chain": ["resample", "pad", "crop", {"step": "min_max", "scope": "joint"}],
    },
    config={**ECG_FM.config, "seq_len": 5000, "lead_names": MIMIC_LEADS, "pooling": "attention"},
    sizes=MELP_SIZES["small"],
)

D_BETA = Variant(
    title="D-BETA",
    paper="Pham et al., Boosting Masked ECG-Text Auto-Encoders as Discriminative Learners, ICML 2025, arXiv:2410.02131",
    licence="CC BY-NC 4.0 (released code); licence of the weights file not known to us",
    notes=(
        "The ECG side alone. Input: Fourier resampling to 500 Hz, the first 10 s, millivolts as they are. The lead order "
        "of its pre-training was not published; its data probably had aVF before aVL (lead_names= and lead_table= in that "
        "order feed it so). The authors' loader never switches to evaluation and goes on with random weights when "
        f"loading fails; this package does neither. {MISSING}"
    ),
    preprocessing={
        "sampling_rate": 500,
        "seq_len": 5000,
        "lead_names": list(STANDARD_LEADS),
        "crop": "start",
    },
    config={
        **ECG_FM.config,
        "seq_len": 5000,
        "class_token": True,
        "pooling": "class_tanh",
        "feature_grad_mult": 1.0,
    },
    sizes={"num_hidden_layers": 8},
)

PRETRAINING_DROPOUTS = {
    "feat_proj_dropout": 0.1,
    "feature_dropout": 0.1,
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
}
# fine-tuning has one dropout, and keeps the convolution stack as it is
TUNING_DROPOUTS = {**dict.fromkeys(PRETRAINING_DROPOUTS, 0.0), "activation_dropout": 0.1}
FINETUNING = {**TUNING_DROPOUTS, "feature_grad_mult": 0.0}


def downstream(num_crops: int | None) -> dict[str, StageRecipe]:
    """Fine-tuning as ECG-FM's release had it (1e-6), from scratch as in its generic recipe, and a linear probe."""
    linear = StageRecipe(lr=1e-5, batch_size=256, epochs=140, schedule="constant", num_crops=num_crops)
    finetune = replace(linear, lr=1e-6, decay_one_dimensional=True, config=FINETUNING)
    scratch = replace(finetune, lr=5e-5, config={**TUNING_DROPOUTS, "feature_grad_mult": 1.0})
    return {"finetune": finetune, "scratch": scratch, "linear": linear}


PUBLISHED = Recipe(
    description=(
        "ECG-FM: pairs of adjacent segments of 5 s, Adam at 5e-5 with 512 pairs a step (64 on each of 4 devices, two "
        "passes), 200 epochs; fine-tuning at 1e-6 with frozen convolutions, without the positive weights of its label "
        "table. Its Adam does not correct eps for the first steps, torch's does."
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
            decay_one_dimensional=True,
            config=PRETRAINING_DROPOUTS,
        ),
        **downstream(num_crops=2),
    },
)


# what a recipe of another variant takes back of the method's own preset
UNSET = {"resample": "fourier", "normalize": None, "normalize_eps": 0.0, "chain": None}


def recipe_of(variant: Variant, name: str, batch_size: int | None = None) -> Recipe:
    """Fine-tuning of another published model with ECG-FM's settings, its own not being known."""
    pretrain = {} if batch_size is None else {"pretrain": replace(PUBLISHED.stages["pretrain"], batch_size=batch_size)}
    return Recipe(
        description=(
            f"{variant.title} as published, fine-tuned with ECG-FM's settings (its own are not known to us)"
            + (f"; pre-trained with {batch_size} pairs a step and up to 1,000 epochs." if batch_size else ".")
        ),
        config={"variant": name, **variant.config},
        preprocessing={**UNSET, **variant.preprocessing},
        stages={**pretrain, **downstream(num_crops=None)},
    )


TINY = Recipe(
    description="A small model for CPUs: ECG-FM's chain and tokens at 250 Hz, width 64, 1,000 updates.",
    config={
        "sampling_rate": 250,
        "seq_len": 1250,
        "conv_dim": [32, 32, 32, 32],
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "num_conv_pos_embeddings": 32,
        "num_codevectors_per_group": 64,
        "proj_codevector_dim": 64,
        "num_negatives": 20,
        "mask_length": 5,
    },
    preprocessing={"sampling_rate": 250, "seq_len": 1250},
    stages={
        "pretrain": StageRecipe(
            lr=1e-3, batch_size=32, max_steps=1000, config=PRETRAINING_DROPOUTS, **recipes.TINY_SCHEDULE
        ),
        "finetune": recipes.TINY_SPEECH_FINETUNE,
    },
)

_FOLDER = "ecg_transformers.models.ecg_wav2vec2"

METHOD = ECGMethod(
    name="ecg_wav2vec2",
    prefix="ECGWav2Vec2",
    title="wav2vec 2.0 for ECG",
    paper=(
        f"{ECG_FM.paper}; its pre-training: Oh et al., Lead-agnostic Self-supervised Learning for Local and Global "
        "Representations of Electrocardiogram, CHIL 2022, arXiv:2203.06889"
    ),
    idea="tells masked pieces from others, as in speech",
    summary=(
        "wav2vec 2.0 on twelve leads, the one network behind ECG-FM, DeepECG-SSL, MELP and D-BETA, with the pre-training "
        "of the first two."
    ),
    licence=ECG_FM.licence,
    classes={
        "base": f"{_FOLDER}.modeling_ecg_wav2vec2.ECGWav2Vec2Model",
        "pretraining": f"{_FOLDER}.modeling_ecg_wav2vec2_pretraining.ECGWav2Vec2ForPreTraining",
        "classification": f"{_FOLDER}.modeling_ecg_wav2vec2.ECGWav2Vec2ForSequenceClassification",
    },
    preprocessing=ECG_FM.preprocessing,
    variants={"ecg_fm": ECG_FM, "deepecg_ssl": DEEPECG_SSL, "melp": MELP, "d_beta": D_BETA},
    recipes={
        "published": PUBLISHED,
        "deepecg_ssl": recipe_of(DEEPECG_SSL, "deepecg_ssl", batch_size=342 * 3 * 2),
        "melp": recipe_of(MELP, "melp"),
        "d_beta": recipe_of(D_BETA, "d_beta"),
        "tiny": TINY,
    },
    view="adjacent_segments",
    file_overrides=f"{_FOLDER}.convert_ecg_wav2vec2.settings_in_file",
    model_types={"melp": f"{_FOLDER}.configuration_ecg_wav2vec2.MELPConfig"},
    has_official_weights=True,
    tiny_config={
        "num_leads": 12,
        "seq_len": 320,
        "sampling_rate": 100,
        "conv_dim": [16, 16, 16, 16],
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 37,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 4,
        "num_codevectors_per_group": 6,
        "proj_codevector_dim": 16,
        "num_negatives": 5,
        "mask_length": 4,
    },
    notes=ECG_FM.notes,
)
