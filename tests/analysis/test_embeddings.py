import numpy as np
import pytest
import torch

from ecg_transformers.analysis import embeddings
from ecg_transformers.models.registry import get_method
from ecg_transformers.signal.leads import STANDARD_LEADS


def clustered(records=40, width=16, spread=0.3, seed=0):
    """Points whose limb leads lie around one direction and whose precordial leads lie around another."""
    generator = np.random.default_rng(seed)
    centres = np.repeat(generator.normal(size=(2, width)), 6, axis=0)
    return centres + spread * generator.normal(size=(records, 12, width))


def noise(records=40, width=16):
    return np.random.default_rng(1).normal(size=(records, 12, width))


def test_grouped_leads_are_told_from_noise():
    grouped = embeddings.lead_structure(clustered(), STANDARD_LEADS, permutations=200)
    assert grouped["silhouette_group"] > 0.5
    assert grouped["knn_group"] == 1.0
    assert grouped["knn_p_value"] == pytest.approx(1 / 201)
    nothing = embeddings.lead_structure(noise(), STANDARD_LEADS, permutations=200)
    assert abs(nothing["silhouette_group"]) < 0.05
    assert abs(nothing["knn_group"] - nothing["knn_chance"]) < 0.1
    assert nothing["knn_p_value"] > 0.01


def test_structure_is_judged_on_directions_not_lengths():
    points = clustered()
    scaled = points * np.random.default_rng(0).uniform(0.1, 10, points.shape[:2])[..., None]
    assert embeddings.lead_structure(points, STANDARD_LEADS, permutations=20) == pytest.approx(
        embeddings.lead_structure(scaled, STANDARD_LEADS, permutations=20)
    )


def test_silhouette_agrees_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is only in the bench extra")
    points = clustered(records=10, spread=1.0).reshape(-1, 16)
    groups = np.tile(np.arange(12) % 5, 10)
    expected = metrics.silhouette_score(points, groups, metric="cosine")
    assert embeddings.silhouette(points, groups) == pytest.approx(expected, abs=1e-9)


def test_neighbours_never_come_from_the_same_record():
    points, owners = noise(records=30).reshape(-1, 16), np.repeat(np.arange(30), 12)
    neighbours = embeddings.nearest_points(points, owners, 20)
    assert (owners[neighbours] != owners[:, None]).all()
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    similarity = np.where(owners[:, None] == owners, -np.inf, unit @ unit.T)
    assert set(neighbours[5]) == set(np.argsort(-similarity[5])[:20])


@pytest.mark.parametrize(
    ("points", "names", "message"),
    [
        (noise(), STANDARD_LEADS[:6], "one name a lead"),
        (noise()[:, :6], STANDARD_LEADS[:6], "limb and precordial"),
        (noise(records=1), STANDARD_LEADS, "too few"),
    ],
)
def test_lead_structure_says_what_it_needs(points, names, message):
    with pytest.raises(ValueError, match=message):
        embeddings.lead_structure(points, names)


@pytest.fixture(scope="module")
def model():
    method = get_method("st_mem")
    torch.manual_seed(0)
    return method.model_classes["base"](method.config_class(**method.tiny_config))


def test_controls_change_copies_and_not_the_model(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    controls = dict(embeddings.lead_structure_controls(model))
    assert list(controls) == ["trained", "random encoder", "lead embeddings zeroed", "lead embeddings permuted"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    table = "embeddings.lead_embeddings.weight"
    assert not controls["lead embeddings zeroed"].state_dict()[table].any()
    permuted = controls["lead embeddings permuted"].state_dict()[table]
    assert not torch.equal(permuted, before[table])
    torch.testing.assert_close(permuted.sum(dim=0), before[table].sum(dim=0))


def test_table_has_a_row_for_the_model_and_each_control(model):
    generator = torch.Generator().manual_seed(0)
    shape = (6, model.config.num_leads, model.config.seq_len)
    inputs = [{"input_values": torch.randn(shape, generator=generator)}]
    names = ["I", "V1", *STANDARD_LEADS[2:]][: model.config.num_leads]
    table = embeddings.lead_structure_table(model, lambda: inputs, names, k=3, permutations=10)
    assert len(table) == 4
    assert all(0 <= row["knn_group"] <= 1 for row in table.values())


def test_lead_points_average_over_time(model):
    points = embeddings.lead_points(model, [{"input_values": model.dummy_inputs["input_values"]}] * 2)
    assert points.shape == (4, model.config.num_leads, model.config.hidden_size)
    np.testing.assert_array_equal(points[:2], points[2:])


def test_cka_of_a_representation_with_itself_is_one_and_ignores_rotation_and_scale():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 20)) * np.arange(1, 21)
    rotation = np.linalg.qr(generator.normal(size=(20, 20)))[0]
    assert embeddings.linear_cka(x, x) == pytest.approx(1.0)
    assert embeddings.linear_cka(x, -3 * x @ rotation + 7) == pytest.approx(1.0)
    assert embeddings.linear_cka(x, x @ generator.normal(size=(20, 20))) < 0.95


@pytest.mark.parametrize("records", [20, 300])
def test_cka_of_independent_representations_is_about_zero_at_any_size(records):
    values = []
    for seed in range(10):
        generator = np.random.default_rng(seed)
        values.append(
            embeddings.linear_cka(generator.normal(size=(records, 200)), generator.normal(size=(records, 150)))
        )
    assert abs(np.mean(values)) < 0.05  # the biased estimator gives over .8 for 20 records


def test_cka_is_symmetric_and_nearly_the_same_in_batches():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(1024, 12))
    y = np.concatenate([x[:, :6], generator.normal(size=(1024, 5))], axis=1)
    assert embeddings.linear_cka(x, y) == pytest.approx(embeddings.linear_cka(y, x))
    assert embeddings.linear_cka(x, y, batch_size=256) == pytest.approx(embeddings.linear_cka(x, y, 1024), abs=0.03)


def test_cka_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match="same records"):
        embeddings.linear_cka(np.zeros((5, 2)), np.zeros((6, 2)))
    with pytest.raises(ValueError, match="same for all records"):
        embeddings.linear_cka(np.ones((50, 2)), noise(records=50)[:, 0])


def test_picture_prints_its_settings_and_scores(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is only in the bench extra")
    from ecg_transformers.analysis.figures import save_figure

    points = clustered(records=8).reshape(-1, 16)
    figure = embeddings.plot_embedding(points, list(STANDARD_LEADS) * 8, perplexity=10, scores={"knn_group": 0.9})
    written = [text.get_text() for text in figure.texts]
    assert any("perplexity 10, PCA start, seed 0, 96 points" in text for text in written)
    assert any("knn group  0.900" in text for text in written)
    assert save_figure(figure, tmp_path / "tsne.png").stat().st_size < 2_000_000
