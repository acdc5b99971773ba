import numpy as np
import pytest

from ecg_transformers.evaluation import aggregation


def test_published_crop_aggregation(parity):
    tensors = {key: value.numpy() for key, value in parity("st_mem", "eval_aggregation").items()}
    logits = tensors["logits"]
    for task_kind, key in (("multiclass", "prob_softmax"), ("multilabel", "prob_sigmoid")):
        np.testing.assert_allclose(aggregation.aggregate_crops(logits, task_kind)[1], tensors[key], atol=1e-6)
    mean_logits, _ = aggregation.aggregate_crops(logits, "multilabel")
    target = np.eye(mean_logits.shape[1])[tensors["target"]]
    multiclass = aggregation.cross_entropy(mean_logits, target, "multiclass").mean()
    assert multiclass == pytest.approx(float(tensors["loss_ce"]), abs=1e-6)
    binary = aggregation.cross_entropy(mean_logits, tensors["target_multilabel"], "multilabel").mean() / target.shape[1]
    assert binary == pytest.approx(float(tensors["loss_bce"]), abs=1e-6)


def test_mean_of_probabilities_is_not_the_probability_of_the_mean():
    mean_logits, mean_probabilities = aggregation.aggregate_crops(np.array([[[4.0], [-1.0]]]), "multilabel")
    assert mean_logits[0, 0] == 1.5
    assert mean_probabilities[0, 0] != pytest.approx(aggregation.probabilities(1.5, "multilabel"))


def test_large_logits_do_not_overflow():
    with np.errstate(over="raise"):
        assert aggregation.probabilities([-1e4, 0.0, 1e4], "multilabel").tolist() == [0.0, 0.5, 1.0]
        assert np.isfinite(aggregation.probabilities([[-1e4, 1e4]], "multiclass")).all()


def test_logits_without_a_crop_axis_are_refused():
    with pytest.raises(ValueError, match="records, crops, classes"):
        aggregation.aggregate_crops(np.zeros((3, 2)), "multilabel")
