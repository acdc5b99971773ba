"""Published checkpoints of ECG-FM, DeepECG-SSL, MELP and D-BETA into our classes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ecg_transformers.models.ecg_wav2vec2.configuration_ecg_wav2vec2 import ECGWav2Vec2Config
from ecg_transformers.models.ecg_wav2vec2.keys_ecg_wav2vec2 import (
    D_BETA_KEYS,
    D_BETA_UNUSED_KEYS,
    MELP_UNUSED_KEYS,
    PRETRAINING_KEYS,
    PUBLISHED_KEYS,
    matches,
    our_name,
)
from ecg_transformers.models.ecg_wav2vec2.labels_ecg_wav2vec2 import DEEPECG_SSL_LABELS, ECG_FM_LABELS
from ecg_transformers.models.ecg_wav2vec2.modeling_ecg_wav2vec2 import (
    ECGWav2Vec2ForSequenceClassification,
    ECGWav2Vec2Model,
    ECGWav2Vec2PreTrainedModel,
)
from ecg_transformers.models.ecg_wav2vec2.modeling_ecg_wav2vec2_pretraining import ECGWav2Vec2ForPreTraining
from ecg_transformers.models.shared.state_dicts import CheckpointError, StateDictReader, load_converted

CONV0 = "feature_extractor.conv_layers.0.0.weight"
CONVS = "feature_extractor.conv_layers"


def convert_ecg_wav2vec2(state_dict: Mapping[str, Tensor], **config_overrides: Any) -> ECGWav2Vec2PreTrainedModel:
    """The model that the tensors describe, in float32 whatever they are stored in.

    Args:
        state_dict: one of four layouts: pre-training (no prefix), fine-tuned (`encoder.`), MELP
            (`ecg_encoder.ecg_encoder.`) or D-BETA (`class_embedding` beside `ecg_encoder.`); both generations of
            weight-norm names.
        config_overrides: what tensors cannot tell: `variant` ("ecg_fm" or "deepecg_ssl"), `num_attention_heads` (12, or
            16 for a width of 1024), `attn_pooler_heads` (8), `conv_stride` (2 each), `norm_first`, `feature_grad_mult`,
            `id2label`, `crop_aggregation`, `completed_updates`.

    Returns:
        `ECGWav2Vec2ForPreTraining` for a pre-training file of ECG-FM or DeepECG-SSL, else
        `ECGWav2Vec2ForSequenceClassification` when there is a head, else `ECGWav2Vec2Model`; in eval mode.

    Raises:
        CheckpointError: when keys are missing, left over, or do not fit together.
    """
    StateDictReader(state_dict, "wav2vec 2.0 (ECG)")  # refuses what is no state dict
    layouts = {
        f"ecg_encoder.ecg_encoder.{CONV0}": _melp,
        f"ecg_encoder.{CONV0}": _d_beta,
        f"encoder.{CONV0}": _fine_tuned,
        CONV0: _pretrained,
    }
    for key, layout in layouts.items():
        if key in state_dict:
            return layout(dict(state_dict), config_overrides)
    some = ", ".join(sorted(state_dict)[:6])
    raise CheckpointError(f"This is no wav2vec 2.0 (ECG) checkpoint: no tensor ends in {CONV0!r} (it has {some}, …).")


def settings_in_file(content: Mapping[str, Any]) -> dict[str, Any]:
    """Config fields that fairseq-signals stores beside the tensors of a pre-training file: heads, norms, steps done.

    Sizes are not read: in fine-tuned files they are those of the classifier's defaults, whatever the encoder has.
    """
    config, history = content.get("cfg"), content.get("optimizer_history")
    model = config.get("model") if isinstance(config, Mapping) else None
    if not isinstance(model, Mapping) or model.get("_name") != "wav2vec2_cmsc":
        return {}
    found: dict[str, Any] = {}
    if isinstance(heads := model.get("encoder_attention_heads"), int):
        found["num_attention_heads"] = heads
    if isinstance(norm_first := model.get("layer_norm_first"), bool):
        found["norm_first"] = norm_first
    last = history[-1] if isinstance(history, list) and history else None
    if isinstance(last, Mapping) and isinstance(steps := last.get("num_updates"), int):
        found["completed_updates"] = steps
    return found


def _pretrained(tensors: dict[str, Tensor], overrides: dict[str, Any]) -> ECGWav2Vec2PreTrainedModel:
    renamed = {our_name(key, PUBLISHED_KEYS): tensor for key, tensor in tensors.items()}
    sizes = _core_sizes(renamed, overrides)
    if "quantizer.vars" not in renamed:
        encoder = {key: tensor for key, tensor in renamed.items() if not matches(key, PRETRAINING_KEYS)}
        return load_converted(ECGWav2Vec2Model(ECGWav2Vec2Config(**{**sizes, **overrides})), encoder)
    heads = {key: tensor for key, tensor in renamed.items() if matches(key, PRETRAINING_KEYS)}
    sizes |= _quantizer_sizes(heads)
    model = ECGWav2Vec2ForPreTraining(ECGWav2Vec2Config(**{**sizes, **overrides}))
    return load_converted(model, heads | _below_prefix({k: t for k, t in renamed.items() if k not in heads}))


def _fine_tuned(tensors: dict[str, Tensor], overrides: dict[str, Any]) -> ECGWav2Vec2PreTrainedModel:
    head = {key: tensors.pop(key) for key in list(tensors) if key.startswith("proj.")}
    foreign = sorted(key for key in tensors if not key.startswith("encoder."))
    if foreign or "proj.weight" not in head:
        raise CheckpointError(
            f"A fine-tuned wav2vec 2.0 (ECG) file holds encoder.* and proj.*; this one has {foreign or 'no proj.weight'}."
        )
    renamed = {our_name(key.removeprefix("encoder."), PUBLISHED_KEYS): tensor for key, tensor in tensors.items()}
    encoder = {key: tensor for key, tensor in renamed.items() if not matches(key, PRETRAINING_KEYS)}
    sizes = _core_sizes(encoder, overrides) | {"problem_type": "multi_label_classification"}
    if "id2label" not in overrides:
        sizes |= _labels(_shape(head, "proj.weight", 2)[0], overrides.get("variant", "ecg_fm"))
    model = ECGWav2Vec2ForSequenceClassification(ECGWav2Vec2Config(**{**sizes, **overrides}))
    classifier = {key.replace("proj.", "classifier."): tensor for key, tensor in head.items()}
    return load_converted(model, classifier | _below_prefix(encoder))


def _labels(outputs: int, variant: str) -> dict[str, Any]:
    """The published names of as many outputs, and how ECG-FM's authors join the segments of a record."""
    names = {"ecg_fm": ECG_FM_LABELS, "deepecg_ssl": DEEPECG_SSL_LABELS}.get(variant, [])
    if outputs != len(names):
        return {"num_labels": outputs}
    joined = {"crop_aggregation": "ecg_fm"} if variant == "ecg_fm" else {}
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}, **joined}


def _melp(tensors: dict[str, Tensor], overrides: dict[str, Any]) -> ECGWav2Vec2PreTrainedModel:
    kept = {key: tensor for key, tensor in tensors.items() if not matches(key, MELP_UNUSED_KEYS)}
    renamed = {our_name(key, PUBLISHED_KEYS): tensor for key, tensor in kept.items()}
    encoder = {key: tensor for key, tensor in renamed.items() if not matches(key, PRETRAINING_KEYS)}
    sizes: dict[str, Any] = _core_sizes(encoder, overrides) | {"variant": "melp"}
    sizes["n_queries_contrast"], sizes["shared_emb_dim"] = _shape(encoder, "contrast_pooler.query", 2)
    sizes["n_queries_caption"], sizes["embed_dim_caption"] = _shape(encoder, "caption_pooler.query", 2)
    return load_converted(ECGWav2Vec2Model(ECGWav2Vec2Config(**{**sizes, **overrides})), encoder)


def _d_beta(tensors: dict[str, Tensor], overrides: dict[str, Any]) -> ECGWav2Vec2PreTrainedModel:
    kept = {key: tensor for key, tensor in tensors.items() if not matches(key, D_BETA_UNUSED_KEYS)}
    encoder = {our_name(our_name(key, D_BETA_KEYS), PUBLISHED_KEYS): tensor for key, tensor in kept.items()}
    sizes = _core_sizes(encoder, overrides) | {"variant": "d_beta"}
    return load_converted(ECGWav2Vec2Model(ECGWav2Vec2Config(**{**sizes, **overrides})), encoder)


def _below_prefix(encoder: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{ECGWav2Vec2Model.base_model_prefix}.{key}": tensor for key, tensor in encoder.items()}


def _shape(tensors: Mapping[str, Tensor], key: str, ndim: int) -> tuple[int, ...]:
    if key not in tensors or tensors[key].ndim != ndim:
        found = "is missing" if key not in tensors else f"has shape {tuple(tensors[key].shape)}"
        raise CheckpointError(f"The wav2vec 2.0 (ECG) checkpoint is damaged: {key!r} {found}.")
    return tuple(tensors[key].shape)


def _core_sizes(tensors: Mapping[str, Tensor], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What the shapes of the encoder's tensors, under our names, say.

    Any number of convolutions would be a network; so a file that lost one is told by the strides, four as published.
    """
    layers = 0
    while f"encoder.layers.{layers}.attention.k_proj.weight" in tensors:
        layers += 1
    if not layers:
        raise CheckpointError("The wav2vec 2.0 (ECG) checkpoint is damaged: it has no transformer layer 0.")
    shapes: list[tuple[int, ...]] = []
    while f"{CONVS}.{len(shapes)}.conv.weight" in tensors:
        shapes.append(_shape(tensors, f"{CONVS}.{len(shapes)}.conv.weight", 3))
    strides = overrides.get("conv_stride", [2, 2, 2, 2])
    if len(shapes) != len(strides):
        raise CheckpointError(
            f"The wav2vec 2.0 (ECG) checkpoint has {len(shapes)} convolutions for {len(strides)} strides: it is damaged, or "
            "of a size that was not published; then give conv_stride=[…]."
        )
    width, in_group, kernel = _shape(tensors, "encoder.pos_conv_embed.conv.direction", 3)
    return {
        "num_leads": shapes[0][1],
        "conv_dim": [shape[0] for shape in shapes],
        "conv_kernel": [shape[2] for shape in shapes],
        "conv_stride": strides,
        "conv_bias": f"{CONVS}.0.conv.bias" in tensors,
        "num_conv_pos_embeddings": kernel,
        "num_conv_pos_embedding_groups": width // max(in_group, 1),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 16 if width == 1024 else 12,
        "intermediate_size": _shape(tensors, "encoder.layers.0.feed_forward.intermediate_dense.weight", 2)[0],
    }


def _quantizer_sizes(heads: Mapping[str, Tensor]) -> dict[str, Any]:
    """The quantiser's codes lie in groups: as many as parts of a code vector make the projection's input."""
    _, codes, part = _shape(heads, "quantizer.vars", 3)
    final, code_dim = _shape(heads, "project_q.weight", 2)
    groups = code_dim // max(part, 1)
    return {
        "num_codevector_groups": groups,
        "num_codevectors_per_group": codes // max(groups, 1),
        "codevector_dim": code_dim,
        "proj_codevector_dim": final,
    }
