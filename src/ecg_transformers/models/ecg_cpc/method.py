"""Registry entry of CPC."""

from dataclasses import replace

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe, Variant
from ecg_transformers.signal.leads import STANDARD_LEADS

# The published CPC takes the twelve leads in this order, the four derivable limb leads last, and normalises every
# dataset by these statistics of PTB-XL.
LEADS = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "III", "aVR", "aVL", "aVF"]
MEAN = [
    *(-0.00184586, -0.00130277, 0.00017031, -0.00091313, -0.00148835, -0.00174687),
    *(-0.00077071, -0.00207407, 0.00054329, 0.00155546, -0.00114379, -0.00035649),
]
STD = [
    *(0.16401004, 0.1647168, 0.23374124, 0.33767231, 0.33362807, 0.30583013),
    *(0.2731171, 0.27554379, 0.17128962, 0.14030828, 0.14606956, 0.14656108),
]

PREPROCESSING = {
    "sampling_rate": 100,
    "seq_len": 1000,
    "lead_names": LEADS,
    "resample": "fourier",
    "crop": "center",
    "crop_before_filter": False,
    "normalize": "fixed",
    "mean": MEAN,
    "std": STD,
}

PUBLISHED_HEAD = {"classifier_hidden_sizes": [512], "classifier_dropout": 0.5}
# the other readouts do without it: a linear probe writes its solution into a plain linear head
PLAIN = StageRecipe(lr=1e-3, batch_size=128, epochs=50, schedule="constant", weight_decay=1e-3)
LINEAR = replace(PLAIN, config={"classifier_hidden_sizes": None})
ATTENTION = replace(LINEAR, config={**LINEAR.config, "head_pooling": "attention"})
# the published layer groups: head 1, recurrent layers 0.1, encoder 0.01 of the learning rate
LAYER_GROUPS = {"ecg_cpc.layers": 0.1, "ecg_cpc.encoder": 0.01}
FINETUNE = {
    "finetune": replace(LINEAR, lr=1e-4, epochs=20, lr_factors=LAYER_GROUPS, config=PUBLISHED_HEAD),
    "scratch": replace(LINEAR, config=PUBLISHED_HEAD),
    "linear": LINEAR,
    "attention": ATTENTION,
}

PUBLISHED = Recipe(
    description=(
        "The LSTM form at 100 Hz (Mehari and Strodthoff 2022): windows of 1,000 samples in pre-training; its "
        "fine-tuning takes windows of 250 samples (recipe published_windows)."
    ),
    stages={
        "pretrain": replace(PLAIN, lr=1e-4, batch_size=32, epochs=1000),
        **FINETUNE,
    },
)

PUBLISHED_WINDOWS = Recipe(
    description="Fine-tuning of the LSTM form as published: windows of 2.5 s, test windows every 1.25 s, averaged.",
    preprocessing={"seq_len": 250},
    stages={name: replace(stage, num_crops=7) for name, stage in FINETUNE.items()},
)

LSTM_250HZ = Recipe(
    description=(
        "The LSTM form at 250 Hz, with the published horizon kept in milliseconds (kernels and strides of the "
        "published 250 Hz comparison are not known)."
    ),
    config={"sampling_rate": 250, "seq_len": 2500, "horizon_ms": 120},
    preprocessing={"sampling_rate": 250, "seq_len": 2500},
    stages=PUBLISHED.stages,
)

S4 = Recipe(
    description=(
        "The S4 form of the public benchmark of ECG foundation models (arXiv:2509.25095): 240 Hz, 10 s, four causal "
        "layers; its normalisation is not known to us, so the statistics above are kept."
    ),
    config={
        "sampling_rate": 240,
        "seq_len": 2400,
        "conv_kernels": [3, 1, 1, 1],
        "conv_strides": [2, 1, 1, 1],
        "context": "s4",
        "num_hidden_layers": 4,
        "state_size": 8,
        "steps_predicted": 14,
    },
    preprocessing={"sampling_rate": 240, "seq_len": 2400},
    stages={
        "pretrain": replace(PLAIN, batch_size=64, epochs=200),
        "finetune": replace(PLAIN, batch_size=64, lr_factors=LAYER_GROUPS),
        "scratch": replace(PLAIN, batch_size=64),
        "linear": LINEAR,
        "attention": ATTENTION,
    },
)

TINY_SIZES = {
    "sampling_rate": 100,
    "seq_len": 1000,
    "conv_dims": [64, 64, 64],
    "conv_kernels": [5, 3, 1],
    "conv_strides": [2, 2, 1],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "steps_predicted": 3,
    "num_negatives": 64,
    "loss_reduction": "mean",
}

TINY = Recipe(
    description="A small S4 form for CPUs: 100 Hz, 10 s, a step every 40 ms, the published horizon of 120 ms.",
    config={**TINY_SIZES, "context": "s4", "context_dropout": 0.1},
    preprocessing={**recipes.TINY_BAND},
    stages={
        "pretrain": StageRecipe(lr=2e-3, batch_size=32, max_steps=1000, **recipes.TINY_SCHEDULE),
        "finetune": StageRecipe(
            lr=2e-3, batch_size=64, max_steps=200, max_steps_by_fraction={0.1: 80, 0.05: 60}, **recipes.TINY_SCHEDULE
        ),
        "attention": StageRecipe(
            lr=2e-3,
            batch_size=64,
            max_steps=300,
            max_steps_by_fraction={0.1: 150, 0.05: 100},
            config={"head_pooling": "attention"},
            **recipes.TINY_SCHEDULE,
        ),
    },
)

TINY_LSTM = Recipe(
    description="The same sizes with the LSTM context.",
    config={**TINY_SIZES, "context": "lstm"},
    preprocessing=TINY.preprocessing,
    stages=TINY.stages,
)

RELEASED_S4 = Variant(
    title="ECG-CPC and its S4 siblings",
    paper="arXiv:2509.25095, ICLR 2026 (ECG-CPC); arXiv:2605.12241 (CPC, JEPA, Data2Vec, DinoSR, SK-kmeans)",
    licence=(
        "Weights of ECG-CPC: CC BY 4.0 (by their page); those of its siblings: not known, their repository names none"
    ),
    preprocessing={
        "sampling_rate": 240,
        "seq_len": 600,  # 2.5 s, in which all of them were evaluated
        "lead_names": list(STANDARD_LEADS),
        "resample": "resampy",
        "resample_rounding": "ratio_first",
        "chain": ["resample_windows", "pad", "crop", "filters", "normalize", "scale"],
        "crop": "sliding",
        "nan": "zero",  # millivolts as they are: no filter, no normalisation
    },
    notes=(
        "The preprocessing is that of the published evaluation: windows of 2.5 s from the beginning of a record, cut at "
        "the record's own rate and resampled each alone, in millivolts, the outputs of a record's windows averaged; a "
        "window of a rate at which 2.5 s are no whole number of samples takes one sample more here than there. The "
        "pre-training of CPC clipped whole records at 3 mV before they were resampled. The configurations of the "
        "siblings do not switch a normalisation off whose statistics are not public; the authors evaluate them on raw "
        "millivolts, as here. In the code that was published with them the teacher of JEPA, Data2Vec, DinoSR and "
        "SK-kmeans stays at its random start; whether the released weights were made by it is not known."
    ),
)

METHOD = ECGMethod(
    name="ecg_cpc",
    prefix="ECGCPC",
    title="CPC",
    paper=(
        "Mehari, Strodthoff, Self-supervised representation learning from 12-lead ECG data, Computers in Biology and "
        "Medicine 141, 2022, arXiv:2103.12676; S4 form: arXiv:2509.25095"
    ),
    idea="picks the true future among many",
    summary="Predicts the encoding a fixed time ahead and must pick the true one out of many from the same record.",
    licence="Released code of the LSTM form: GPL-3.0; released weights of the S4 form: CC BY 4.0 (by their page)",
    preprocessing=PREPROCESSING,
    recipes={
        "published": PUBLISHED,
        "published_windows": PUBLISHED_WINDOWS,
        "lstm_250hz": LSTM_250HZ,
        "s4": S4,
        "tiny": TINY,
        "tiny_lstm": TINY_LSTM,
    },
    variants={"s4": RELEASED_S4},
    has_official_weights=True,
    tiny_config={
        "num_leads": 12,
        "seq_len": 120,
        "sampling_rate": 100,
        "conv_dims": [16, 32],
        "conv_kernels": [3, 1],
        "conv_strides": [2, 1],
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "steps_predicted": 4,
        "num_negatives": 8,
    },
    notes=(
        "The published code resamples by spline interpolation, this package by the Fourier method. The projection "
        "starts smaller than in the published code, so that the loss starts at the logarithm of the number of "
        "candidates. Judge a frozen encoder by the attention probe: mean pooling hides what its steps hold."
    ),
)
