"""Published xresnet1d checkpoints into our classes."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ecg_transformers.models.ecg_resnet.configuration_ecg_resnet import ECGResNetConfig
from ecg_transformers.models.ecg_resnet.modeling_ecg_resnet import (
    ECGResNetForSequenceClassification,
    ECGResNetModel,
    ECGResNetPreTrainedModel,
)
from ecg_transformers.models.shared.state_dicts import (
    BATCH_NORM_TENSORS,
    CheckpointError,
    StateDictReader,
    load_converted,
    take_batch_norm,
    take_linear,
)


def convert_ecg_resnet(state_dict: Mapping[str, Tensor], **config_overrides: Any) -> ECGResNetPreTrainedModel:
    """The network that the tensors describe.

    The published model is one numbered sequence: the stem's convolutions, the max-pooling (without tensors), the
    stages, and the head. A block's path may be stored twice (`convs` and `convpath.0`).

    Returns:
        `ECGResNetForSequenceClassification` with the published head, or `ECGResNetModel` where the file has no head;
        in eval mode.

    Raises:
        CheckpointError: when keys are missing, left over, or do not fit together.
    """
    reader = StateDictReader(state_dict, "xresnet1d")
    stem = reader.count("{}.0.weight")
    stages = _count_from(reader, stem + 1)
    head = stem + 1 + len(stages)
    if not stem or not stages:
        raise CheckpointError("This is no xresnet1d checkpoint: it has no numbered stem and no stages of blocks.")
    linears = [i for i in range(2, 64) if (key := f"{head}.{i}.weight") in reader and reader.tensors[key].ndim == 2]
    prefix = "ecg_resnet." if linears else ""
    sizes = _sizes(reader, stem, stages)
    tensors: dict[str, Tensor] = {}
    for index in range(stem):
        _take_conv_norm(reader, str(index), f"{prefix}stem.{index}", tensors)
    for stage, source in enumerate(stages):
        for block in range(reader.count(f"{source}.{{}}.")):
            _take_block(reader, f"{source}.{block}", f"{prefix}stages.{stage}.blocks.{block}", tensors)
    if linears:
        sizes |= _take_head(reader, head, linears, sizes, tensors)
    reader.finish()
    config = ECGResNetConfig(**{**sizes, **config_overrides})
    model_class = ECGResNetForSequenceClassification if linears else ECGResNetModel
    return load_converted(model_class(config), tensors)


def _count_from(reader: StateDictReader, start: int) -> list[int]:
    """Numbers of the stages: consecutive modules with blocks in them."""
    stages: list[int] = []
    while any(re.match(rf"{start + len(stages)}\.\d+\.(convs|convpath)\.", key) for key in reader.tensors):
        stages.append(start + len(stages))
    return stages


def _path(reader: StateDictReader, block: str) -> str:
    """Where a block keeps its path; the alias `convs` alone is enough."""
    return f"{block}.convpath.0" if f"{block}.convpath.0.0.0.weight" in reader else f"{block}.convs"


def _sizes(reader: StateDictReader, stem: int, stages: list[int]) -> dict[str, Any]:
    """Config fields that the tensors tell."""
    first = reader.take("0.0.weight", ndim=3)  # (width, leads, kernel)
    paths = [_path(reader, f"{stage}.0") for stage in stages]
    bottleneck = f"{paths[0]}.2.0.weight" in reader
    middle = [reader.take(f"{path}.{1 if bottleneck else 0}.0.weight", ndim=3) for path in paths]
    outer = [reader.take(f"{path}.{2 if bottleneck else 1}.0.weight", ndim=3) for path in paths]
    factors = {wide.shape[0] / narrow.shape[0] for wide, narrow in zip(outer, middle)}
    expansion = int(max(factors))
    if factors != {expansion}:
        raise CheckpointError(f"xresnet1d: the stages widen their blocks by different factors: {sorted(factors)}.")
    return {
        "num_leads": first.shape[1],
        "lead_names": None,
        "stem_dims": [reader.take(f"{index}.0.weight", ndim=3).shape[0] for index in range(stem)],
        "stem_kernel_size": first.shape[2],
        "kernel_size": middle[0].shape[2],
        "stage_dims": [m.shape[0] for m in middle],
        "depths": [reader.count(f"{stage}.{{}}.") for stage in stages],
        "expansion": expansion,
    }


def _take_conv_norm(reader: StateDictReader, source: str, target: str, out: dict[str, Tensor]) -> None:
    out[f"{target}.conv.weight"] = reader.take(f"{source}.0.weight")
    take_batch_norm(reader, f"{source}.1", f"{target}.norm", out)


def _take_block(reader: StateDictReader, source: str, target: str, out: dict[str, Tensor]) -> None:
    path = _path(reader, source)
    for index in range(reader.count(f"{path}.{{}}.0.weight")):
        _take_conv_norm(reader, f"{path}.{index}", f"{target}.path.{index}", out)
        names = ["0.weight", *(f"1.{name}" for name in BATCH_NORM_TENSORS)]
        reader.take_duplicates({f"{source}.convs.{index}.{name}": f"{path}.{index}.{name}" for name in names})
    for index in (0, 1):  # behind the average pooling of a strided block it is the second module
        if f"{source}.idpath.{index}.0.weight" in reader:
            _take_conv_norm(reader, f"{source}.idpath.{index}", f"{target}.shortcut", out)


def _take_head(
    reader: StateDictReader, head: int, linears: list[int], sizes: Mapping[str, Any], out: dict[str, Tensor]
) -> dict[str, Any]:
    """Tensors of the published head: a batch norm two modules before each linear map."""
    for index, linear in enumerate(linears):
        take_batch_norm(reader, f"{head}.{linear - 2}", f"classifier.norms.{index}", out)
        take_linear(reader, f"{head}.{linear}", f"classifier.linears.{index}", out)
    maps = [out[f"classifier.linears.{index}.weight"] for index in range(len(linears))]
    width = sizes["stage_dims"][-1] * sizes["expansion"]
    if maps[0].shape[1] not in (width, 2 * width):
        raise CheckpointError(
            f"xresnet1d: the head takes {maps[0].shape[1]} features, the last stage gives {width} (or twice that)."
        )
    return {
        "pooling": ["max", "mean"] if maps[0].shape[1] == 2 * width else ["mean"],
        "classifier_hidden_sizes": [weight.shape[0] for weight in maps[:-1]],
        "num_labels": maps[-1].shape[0],
    }
