"""What every registered method promises: registering a method is enough to be tested here."""

import copy
import inspect

import pytest
import torch
import transformers

import ecg_transformers as ecg
from ecg_transformers.models.auto import AUTO_CLASS_OF_ROLE
from ecg_transformers.models.registry import METHOD_NAMES, Recipe, get_method, list_methods
from ecg_transformers.models.tables import method_table

CLASSES = [(name, role) for name in list_methods() for role in get_method(name).model_classes]
HEADS = [(name, role) for name, role in CLASSES if role != "base"]


def class_of(name, role):
    return get_method(name).model_classes[role]


def build(name, role, seed=0, **overrides):
    method = get_method(name)
    torch.manual_seed(seed)
    return method.model_classes[role](method.config_class(**{**method.tiny_config, **overrides})).eval()


def tensors(output):
    return {key: value for key, value in output.items() if isinstance(value, torch.Tensor)}


@torch.no_grad()
def run(model, inputs=None):
    return model(**(inputs or model.dummy_inputs))


@pytest.mark.parametrize("name", list_methods())
def test_entry_is_complete(name):
    method = get_method(name)
    assert method.name == name == method.config_class.model_type
    assert {"base", "classification"} <= set(method.model_classes)
    assert ("pretraining" in method.model_classes) == bool(method.stages)
    assert "published" in method.recipes
    assert all(isinstance(recipe, Recipe) and recipe.description for recipe in method.recipes.values())
    assert method.paper
    assert method.summary.endswith(".")
    for recipe in method.recipes.values():
        unknown = set(recipe.config) - set(method.config_class().to_dict())
        assert not unknown, f"recipe sets config fields that do not exist: {unknown}"
        for stage in recipe.stages.values():
            assert not set(stage.config) - set(method.config_class().to_dict())


@pytest.mark.parametrize("name", list_methods())
def test_presets_build_an_extractor(name):
    method = get_method(name)
    extractor = method.extractor_class.for_method(name)
    assert extractor.to_dict()
    for recipe in method.recipes:
        assert method.extractor_class(**method.preprocessing | method.recipe(recipe).preprocessing)


def test_the_table_promises_conversion_only_where_weights_were_released():
    rows = {row.split("`")[1]: row.split("|")[4].strip() for row in method_table().splitlines()[2:]}
    assert rows == {name: "yes" if get_method(name).has_official_weights else "no" for name in list_methods()}
    for name in list_methods():
        method = get_method(name)
        assert not (method.has_official_weights and "no weights were released" in method.licence)
        assert method.convert or not method.has_official_weights


def test_an_unknown_method_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="did you mean 'st_mem'"):
        ecg.get_method("st_men")


def test_every_name_of_the_package_face_can_be_imported():
    assert [name for name in ecg.__all__ if not hasattr(ecg, name)] == []
    assert set(METHOD_NAMES) == set(ecg.list_methods())


@pytest.mark.parametrize(("name", "role"), CLASSES)
def test_saving_and_loading_is_bit_equal(tmp_path, name, role):
    model = build(name, role)
    before = tensors(run(model))
    model.save_pretrained(tmp_path)
    auto_class = getattr(transformers, AUTO_CLASS_OF_ROLE[role])
    again, info = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    assert type(again) is type(model)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for key, value in tensors(run(again.eval(), model.dummy_inputs)).items():
        assert torch.equal(value, before[key]), key
    frozen = {key for key, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {key for key, value in again.named_parameters() if not value.requires_grad}
    for file in ("config.json", "model.safetensors", "preprocessor_config.json", "hub_shim.py", "README.md"):
        assert (tmp_path / file).is_file(), file
    assert type(transformers.AutoFeatureExtractor.from_pretrained(tmp_path)) is get_method(name).extractor_class
    assert transformers.AutoConfig.from_pretrained(tmp_path).to_dict() == again.config.to_dict()


@pytest.mark.parametrize(("name", "role"), CLASSES)
def test_a_record_does_not_see_the_others_of_its_batch(name, role):
    if role == "pretraining":
        pytest.skip("the loss of a pre-training class pools over its batch; its encoder is tested here as base class")
    model = build(name, role)
    inputs = model.dummy_inputs
    together = run(model, inputs)
    for index in range(2):
        alone = run(model, {key: value[index : index + 1] for key, value in inputs.items()})
        for key, value in tensors(together).items():
            assert torch.allclose(value[index : index + 1], alone[key], atol=1e-5), key


@pytest.mark.parametrize(("name", "role"), CLASSES)
def test_models_do_not_share_their_config(name, role):
    method = get_method(name)
    config = method.config_class(**method.tiny_config)
    frozen = copy.deepcopy(config.to_dict())
    model = method.model_classes[role](config)
    model.set_attn_implementation("eager")
    run(model.eval())
    assert config.to_dict() | {"_attn_implementation": None} == frozen | {"_attn_implementation": None}


@pytest.mark.parametrize(("name", "role"), [pair for pair in CLASSES if pair[1] == "pretraining"])
def test_pretraining_loss_reaches_every_trainable_parameter(name, role):
    model = build(name, role).train()
    model.training_step_started(0, 10)
    output = model(**model.dummy_inputs)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    trained = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert [key for key, grad in trained.items() if grad is None or not torch.isfinite(grad).all()] == []
    model.training_step_finished(0, 10)
    assert all(isinstance(value, float) for value in model.monitor(output).values())


@pytest.mark.parametrize(("name", "role"), [pair for pair in CLASSES if pair[1] == "pretraining"])
def test_noise_handed_in_decides_everything(name, role):
    model = build(name, role)
    inputs = model.dummy_inputs
    assert torch.equal(run(model, inputs).loss, run(model, inputs).loss)
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    first, second = (model.draw_sample_noise(generator) for generator in generators)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("name", "role"), [pair for pair in CLASSES if pair[1] == "pretraining"])
def test_an_encoder_alone_loads_into_the_pretraining_class(tmp_path, name, role):
    model = build(name, role)
    base = getattr(model, model.base_model_prefix)
    base.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    reloaded = getattr(again, model.base_model_prefix).state_dict()
    for key, value in base.state_dict().items():
        assert torch.equal(value, reloaded[key]), key
    assert all(torch.isfinite(value).all() for value in again.state_dict().values() if value.is_floating_point())


@pytest.mark.parametrize("name", list_methods())
def test_classification_averages_logits_and_probabilities_over_crops(name):
    model = build(name, "classification", num_labels=3, problem_type="multi_label_classification")
    inputs = model.dummy_inputs
    if model.main_input_name != "input_values":
        pytest.skip("a record is one sequence of beats here, there are no crops to average")
    x = torch.stack([inputs["input_values"], inputs["input_values"].flip(0)], dim=1)  # (2, 2 crops, L, T)
    with torch.no_grad():
        crops = model(x, labels=torch.ones(2, 3))
        single = [model(x[:, index]) for index in range(2)]
    assert torch.allclose(crops.logits, (single[0].logits + single[1].logits) / 2, atol=1e-6)
    expected = (single[0].logits.sigmoid() + single[1].logits.sigmoid()) / 2
    assert torch.allclose(crops.probabilities, expected, atol=1e-6)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(crops.logits, torch.ones(2, 3))
    assert torch.allclose(crops.loss, loss)


@pytest.mark.parametrize("name", list_methods())
@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification", "regression"])
def test_every_kind_of_problem_has_its_loss(name, problem):
    model = build(name, "classification", num_labels=1 if problem == "regression" else 3, problem_type=problem)
    labels = {
        "single_label_classification": torch.tensor([0, 2]),
        "multi_label_classification": torch.tensor([[1.0, 0, 0], [0, 1, 1]]),
        "regression": torch.tensor([60.0, 75.0]),
    }[problem]
    output = model(**model.dummy_inputs, labels=labels)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert output.probabilities.shape == output.logits.shape


@pytest.mark.parametrize(
    ("name", "role"), [pair for pair in CLASSES if class_of(*pair).main_input_name == "input_values"]
)
def test_lead_indices_are_an_argument_of_every_signal_model(name, role):
    assert "lead_indices" in inspect.signature(class_of(name, role).forward).parameters


@pytest.mark.parametrize("name", list_methods())
def test_leaving_the_table_of_leads_is_an_error(name):
    model = build(name, "base")
    if model.main_input_name != "input_values":
        pytest.skip("this model takes beats, whose leads the feature extractor chooses")
    inputs = model.dummy_inputs
    wrong = list(range(1, model.config.num_leads + 1))
    with pytest.raises((ValueError, IndexError)):
        model(**inputs, lead_indices=wrong)
    with pytest.raises(ValueError, match="lead"):
        model(**inputs, lead_indices=[0])


@pytest.mark.parametrize(("name", "role"), CLASSES)
def test_bfloat16_weights_load_and_run(tmp_path, name, role):
    model = build(name, role)
    model.save_pretrained(tmp_path)
    half = type(model).from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert half.dtype == torch.bfloat16
    inputs = {k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in model.dummy_inputs.items()}
    assert all(torch.isfinite(value).all() for value in tensors(run(half, inputs)).values())


@pytest.mark.parametrize(("name", "role"), HEADS)
def test_device_map_and_low_memory_loading_equal_plain_loading(tmp_path, name, role):
    model = build(name, role)
    model.save_pretrained(tmp_path)
    mapped = type(model).from_pretrained(tmp_path, device_map="cpu", low_cpu_mem_usage=True)
    for key, value in model.state_dict().items():
        assert torch.equal(value, mapped.state_dict()[key]), key


@pytest.mark.parametrize("name", list_methods())
def test_a_hostile_config_is_refused(name):
    method = get_method(name)
    length = "beat_len" if "beat_len" in method.config_class().to_dict() else "seq_len"
    hostile = {"hidden_size": 10**9, "num_leads": -1, length: 10**12, "num_hidden_layers": 10**6}
    known = sorted(set(hostile) & set(method.config_class().to_dict()))
    assert len(known) > 1
    for field in known:
        with pytest.raises(ValueError):  # noqa: PT011  (each class words its own sentence)
            method.config_class(**{**method.tiny_config, field: hostile[field]})


@pytest.mark.parametrize("name", list_methods())
def test_a_field_that_is_nearly_a_known_one_is_told_and_others_pass(caplog, name):
    config = get_method(name).config_class
    config(num_leeds=5)
    assert [record.getMessage() for record in caplog.records] == [
        f"{config.__name__} has no field 'num_leeds', which is not read: did you mean 'num_leads'?"
    ]
    caplog.clear()
    config.from_dict({**config().to_dict(), "num_labels": 2, "hidden_act": "gelu", "tokenizer_class": None, "seq": 3})
    assert not caplog.records


@pytest.mark.parametrize("name", list_methods())
def test_a_problem_type_that_transformers_does_not_know_is_refused(name):
    method = get_method(name)
    with pytest.raises(ValueError, match="did you mean 'multi_label_classification'"):
        method.config_class(**method.tiny_config, problem_type="multilabel")


@pytest.mark.parametrize("name", list_methods())
def test_a_head_norm_that_no_checkpoint_holds_starts_at_zero_and_one(tmp_path, name):
    build(name, "base").save_pretrained(tmp_path)
    classifier = get_method(name).model_classes["classification"]
    model = classifier.from_pretrained(tmp_path, head_norm="batch_norm")
    assert torch.equal(model.head_norm.running_mean, torch.zeros_like(model.head_norm.running_mean))
    assert torch.equal(model.head_norm.running_var, torch.ones_like(model.head_norm.running_var))


def test_the_kind_of_problem_is_settled_before_probabilities_are_made():
    model = build("st_mem", "classification", num_labels=3)
    labels = torch.tensor([[1, 0, 1], [0, 1, 1]])
    first, second = (model(**model.dummy_inputs, labels=labels).probabilities for _ in range(2))
    assert torch.equal(first, second)
    assert float((first.sum(-1) - 1).abs().min()) > 1e-3  # sigmoids, not a softmax


@pytest.mark.parametrize("name", ["st_mem", "mtae", "mlae"])
def test_a_mask_ratio_outside_its_range_is_refused(name):
    model = build(name, "pretraining")
    for ratio in (1.0, 1.5, -0.2):
        with pytest.raises(ValueError, match="mask_ratio"):
            model(model.dummy_inputs["input_values"], mask_ratio=ratio)
