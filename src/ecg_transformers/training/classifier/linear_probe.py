"""The linear probe as a model: its solution is written into the linear head, standardisation included."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecg_transformers.training.classifier.scores import Evaluator


def fit_linear_probe(model: Any, train: Evaluator, validation: Evaluator) -> tuple[dict[str, Any], float]:
    """Fit a logistic regression on frozen features and put it into `model.classifier`.

    The features are what the head sees, averaged over the evaluation crops of a record, so that the mean logits of the
    saved model are the logits of the probe.

    Args:
        model: a classifier with a linear head and no norm before it.
        train, validation: evaluators over the two splits; the strength of the penalty is chosen on the second.

    Returns:
        what to record of the choice, and the mean loss on the training records.
    """
    import torch

    from ecg_transformers.evaluation.probes import LinearProbe

    x, x_val = train.features(model, model.pool), validation.features(model, model.pool)
    kind = train.split.task_kind
    y, y_val = train.split.multi_hot(), validation.split.multi_hot()
    # no clipping of outliers: a linear layer cannot clip, and the saved model has to give the probe's numbers
    probe = LinearProbe(kind, clip=None)
    if kind == "multiclass":
        probe.fit(x, np.asarray(train.split.labels), x_val, np.asarray(validation.split.labels), num_classes=y.shape[1])
    else:
        probe.fit(x, y, x_val, y_val)
    weight, bias = probe.as_linear_layer()
    with torch.no_grad():
        model.classifier.weight.copy_(torch.from_numpy(weight))
        model.classifier.bias.copy_(torch.from_numpy(bias))
    logits = torch.from_numpy(probe.decision_function(x))
    loss = float(
        model.classification_loss(logits, torch.from_numpy(np.asarray(train.split.labels)).to(_label_type(kind)))
    )
    facts = {
        "strength": probe.strength,
        "selection": probe.selection,
        "strengths": {str(strength): score for strength, score in probe.validation_scores.items()},
        "features": int(x.shape[1]),
        "log": {"strength": probe.strength},
    }
    return facts, loss


def _label_type(kind: str) -> Any:
    import torch

    return torch.int64 if kind == "multiclass" else torch.float64
