"""Registry entry of the ResNet baseline."""

from dataclasses import replace

from ecg_transformers.models import recipes
from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe, Variant
from ecg_transformers.signal.leads import STANDARD_LEADS

PREPROCESSING = {
    "sampling_rate": 100,
    "seq_len": 250,
    "lead_names": list(STANDARD_LEADS),
    "resample": "fourier",
    "crop": "center",
    "crop_before_filter": False,
    # one mean and deviation for all leads, as in the PTB-XL benchmark; pooled from published statistics of PTB-XL
    "normalize": "fixed",
    "mean": [-0.00078],
    "std": [0.23627],
}

# KED saw MIMIC-IV-ECG in its file order, aVF before aVL: raw millivolts at 100 Hz, no filter
MIMIC_LEADS = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]
KED = Variant(
    title="KED",
    paper=(
        "Tian et al., Foundation model of ECG diagnosis: Diagnostics and explanations of any form and rhythm on ECG, "
        "Cell Reports Medicine 2024, doi:10.1016/j.xcrm.2024.101875"
    ),
    summary="An xresnet1d101 trained to agree with the diagnostic statements of reports (MIMIC-IV-ECG).",
    licence="Released code: no licence file; released weights (Zenodo 14881564): licence not known to us",
    notes=(
        "The encoder alone; the label-query network and its text encoder are not part of this package. The authors' "
        "PTB-XL tests swap aVL and aVF against pre-training and scale the input by about four: "
        'lead_names in the standard order and normalize="fixed", mean=[-0.0008], std=[0.236] reproduce that path.'
    ),
    preprocessing={
        "sampling_rate": 100,
        "seq_len": 1000,
        "lead_names": MIMIC_LEADS,
        "resample": "fourier",
        "crop": "start",
        "pad": "both",
        # published: NaN become zero after the Fourier step, which has spread each over its lead by then
        "nan": "zero_lead",
    },
    sizes={"stage_dims": [64, 128, 128, 192]},
    config={"pooling": ["mean"], "seq_len": 1000, "sampling_rate": 100, "lead_names": MIMIC_LEADS},
    containers=("ecg_model",),
)

PUBLISHED_HEAD = {"classifier_hidden_sizes": [128], "classifier_dropout": 0.5}
# a linear probe writes its solution into a plain linear head, so it does without the published one
PLAIN_HEAD = {"classifier_hidden_sizes": None}

SCRATCH = StageRecipe(
    lr=1e-2, batch_size=128, epochs=50, schedule="one_cycle", weight_decay=1e-2, config=PUBLISHED_HEAD, num_crops=7
)

PUBLISHED = Recipe(
    description=(
        "xresnet1d101 as in the PTB-XL benchmark (Strodthoff et al. 2021): 2.5 s windows at 100 Hz. The benchmark "
        "takes the maximum over a record's windows; here it is the mean."
    ),
    stages={
        "scratch": SCRATCH,
        "finetune": replace(SCRATCH, lr=1e-3),
        "linear": StageRecipe(lr=1e-3, batch_size=128, epochs=50, config=PLAIN_HEAD, num_crops=7),
    },
)

TINY = Recipe(
    description="A small xresnet1d (226,000 parameters) on whole band-passed records of 10 s at 100 Hz.",
    config={
        "sampling_rate": 100,
        "seq_len": 1000,
        "stem_dims": [32, 32],
        "stage_dims": [32, 64, 64, 128],
        "depths": [1, 1, 1, 1],
        "expansion": 1,
    },
    preprocessing={
        "seq_len": 1000,
        **recipes.TINY_BAND,
        "normalize": None,
        "mean": None,
        "std": None,
        "scale": 4.0,  # divides by 0.25 mV
    },
    stages={
        "finetune": replace(
            recipes.TINY_SUPERVISED, lr=5e-3, config={"classifier_hidden_sizes": [], "classifier_dropout": 0.5}
        ),
        "linear": replace(recipes.TINY_LINEAR, config=PLAIN_HEAD),
    },
)

METHOD = ECGMethod(
    name="ecg_resnet",
    prefix="ECGResNet",
    title="xresnet1d",
    paper=(
        "Strodthoff et al., Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, IEEE Journal of "
        "Biomedical and Health Informatics 25, 2021, arXiv:2004.13701"
    ),
    idea="a residual network, from labels alone",
    summary="A one-dimensional residual network trained with labels from scratch: the baseline that is hard to beat.",
    licence="Released code: GPL-3.0",
    preprocessing=PREPROCESSING,
    recipes={"published": PUBLISHED, "tiny": TINY},
    stages=(),
    variants={"ked": KED},
    tiny_config={
        "num_leads": 12,
        "seq_len": 128,
        "sampling_rate": 100,
        "stem_dims": [8, 32],  # as wide as the last stage, so that all hidden states are
        "stage_dims": [16, 32],
        "depths": [1, 1],
        "expansion": 1,
    },
)
