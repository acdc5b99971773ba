import numpy as np
import pytest

from ecg_transformers.evaluation import aggregation


def test_published_crop_aggregation(parity):
    tensors = {key: value.numpy() for key, value in parity("st_mem", "eval_aggregation").items()}
    logits = tensors["logits"]
    for task_kind, key in (("multiclass", "prob_softmax"), ("multilabel", "prob_sigmoid")):
        np.testing.assert_allclose(aggregation.aggregate_crops(logits, task_kind)[1], tensors[key], atol=1e-6)
    cross_entropy = aggregation.crop_mean_loss(logits, tensors["target"], "multiclass")
    assert cross_entropy == pytest.approx(float(tensors["loss_ce"]), abs=1e-6)
    binary = aggregation.crop_mean_loss(logits, tensors["target_multilabel"], "multilabel")
    assert binary == pytest.approx(float(tensors["loss_bce"]), abs=1e-6)


def test_mean_of_probabilities_is_not_the_probability_of_the_mean():
    mean_logits, mean_probabilities = aggregation.aggregate_crops(np.array([[[4.0], [-1.0]]]), "multilabel")
    assert mean_logits[0, 0] == 1.5
    assert mean_probabilities[0, 0] != pytest.approx(aggregation.probabilities(1.5, "multilabel"))


def test_records_with_different_numbers_of_crops():
    ids, scores = aggregation.aggregate_by_record([[0.0], [1.0], [0.5], [0.2]], ["b", "b", "a", "b"])
    assert ids == ["b", "a"]
    np.testing.assert_allclose(scores, [[0.4], [0.5]])


def test_large_logits_do_not_overflow():
    with np.errstate(over="raise"):
        assert aggregation.probabilities([-1e4, 0.0, 1e4], "multilabel").tolist() == [0.0, 0.5, 1.0]
        assert np.isfinite(aggregation.probabilities([[-1e4, 1e4]], "multiclass")).all()


def test_logits_without_a_crop_axis_are_refused():
    with pytest.raises(ValueError, match="records, crops, classes"):
        aggregation.aggregate_crops(np.zeros((3, 2)), "multilabel")
