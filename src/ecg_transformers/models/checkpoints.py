"""The published checkpoints that can be loaded by name: what each is, where its file is, and under which licence.

Plain data, one row a name; nothing heavy is imported. A network is a method of the registry, a checkpoint is a row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ecg_transformers.models.registry import get_method, resolve
from ecg_transformers.words import did_you_mean

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# up to this long a record is a resting ECG, which the authors feed in their own crop or crops; longer ones are windowed
RESTING_ECG_SECONDS = 15.0


@dataclass(frozen=True)
class Source:
    """Where the file of a checkpoint is.

    Attributes:
        repository: on the Hub, "owner/name"; None where the file is not there.
        file: its name; for a file that the user brings, as its authors call it, None when that is not known.
        revision: the commit that is fetched; None takes the repository's current state, which was not seen by us.
        page: where the file, or access to it, is to be had.
        gated: the page's conditions must be accepted first, and a token given.
    """

    repository: str | None = None
    file: str | None = None
    revision: str | None = None
    page: str = ""
    gated: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """One published set of weights.

    Attributes:
        name: by which it is loaded.
        title: in people's words.
        method: the network, a name of the registry.
        source: where the file is.
        licence: of the weights.
        overrides: config fields that the tensors cannot tell.
        preprocessing: arguments of `for_method(method, …)` that give the authors' own chain.
        sizes: config fields of the released network, its width first. A file of that width with other sizes is damaged, or
            another model.
        embedding_size: width of an embedding of the released network; None where that is not known.
        readout: what one record becomes: "pooler", the network's published feature, averaged over windows.
        labels: dotted name of the outputs' names, for weights with a head.
        notes: what else is known, and what was not established.
    """

    name: str
    title: str
    method: str
    source: Source
    licence: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, Any] = field(default_factory=dict)
    embedding_size: int | None = None
    readout: str = "pooler"
    labels: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def released_config(self) -> dict[str, Any]:
        """Config fields that build the released network without its file."""
        method, variant = get_method(self.method), self.overrides.get("variant")
        own = method if variant is None else method.with_variant(variant)
        return {**own.recipe("published").config, **self.sizes, **_WITH_THE_FILE.get(self.name, {}), **self.overrides}

    def is_as_wide(self, config: PreTrainedConfig) -> bool:
        """Whether a network has the widths of the released one, as far as it has layers."""
        if not self.sizes:
            return False
        first, stages = next(iter(self.sizes)), self.sizes.get("stage_dims")
        if getattr(config, first, None) != self.sizes[first]:
            return False
        return stages is None or config.stage_dims == stages[: len(config.stage_dims)]

    def is_network_of(self, config: PreTrainedConfig) -> bool:
        """Whether a network has the released sizes, those that follow from its width included."""
        sizes = {**self.sizes, **_WITH_THE_FILE.get(self.name, {})}
        return bool(sizes) and all(getattr(config, name, None) == value for name, value in sizes.items())

    @property
    def access(self) -> str:
        """Where the file comes from, in a word: "Hub", "Hub, gated", or "bring" (the user has to)."""
        if self.source.repository is None or self.source.file is None:
            return "bring"
        return "Hub, gated" if self.source.gated else "Hub"

    @property
    def label_names(self) -> list[str]:
        """Names of the outputs in their order; empty for an encoder."""
        return [] if self.labels is None else list(resolve(self.labels))


def _variant(name: str) -> dict[str, Any]:
    return {"overrides": {"variant": name}, "preprocessing": {"variant": name}}


def _transformer(hidden_size: int, num_hidden_layers: int) -> dict[str, int]:
    return {"hidden_size": hidden_size, "num_hidden_layers": num_hidden_layers}


_FOUNDER = "PKUDigitalHealth/ECGFounder"
_FOUNDER_PAGE = "https://huggingface.co/PKUDigitalHealth/ECGFounder"
_FOUNDER_LABELS = "ecg_transformers.models.ecg_net1d.labels_ecg_net1d.ECGFOUNDER_LABELS"
_MIT_BY_OTHERS = "MIT (code); the weights' own licence was not seen, third parties treat them as MIT"
_CARDIO_LABELS = "ecg_transformers.models.hubert_ecg.labels_hubert_ecg.CARDIO_LEARNING_LABELS"
_HUBERT_LICENCE = "CC BY-NC 4.0"
_MERL_PAGE = "https://github.com/cheliu-computation/MERL-ICML2024 (cloud folder linked in its README)"
_STRATEGIES_PAGE = "https://github.com/AI4HealthUOL/ecg-pretraining-strategies (folder checkpoints)"
_UNSEEN_FILE = "The file itself was not available to us; its layout is known from the published code."
_FOUNDER_SIZES = {
    "stem_dim": 64,
    "stage_dims": [64, 160, 160, 400, 400, 1024, 1024],
    "depths": [2, 2, 2, 3, 3, 4, 4],
}
_HUBERT_SIZES = {"small": _transformer(512, 8), "base": _transformer(768, 12), "large": _transformer(960, 16)}
_S4_SIZES = _transformer(512, 4)


def _hubert(size: str) -> Checkpoint:
    repository = f"Edoardo-BS/hubert-ecg-{size}"
    return Checkpoint(
        f"hubert-ecg-{size}",
        f"HuBERT-ECG {size}",
        "hubert_ecg",
        Source(repository, "model.safetensors", page=f"https://huggingface.co/{repository}"),
        _HUBERT_LICENCE,
        sizes=_HUBERT_SIZES[size],
        embedding_size=_HUBERT_SIZES[size]["hidden_size"],
    )


def _hubert_tuned(size: str) -> Checkpoint:
    repository = f"Edoardo-BS/HuBERT-ECG-SFT-CardioLearning-{size}"
    unsure = ("That the small size has this repository is inferred from the others.",) if size == "small" else ()
    return Checkpoint(
        f"hubert-ecg-sft-{size}",
        f"HuBERT-ECG {size}, fine-tuned on 164 labels",
        "hubert_ecg",
        Source(repository, "model.safetensors", page=f"https://huggingface.co/{repository}"),
        _HUBERT_LICENCE,
        overrides={"problem_type": "multi_label_classification"},
        sizes=_HUBERT_SIZES[size],
        embedding_size=_HUBERT_SIZES[size]["hidden_size"],
        labels=_CARDIO_LABELS,
        notes=("Whether the repository holds safetensors or a pickle was not seen.", *unsure),
    )


def _merl(kind: str, title: str, file: str, sizes: dict[str, Any], embedding_size: int) -> Checkpoint:
    return Checkpoint(
        f"merl-{kind}",
        title,
        "merl",
        Source(file=file, page=_MERL_PAGE),
        "MIT",
        sizes=sizes,
        embedding_size=embedding_size,
        notes=("The ECG side alone. Missing leads are not foreseen by the authors.",),
    )


def _s4_sibling(name: str, title: str, file: str) -> Checkpoint:
    return Checkpoint(
        name,
        title,
        "ecg_cpc",
        Source(file=file, page=_STRATEGIES_PAGE),
        "not known: the repository names none",
        preprocessing={"variant": "s4"},
        sizes={**_S4_SIZES, "s4_bidirectional": True},
        embedding_size=512,
    )


_ROWS = (
    Checkpoint(
        "ecgfounder",
        "ECGFounder, 12 leads, 150 labels",
        "ecg_net1d",
        Source(_FOUNDER, "12_lead_ECGFounder.pth", "d9b1793951b2342f5f7e84f1ac03cd37f8a08724", _FOUNDER_PAGE),
        _MIT_BY_OTHERS,
        overrides={"problem_type": "multi_label_classification"},
        sizes={**_FOUNDER_SIZES, "num_leads": 12},
        embedding_size=1024,
        labels=_FOUNDER_LABELS,
    ),
    Checkpoint(
        "ecgfounder-1lead",
        "ECGFounder, lead I, 150 labels",
        "ecg_net1d",
        Source(_FOUNDER, "1_lead_ECGFounder.pth", "d9b1793951b2342f5f7e84f1ac03cd37f8a08724", _FOUNDER_PAGE),
        _MIT_BY_OTHERS,
        overrides={"problem_type": "multi_label_classification"},
        preprocessing={"lead_names": ["I"], "lead_table": ["I"]},
        sizes={**_FOUNDER_SIZES, "num_leads": 1},
        embedding_size=1024,
        labels=_FOUNDER_LABELS,
        notes=("Lead I is taken before the filters, as published.",),
    ),
    Checkpoint(
        "ecg-fm",
        "ECG-FM, pre-trained on MIMIC-IV-ECG and PhysioNet",
        "ecg_wav2vec2",
        Source("wanglab/ecg-fm", "mimic_iv_ecg_physionet_pretrained.pt", page="https://huggingface.co/wanglab/ecg-fm"),
        "MIT",
        **_variant("ecg_fm"),
        sizes=_transformer(768, 12),
        embedding_size=768,
        notes=("The authors embed each segment of 5 s; their mean for a record is our choice.",),
    ),
    Checkpoint(
        "deepecg-ssl",
        "DeepECG-SSL, pre-trained encoder",
        "ecg_wav2vec2",
        Source(
            "heartwise/SSL_Pretrained_model",
            "SSL_pretrained.pt",
            page="https://huggingface.co/heartwise/SSL_Pretrained_model",
            gated=True,
        ),
        "not known (gated)",
        **_variant("deepecg_ssl"),
        sizes=_transformer(768, 12),
        embedding_size=768,
    ),
    Checkpoint(
        "melp",
        "MELP, ECG encoder",
        "ecg_wav2vec2",
        Source("fuyingw/MELP_Encoder", "model.safetensors", page="https://huggingface.co/fuyingw/MELP_Encoder"),
        "Apache-2.0",
        **_variant("melp"),
        sizes=_transformer(768, 8),
        embedding_size=256,
        notes=("Released in bfloat16.",),
    ),
    Checkpoint(
        "d-beta",
        "D-BETA, ECG encoder",
        "ecg_wav2vec2",
        Source("Manhph2211/D-BETA", "sample.pt", page="https://huggingface.co/Manhph2211/D-BETA"),
        "not known; the code is CC BY-NC 4.0",
        **_variant("d_beta"),
        sizes=_transformer(768, 8),
        embedding_size=768,
        notes=(_UNSEEN_FILE, "The lead order of its pre-training was not published."),
    ),
    *(_hubert(size) for size in ("small", "base", "large")),
    *(_hubert_tuned(size) for size in ("small", "base", "large")),
    _merl(
        "resnet18",
        "MERL, ResNet-18 encoder",
        "res18_best_encoder.pth",
        {"stem_dim": 64, "depths": [2, 2, 2, 2], "backbone": "resnet"},
        512,
    ),
    _merl(
        "vit-tiny",
        "MERL, ViT-Tiny encoder",
        "vit_tiny_best_encoder.pth",
        {**_transformer(192, 12), "backbone": "vit"},
        192,
    ),
    Checkpoint(
        "ked",
        "KED (ECGFM-KED), ECG encoder",
        "ked",
        Source(file="best_valid_all_increase_with_augment_epoch_3.pt", page="https://zenodo.org/records/14881564"),
        "not known",
        sizes={"stem_dims": [32, 32, 64], "stage_dims": [64, 128, 128, 192], "depths": [3, 4, 23, 3]},
        embedding_size=768,
    ),
    Checkpoint(
        "xecg",
        "xECG of BenchECG, base model",
        "xecg",
        Source(
            "riccardolunelli/xECG_base_model_v1",
            "model.safetensors",
            page="https://huggingface.co/riccardolunelli/xECG_base_model_v1",
        ),
        "MIT (by its page; its code's repository adds: for research only)",
        sizes=_transformer(1024, 9),
        embedding_size=1024,
        notes=(_UNSEEN_FILE,),
    ),
    Checkpoint(
        "ecg-cpc",
        "ECG-CPC, the S4 model of the public benchmark",
        "ecg_cpc",
        Source(page="https://figshare.com/articles/30192604 (ECG-CPC_Checkpoint.zip: the .ckpt in it)"),
        "CC BY 4.0 (by its page)",
        preprocessing={"variant": "s4"},
        sizes={**_S4_SIZES, "s4_bidirectional": False},
        embedding_size=512,
        notes=(_UNSEEN_FILE,),
    ),
    _s4_sibling("ecg-s4-jepa", "S4 encoder, JEPA", "jepa_e10.ckpt"),
    _s4_sibling("ecg-s4-data2vec", "S4 encoder, Data2Vec", "data2vec_e10.ckpt"),
    _s4_sibling("ecg-s4-dinosr", "S4 encoder, DinoSR", "dinosr_e10.ckpt"),
    _s4_sibling("ecg-s4-sk-kmeans", "S4 encoder, SK-kmeans", "hubert++_e10.ckpt"),
    Checkpoint(
        "st-mem",
        "ST-MEM, ViT-B encoder",
        "st_mem",
        Source(page="https://github.com/bakqui/ST-MEM (cloud folder linked in its README)"),
        "CC BY-NC 4.0, with a later notice of the authors that reserves all rights",
        sizes=_transformer(768, 12),
        embedding_size=768,
        notes=("What the file is called was not seen.",),
    ),
    Checkpoint(
        "ecg-jepa",
        "ECG-JEPA (Kim), multi-block masking",
        "ecg_jepa",
        Source(
            file="multiblock_epoch100.pth",
            page="https://github.com/sehunfromdaegu/ECG_JEPA (cloud folder linked in its README)",
        ),
        "MIT (code); no separate licence for the weights",
        sizes=_transformer(768, 12),
        embedding_size=768,
        notes=("The same name means another model at Weimann and Conrad (weimann-jepa).",),
    ),
    Checkpoint(
        "weimann-jepa",
        "ECG-JEPA (Weimann and Conrad)",
        "weimann_jepa",
        Source(page="https://github.com/kweimann/ECG-JEPA"),
        "MIT (code)",
        preprocessing={"seq_len": 1250, "crop": "sliding", "crop_stride": 625},  # as in all of their evaluations
        notes=(
            "No public link to weights is known; a file of the authors' code has its settings inside.",
            "A record is read in windows of 2.5 s, one every 1.25 s, as the authors evaluate it.",
        ),
    ),
)
# sizes that follow from the released file, or from its width, and are no sign of a wrong one
_WITH_THE_FILE: dict[str, dict[str, Any]] = {
    "hubert-ecg-small": {"num_attention_heads": 8, "intermediate_size": 2048},
    "hubert-ecg-large": {"num_attention_heads": 12, "intermediate_size": 3840},
}
_S4_NETWORK = {
    "num_leads": 12,
    "seq_len": 600,
    "sampling_rate": 240,
    "context": "s4",
    "state_size": 8,
    "pooling": ["mean"],
}
_S4_NETWORK |= {
    "conv_dims": [512] * 4,
    "conv_kernels": [3, 1, 1, 1],
    "conv_strides": [2, 1, 1, 1],
    "s4_max_length": 300,
}
_WITH_THE_FILE["ecg-cpc"] = _S4_NETWORK | {"seq_len": 2400, "s4_max_length": 1200}
for _sibling in ("jepa", "data2vec", "dinosr", "sk-kmeans"):
    _WITH_THE_FILE[f"ecg-s4-{_sibling}"] = _S4_NETWORK
for _size in ("small", "large"):
    _WITH_THE_FILE[f"hubert-ecg-sft-{_size}"] = _WITH_THE_FILE[f"hubert-ecg-{_size}"]
CHECKPOINTS: dict[str, Checkpoint] = {row.name: row for row in _ROWS}


def list_checkpoints() -> list[str]:
    """Names of all published checkpoints that can be loaded by name."""
    return list(CHECKPOINTS)


def get_checkpoint(name: str) -> Checkpoint:
    """The row of a checkpoint.

    Raises:
        ValueError: for an unknown name, with the known ones.

    Example:
        >>> get_checkpoint("ecgfounder").source.repository
        'PKUDigitalHealth/ECGFounder'
    """
    if name not in CHECKPOINTS:
        raise ValueError(f"There is no checkpoint {name!r}{did_you_mean(name, CHECKPOINTS)}")
    return CHECKPOINTS[name]
