"""Registry entry of xECG."""

from dataclasses import replace

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe
from ecg_transformers.signal.leads import STANDARD_LEADS

PREPROCESSING = {
    "sampling_rate": 100,
    "seq_len": 1000,
    "lead_names": list(STANDARD_LEADS),
    "missing_leads": "zero",  # as the authors fill them
    "resample": "fourier",
    "resample_rounding": "round",
    "crop": "start",  # published: the end is cut off
    "crop_before_filter": False,
    "pad": "keep",  # padding would run through the network; millivolts as they are: no filter, no normalisation
    "patch_size": 25,
}

_FINETUNE = StageRecipe(
    lr=1e-4,
    batch_size=64,
    epochs=20,
    warmup_fraction=0.1,
    weight_decay=0.05,
    clip_norm=3.0,
    schedule="linear_warmup_cosine",
)

PUBLISHED = Recipe(
    description=(
        "Sizes of the released base model. The published fine-tuning settings were not read, so those of this recipe "
        "are ours; its pre-training needs a corpus that is not public."
    ),
    stages={"finetune": _FINETUNE, "linear": replace(_FINETUNE, lr=1e-3, weight_decay=1e-3)},
)
TINY = Recipe(
    description="A small model for CPUs: 5 s of band-passed millivolts at 100 Hz, width 64, three blocks.",
    config={
        "sampling_rate": 100,
        "seq_len": 500,
        "hidden_size": 64,
        "block_types": ["s", "m", "s"],
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "inner_size": 128,
    },
    preprocessing={"sampling_rate": 100, "seq_len": 500, **recipes.TINY_BAND},
    stages={"finetune": recipes.TINY_FINETUNE},
)

METHOD = ECGMethod(
    name="xecg",
    prefix="XECG",
    title="xECG",
    paper=(
        "Lunelli et al., BenchECG and xECG: a benchmark and baseline for ECG foundation models, npj Digital Medicine, "
        "2026, 10.1038/s41746-026-03196-y, arXiv:2509.10151"
    ),
    idea="recurrent blocks (xLSTM) over patches of leads",
    summary="Windows over all leads through a stack of xLSTM cells that reads forwards and backwards in turn.",
    licence="Released weights: MIT (by their page); the repository of the code adds that they are for research only",
    preprocessing=PREPROCESSING,
    recipes={"published": PUBLISHED, "tiny": TINY},
    has_official_weights=True,
    tiny_config={
        "num_leads": 12,
        "seq_len": 120,
        "patch_size": 10,
        "sampling_rate": 100,
        "hidden_size": 32,
        "block_types": ["s", "m"],
        "num_attention_heads": 2,
        "intermediate_size": 37,
        "inner_size": 64,
    },
    stages=(),
    notes=(
        "The cells run in single precision here, in plain torch. The published ones run in bfloat16 on a GPU, so that "
        "published embeddings can be met to about 1e-2 only. The authors read records whole (in pre-training at most 12 s); "
        "that a longer one gives its first 10 s is our choice. A record shorter than the crop is cut to whole patches and "
        "not padded, as padding runs through the network and its embedding would depend on it; in training, whose batches "
        'are of one length, it is padded with zeros (pad="zero"). A record whose leads are all exactly zero at the first '
        "sample of a patch loses that patch, as published."
    ),
)
