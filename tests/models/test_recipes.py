"""The recipes of the comparison's baselines fit their configs, their preprocessing and one another."""

import pytest

from ecg_transformers.models.registry import get_method

METHODS = ["mtae", "mlae", "ecg_vit", "ecg_moco_v3", "cmsc"]
RECIPES = [(name, recipe) for name in METHODS for recipe in get_method(name).recipes]


def preset(method, recipe):
    return method.preprocessing | method.recipe(recipe).preprocessing


@pytest.mark.parametrize(("name", "recipe"), RECIPES)
def test_every_recipe_builds_a_config_that_fits_its_preprocessing(name, recipe):
    method = get_method(name)
    config = method.config_class(**method.recipe(recipe).config)
    preprocessing = preset(method, recipe)
    for setting in ("seq_len", "sampling_rate"):
        assert getattr(config, setting) == preprocessing[setting]
    assert config.num_leads == len(preprocessing["lead_names"])
    assert preprocessing.get("patch_size") in (None, getattr(config, "patch_size", None))


@pytest.mark.parametrize(("name", "recipe"), RECIPES)
def test_every_stage_has_a_length_and_a_rate_and_known_config_fields(name, recipe):
    method = get_method(name)
    settings = method.recipe(recipe)
    for stage in (*method.stages, "finetune", "scratch"):
        hyper = settings.stage(stage)
        assert hyper.epochs or hyper.max_steps
        assert hyper.lr or hyper.base_lr
        assert set(hyper.config) <= set(method.config_class.__dataclass_fields__)


@pytest.mark.parametrize(
    ("name", "recipe"), [pair for pair in RECIPES if get_method(pair[0]).view == "adjacent_segments"]
)
def test_two_adjacent_segments_fit_into_ten_seconds(name, recipe):
    settings = preset(get_method(name), recipe)
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


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("saved", [False, True], ids=["by name", "sizes of a checkpoint"])
def test_training_from_scratch_starts_as_torch_does(name, saved):
    """As the released code does, whatever the pre-training started from."""
    import torch

    method = get_method(name)
    stage = dict(method.recipe("published").stage("scratch").config)
    fields = method.config_class(**method.tiny_config).to_dict() if saved else dict(method.tiny_config)
    torch.manual_seed(0)
    model = method.model_classes["classification"](method.config_class.from_dict({**fields, **stage}))
    encoder = (
        getattr(model.base_model, "encoder", model.base_model) if name in ("ecg_moco_v3", "cmsc") else model.base_model
    )
    assert encoder.embeddings.position_embeddings.std().item() == pytest.approx(1.0, abs=0.1)
    assert encoder.embeddings.cls_token.std().item() == pytest.approx(1.0, abs=0.4)
    assert encoder.encoder.layer[0].intermediate.bias.any()


def test_a_backbone_without_a_choice_of_starts_goes_its_own_way():
    method, resnet = get_method("cmsc"), get_method("ecg_resnet")
    stage = method.recipe("published").stage("scratch").config
    config = method.config_class(backbone_config={"model_type": "ecg_resnet", **resnet.tiny_config}, **stage)
    assert "initializer" not in config.backbone_config


def test_contrastive_baselines_augment_their_views():
    for name in ("ecg_moco_v3", "cmsc"):
        assert get_method(name).recipe("published").stage("pretrain").augmentation == "randaugment"
