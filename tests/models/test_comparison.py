"""The recipes of the comparison's baselines fit their configs, their preprocessing and one another."""

import pytest

from ecg_transformers.models.registry import get_method

METHODS = ["mtae", "mlae", "ecg_vit", "ecg_moco_v3", "cmsc"]
RECIPES = [(name, recipe) for name in METHODS for recipe in get_method(name).recipes]


@pytest.mark.parametrize(("name", "recipe"), RECIPES)
def test_every_recipe_builds_a_config_that_fits_its_preprocessing(name, recipe):
    method = get_method(name).with_recipe(recipe)
    config = method.config_class(**method.recipe(recipe).config)
    assert config.seq_len == method.preprocessing["seq_len"]
    assert config.sampling_rate == method.preprocessing["sampling_rate"]
    assert config.num_leads == len(method.preprocessing["lead_names"])
    if "patch_size" in method.preprocessing:
        assert config.patch_size == method.preprocessing["patch_size"]


@pytest.mark.parametrize(("name", "recipe"), RECIPES)
def test_every_stage_has_a_length_and_a_rate_and_known_config_fields(name, recipe):
    method = get_method(name)
    settings = method.recipe(recipe)
    for stage in (*method.stages, "finetune", "scratch"):
        hyper = settings.stage(stage)
        assert hyper.epochs or hyper.max_steps
        assert hyper.lr or hyper.base_lr
        assert set(hyper.config) <= set(method.config_class.__dataclass_fields__)


@pytest.mark.parametrize("name", METHODS)
def test_two_adjacent_segments_fit_into_ten_seconds(name):
    method = get_method(name)
    if method.view != "adjacent_segments":
        assert method.view in ("crop", "two_crops")
        return
    for recipe in method.recipes:
        settings = method.with_recipe(recipe).preprocessing
        assert 2 * settings["seq_len"] <= 10 * settings["sampling_rate"]


def test_the_base_sizes_are_those_of_the_comparison():
    """Published parameter counts of the base models, position tables of the decoder included."""
    import torch

    for name, expected in {"mtae": 89_371_788, "mlae": 90_739_806}.items():
        method = get_method(name)
        with torch.device("meta"):
            model = method.model_classes["pretraining"](method.config_class())
        count = sum(p.numel() for p in model.parameters()) + model.decoder.position_embeddings.numel()
        assert count == expected
