"""The linear probe as a model: its solution is written into the linear head, standardisation included."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ecg_transformers.evaluation.probes import LinearProbe
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.training.classifier.scores import Evaluator


def fit_linear_probe(
    model: ECGForSequenceClassification, train: Evaluator, validation: Evaluator
) -> tuple[dict[str, Any], float]:
    """Fit a logistic regression on frozen features and put it into `model.classifier`.

    The features are what the head sees, averaged over the evaluation crops of a record, so that the mean logits of the
    saved model are the logits of the probe.

    Args:
        model: a classifier with a linear head and no norm before it.
        train, validation: evaluators over the two splits; the strength of the penalty is chosen on the second.

    Returns:
        what to record of the choice, and the mean loss on the training records.
    """
    x, x_val = train.features(model, model.pool), validation.features(model, model.pool)
    # no clipping of outliers: a linear layer cannot clip, and the saved model has to give the probe's numbers
    probe = LinearProbe(train.split.task_kind, clip=None)
    labels = torch.from_numpy(np.asarray(train.split.labels))
    if train.split.task_kind == "multiclass":
        y, y_val = np.asarray(train.split.labels), np.asarray(validation.split.labels)
        probe.fit(x, y, x_val, y_val, num_classes=len(train.split.label_names))
    else:
        probe.fit(x, train.split.multi_hot(), x_val, validation.split.multi_hot())
        labels = labels.double()
    weight, bias = probe.as_linear_layer()
    with torch.no_grad():
        for name, value in {"weight": weight, "bias": bias}.items():
            model.classifier.get_parameter(name).copy_(torch.from_numpy(value))
    loss = float(model.classification_loss(torch.from_numpy(probe.decision_function(x)), labels))
    facts = {
        "strength": probe.strength,
        "selection": probe.selection,
        "strengths": {str(strength): score for strength, score in probe.validation_scores.items()},
        "features": int(x.shape[1]),
        "log": {"strength": probe.strength},
    }
    return facts, loss
