"""ECGFounder's checkpoints into our classes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ecg_transformers.models.ecg_net1d.configuration_ecg_net1d import ECGNet1DConfig
from ecg_transformers.models.ecg_net1d.labels_ecg_net1d import ECGFOUNDER_LABELS
from ecg_transformers.models.ecg_net1d.modeling_ecg_net1d import (
    ECGNet1DForSequenceClassification,
    ECGNet1DModel,
    ECGNet1DPreTrainedModel,
)
from ecg_transformers.models.shared.state_dicts import (
    CheckpointError,
    StateDictReader,
    load_converted,
    take_batch_norm,
    take_weight_and_bias,
)

_BLOCK = "stage_list.{}.block_list.{}"


def convert_ecg_net1d(state_dict: Mapping[str, Tensor], **config_overrides: Any) -> ECGNet1DPreTrainedModel:
    """The network that the tensors describe.

    The released files hold the tensors of batch norms that the released models do not use; they are dropped unless
    `use_batch_norm=True` is given.

    Returns:
        `ECGNet1DForSequenceClassification` with the published head (its 150 labels by name where it has 150), or
        `ECGNet1DModel` where the file has no head; in eval mode.

    Raises:
        CheckpointError: when keys are missing, left over, or do not fit together.
    """
    batch_norm = bool(config_overrides.get("use_batch_norm", False))
    reader = StateDictReader(state_dict, "Net1D")
    if not batch_norm:
        reader.drop(r"(?:^first_bn|\.bn[123])\.")
    sizes = _sizes(reader)
    prefix = "ecg_net1d." if "dense.weight" in reader else ""
    tensors: dict[str, Tensor] = {}
    take_weight_and_bias(reader, "first_conv.conv", f"{prefix}stem.conv", tensors)
    if batch_norm:
        take_batch_norm(reader, "first_bn", f"{prefix}stem.activation.norm", tensors)
    for stage, depth in enumerate(sizes["depths"]):
        for block in range(depth):
            target = f"{prefix}stages.{stage}.blocks.{block}"
            _take_block(reader, _BLOCK.format(stage, block), target, batch_norm, stage + block == 0, tensors)
    if prefix:
        take_weight_and_bias(reader, "dense", "classifier", tensors)
        sizes |= _labels(reader.take("dense.weight", ndim=2).shape[0])
    reader.finish()
    config = ECGNet1DConfig(**{**sizes, **config_overrides})
    model_class = ECGNet1DForSequenceClassification if prefix else ECGNet1DModel
    return load_converted(model_class(config), tensors)


def _sizes(reader: StateDictReader) -> dict[str, Any]:
    """Config fields that the tensors tell."""
    first = reader.take("first_conv.conv.weight", ndim=3)  # (width, leads, kernel)
    depths: list[int] = []
    while reader.count(f"stage_list.{len(depths)}.block_list.{{}}."):
        depths.append(reader.count(f"stage_list.{len(depths)}.block_list.{{}}."))
    if not depths:
        raise CheckpointError("This is no Net1D checkpoint: it has no stages of blocks (stage_list.0.block_list.0.…).")
    names = [_BLOCK.format(stage, 0) for stage in range(len(depths))]
    middle = [reader.take(f"{name}.conv2.conv.weight", ndim=3) for name in names]  # (inner, inner / groups, kernel)
    leads = first.shape[1]
    return {
        "num_leads": leads,
        "lead_names": ["I"] if leads == 1 else None,
        "stem_dim": first.shape[0],
        "stage_dims": [reader.take(f"{name}.conv3.conv.weight", ndim=3).shape[0] for name in names],
        "depths": depths,
        "inner_dims": [weight.shape[0] for weight in middle],
        "num_groups": [weight.shape[0] // weight.shape[1] for weight in middle],
        "kernel_size": first.shape[2],
    }


def _take_block(
    reader: StateDictReader, source: str, target: str, batch_norm: bool, is_first: bool, out: dict[str, Tensor]
) -> None:
    for index in (1, 2, 3):
        take_weight_and_bias(reader, f"{source}.conv{index}.conv", f"{target}.conv{index}", out)
        if batch_norm and is_first and index == 1:
            reader.drop(rf"^{source}\.bn1\.")  # built, and passed over together with the first activation
        elif batch_norm:
            take_batch_norm(reader, f"{source}.bn{index}", f"{target}.activation{index}.norm", out)
    take_weight_and_bias(reader, f"{source}.se_fc1", f"{target}.gate.squeeze", out)
    take_weight_and_bias(reader, f"{source}.se_fc2", f"{target}.gate.excite", out)


def _labels(count: int) -> dict[str, Any]:
    """Every class is a yes or no of its own; the published head's classes have names."""
    named = count == len(ECGFOUNDER_LABELS)
    names = {"id2label": dict(enumerate(ECGFOUNDER_LABELS))} if named else {"num_labels": count}
    return {"problem_type": "multi_label_classification", **names}
