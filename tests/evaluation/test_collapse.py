import numpy as np
import pytest

from ecg_transformers.evaluation.collapse import CollapseAlarm, effective_rank, embedding_health, token_health


def test_random_directions_are_healthy():
    health = embedding_health(np.random.default_rng(0).normal(size=(512, 32)))
    assert health["sd_ratio"] == pytest.approx(1.0, abs=0.05)
    assert health["rank_share"] > 0.9
    assert abs(health["mean_cosine"]) < 0.01


def test_equal_embeddings_ring_the_alarm_after_three_looks():
    generator = np.random.default_rng(0)
    collapsed = np.ones((64, 16)) + 1e-6 * generator.normal(size=(64, 16))
    alarm = CollapseAlarm()
    looks = [collapsed, collapsed, generator.normal(size=(64, 16)), collapsed, collapsed, collapsed]
    assert [alarm.look(embedding_health(look)) for look in looks] == [False, False, False, False, False, True]


def test_one_direction_has_rank_one():
    line = np.outer(np.random.default_rng(0).normal(size=200), np.ones(24))
    assert effective_rank(line) == pytest.approx(1.0, abs=1e-3)
    assert effective_rank(np.zeros((10, 4))) == 0.0


@pytest.mark.parametrize("records", [10, 400])  # fewer and more records than features
def test_rank_is_the_same_from_either_gram_matrix(records):
    values = np.random.default_rng(0).normal(size=(records, 40))
    singular = np.linalg.svd(values - values.mean(axis=0), compute_uv=False)
    share = singular**2 / (singular**2).sum()
    assert effective_rank(values) == pytest.approx(np.exp(-(share * np.log(share + 1e-300)).sum()), rel=1e-6)


def test_tokens_that_only_know_their_position_have_no_content():
    generator = np.random.default_rng(0)
    positions = generator.normal(size=(1, 20, 8))
    only_positions = np.repeat(positions, 30, axis=0)
    assert token_health(only_positions)["content"] == pytest.approx(0.0, abs=1e-12)
    assert only_positions.std() > 0.9  # the plain deviation does not notice
    no_positions = generator.normal(size=(300, 20, 8))
    assert token_health(no_positions)["content"] == pytest.approx(1.0, abs=0.01)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="two records"):
        embedding_health(np.zeros((1, 4)))
    with pytest.raises(ValueError, match="records, N, D"):
        token_health(np.zeros((4, 4)))
