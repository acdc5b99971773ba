"""A checkpoint that does not fit is an error at every door: the classes, the Auto classes, the pipelines."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ecg_transformers.models.auto import AUTO_CLASS_OF_ROLE
from ecg_transformers.models.registry import get_method, list_methods

CLASSES = [(name, role) for name in list_methods() for role in get_method(name).model_classes]


def saved(name, role, folder):
    method = get_method(name)
    torch.manual_seed(0)
    model = method.model_classes[role](method.config_class(**method.tiny_config))
    model.save_pretrained(folder)
    return model


def rewrite(folder, change):
    path = folder / "model.safetensors"
    tensors = change({key: value.clone() for key, value in load_file(path).items()})
    save_file(tensors, path, metadata={"format": "pt"})


def doors(model, role):
    return (type(model), getattr(transformers, AUTO_CLASS_OF_ROLE[role]), transformers.AutoModel)


@pytest.mark.parametrize(("name", "role"), CLASSES)
def test_names_with_a_prefix_never_give_random_weights(tmp_path, name, role):
    model = saved(name, role, tmp_path)
    for prefix in ("wrapped.", "module."):
        rewrite(tmp_path, lambda tensors, p=prefix: {f"{p}{key}": value for key, value in tensors.items()})
        for door in doors(model, role):
            with pytest.raises(ValueError, match=r"none of the|lacks \d+ of the"):
                door.from_pretrained(tmp_path)


@pytest.mark.parametrize(("name", "role"), CLASSES)
def test_half_of_an_encoder_is_refused(tmp_path, name, role):
    model = saved(name, role, tmp_path)
    prefix = "" if role == "base" else f"{model.base_model_prefix}."
    own = sorted(key for key in load_file(tmp_path / "model.safetensors") if key.startswith(prefix))
    lost = set(own[::2])
    rewrite(tmp_path, lambda tensors: {key: value for key, value in tensors.items() if key not in lost})
    for door in doors(model, role):
        with pytest.raises(ValueError, match="encoder tensors"):
            door.from_pretrained(tmp_path)


@pytest.mark.parametrize(("name", "role"), [(name, role) for name, role in CLASSES if role != "base"])
def test_half_of_a_head_is_refused(tmp_path, name, role):
    model = saved(name, role, tmp_path)
    heads = {}
    for key in load_file(tmp_path / "model.safetensors"):
        if not key.startswith(f"{model.base_model_prefix}."):
            heads.setdefault(key.split(".")[0], []).append(key)
    head, keys = max(heads.items(), key=lambda item: len(item[1]))
    if len(keys) == 1:
        pytest.skip("its heads have one tensor each")
    rewrite(tmp_path, lambda tensors: {key: value for key, value in tensors.items() if key != keys[0]})
    with pytest.raises(ValueError, match=rf"lacks 1 of the \d+ tensors of the {head} of"):
        type(model).from_pretrained(tmp_path)


@pytest.mark.parametrize("name", list_methods())
def test_tensors_of_other_shapes_are_refused_even_when_asked_to_be_ignored(tmp_path, name):
    model = saved(name, "base", tmp_path)
    key = next(key for key, value in load_file(tmp_path / "model.safetensors").items() if value.ndim > 1)
    rewrite(tmp_path, lambda tensors: {**tensors, key: torch.zeros(*(size + 1 for size in tensors[key].shape))})
    with pytest.raises(ValueError, match="in other shapes"):
        type(model).from_pretrained(tmp_path, ignore_mismatched_sizes=True)


def test_a_shallower_config_does_not_drop_layers(tmp_path):
    saved("st_mem", "base", tmp_path)
    with pytest.raises(ValueError, match="has no place"):
        transformers.AutoModel.from_pretrained(tmp_path, num_hidden_layers=1)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ValueError, match="lacks"):
        transformers.AutoModel.from_pretrained(tmp_path)


def test_a_pipeline_does_not_run_on_random_weights(tmp_path):
    saved("ecg_net1d", "classification", tmp_path)
    rewrite(tmp_path, lambda tensors: {f"module.{key}": value for key, value in tensors.items()})
    for task in ("ecg-classification", "ecg-feature-extraction"):
        with pytest.raises(ValueError, match=r"none of the|lacks \d+ of the"):
            transformers.pipeline(task, model=str(tmp_path))


@pytest.mark.parametrize("name", list_methods())
def test_a_head_may_be_new_and_a_head_may_be_left_behind(tmp_path, name):
    model = saved(name, "base", tmp_path / "base")
    classes = get_method(name).model_classes
    classifier = classes["classification"].from_pretrained(tmp_path / "base")
    assert classifier.head_is_new
    classifier.save_pretrained(tmp_path / "whole")
    again = classes["base"].from_pretrained(tmp_path / "whole")
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
