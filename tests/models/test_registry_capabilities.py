"""What tools of the ecosystem ask of every registered class: adapters, compilation, export, checkpointing, copies."""

import copy
import functools
import io
import pickle
from unittest import mock

import pytest
import torch

from ecg_transformers.layers.attention import SelfAttention
from ecg_transformers.models import base
from ecg_transformers.models.registry import get_method, list_methods

CLASSES = [(name, role) for name in list_methods() for role in get_method(name).model_classes]
CAN_CHECKPOINT = [
    (name, role) for name, role in CLASSES if get_method(name).model_classes[role].supports_gradient_checkpointing
]
NO_DROPOUT = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "input_dropout_prob",
    "drop_path_rate",
    "downstream_drop_path_rate",
    "context_dropout",
    "classifier_dropout",
    "head_dropout",
    "hidden_dropout",
    "attention_dropout",
    "activation_dropout",
    "feat_proj_dropout",
)


def build(name, role, seed=0, **overrides):
    method = get_method(name)
    torch.manual_seed(seed)
    return method.model_classes[role](method.config_class(**{**method.tiny_config, **overrides})).eval()


def without_dropout(name):
    fields = get_method(name).config_class().to_dict()
    return dict.fromkeys((field for field in NO_DROPOUT if field in fields), 0.0)


def tensors(output):
    return {key: value for key, value in output.items() if isinstance(value, torch.Tensor)}


@torch.no_grad()
def run(model, **options):
    return model(**model.dummy_inputs, **options)


def assert_equal(found, expected, **tolerance):
    found, expected = tensors(found), tensors(expected)
    assert set(found) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, msg=lambda text, key=key: f"{key}: {text}", **tolerance)


def has_attention(name, role="base"):
    return any(isinstance(module, SelfAttention) for module in build(name, role).modules())


@functools.cache
def methods_with_attention():
    return [name for name in list_methods() if has_attention(name)]


def gradients(model):
    model.zero_grad()
    torch.manual_seed(1)
    output = model(**model.dummy_inputs)
    loss = output.loss if getattr(output, "loss", None) is not None else output[0].square().mean()
    loss.backward()
    return {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}


def lora_config(**options):
    from peft import LoraConfig

    return LoraConfig(r=2, lora_alpha=8, target_modules=["query", "value"], **options)


BY_LEAD = [name for name in list_methods() if build(name, "base").has_tokens_by_lead]


@pytest.mark.parametrize("name", BY_LEAD)
def test_tokens_of_leads_have_a_readout_by_lead(name):
    model = build(name, "classification", head_pooling="per_lead", num_labels=2)
    assert run(model).logits.shape == (2, 2)


@pytest.mark.parametrize("name", sorted(set(list_methods()) - set(BY_LEAD)))
def test_a_readout_by_lead_is_refused_before_a_record_is_seen_where_tokens_have_no_lead(name):
    with pytest.raises(ValueError, match="per_lead"):
        build(name, "classification", head_pooling="per_lead")


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("name", methods_with_attention())
def test_lora_on_query_and_value_trains_and_its_adapter_round_trips(tmp_path, name, no_network):
    from peft import PeftModel, get_peft_model

    options = {"num_labels": 3, "problem_type": "single_label_classification", **without_dropout(name)}
    base = build(name, "classification", **options)
    frozen = {key: value.clone() for key, value in base.state_dict().items()}
    model = get_peft_model(base, lora_config(modules_to_save=["classifier"]))
    projections = sum(isinstance(module, SelfAttention) for module in base.modules())
    adapted = [key for key, value in model.named_parameters() if value.requires_grad and "lora_A" in key]
    assert len(adapted) == 2 * projections
    assert any(value.requires_grad and "classifier" in key for key, value in model.named_parameters())

    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-2)
    losses = []
    for _ in range(6):
        loss = model(**base.dummy_inputs, labels=torch.tensor([0, 2])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    still = {
        key.removeprefix("base_model.model.").replace(".base_layer.", "."): value
        for key, value in model.named_parameters()
        if not value.requires_grad
    }
    moved = [key for key in still.keys() & frozen.keys() if not torch.equal(still[key], frozen[key])]
    assert (moved, len(still.keys() & frozen.keys()) > 4) == ([], True)

    trained = run_peft(model, base.dummy_inputs)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").is_file()
    again = PeftModel.from_pretrained(build(name, "classification", **options), tmp_path).eval()
    torch.testing.assert_close(run_peft(again, base.dummy_inputs), trained, rtol=0, atol=0)
    merged = again.merge_and_unload()
    torch.testing.assert_close(run_peft(merged, base.dummy_inputs), trained, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def run_peft(model, inputs):
    return model.eval()(**inputs).logits


def test_adapters_of_transformers_itself_can_be_added_switched_off_and_on(no_network):
    model = build("st_mem", "base")
    plain = run(model)
    model.add_adapter(lora_config(init_lora_weights=False))
    changed = run(model.eval())
    assert not torch.equal(changed.pooler_output, plain.pooler_output)
    model.disable_adapters()
    assert_equal(run(model), plain, rtol=0, atol=0)
    model.enable_adapters()
    assert_equal(run(model), changed, rtol=0, atol=0)


# networks that a method has beside its usual one
VARIANTS = [
    ("st_mem", {"lead_mode": "official_broadcast", "use_sep_embedding": False}),
    ("ecg_jepa", {"positions": "learnable", "cross_pattern_implementation": "structured"}),
    ("ecg_jepa", {"positions": "rotary", "cross_pattern_implementation": "dense"}),
    ("ecg_cpc", {"context": "s4"}),
    ("ecg_sl", {"position": "time", "norm": "group"}),
]


def compiled_in_one_graph(model):
    """What one graph must hold; torch traces recurrent layers only when told so (its flag is off for them)."""
    recurrent = any(isinstance(module, torch.nn.RNNBase) for module in model.modules())
    torch.compiler.reset()
    with torch.no_grad(), torch._dynamo.config.patch(allow_rnn=recurrent):
        output = torch.compile(model, fullgraph=True, backend="eager")(**model.dummy_inputs)
    torch.compiler.reset()
    return output


@pytest.mark.parametrize("name", list_methods())
def test_compiles_without_graph_breaks_and_gives_the_same(name):
    """With the eager backend: what is tested is that one graph holds the whole model, not torch's code generator."""
    model = build(name, "classification", num_labels=3)  # holds the encoder
    assert_equal(compiled_in_one_graph(model), run(model), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_other_networks_of_a_method_compile_without_graph_breaks_too(name, options):
    model = build(name, "base", **options)
    assert_equal(compiled_in_one_graph(model), run(model), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", list_methods())
def test_encoder_exports_as_one_graph_and_gives_the_same(name):
    model = build(name, "base")
    with torch.no_grad():
        program = torch.export.export(model, (), kwargs=model.dummy_inputs)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    loaded = torch.export.load(buffer).module()
    assert_equal(loaded(**model.dummy_inputs), run(model), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "role"), sorted(set(CLASSES) - set(CAN_CHECKPOINT)))
def test_gradient_checkpointing_is_refused_where_batch_norms_would_count_every_batch_twice(name, role):
    with pytest.raises(ValueError, match="does not support"):
        build(name, role).gradient_checkpointing_enable()


@pytest.mark.parametrize(("name", "role"), CAN_CHECKPOINT)
def test_gradient_checkpointing_gives_the_same_gradients(name, role):
    model = build(name, role).train()  # dropout and stochastic depth stay on: their draws must be repeated
    statistics = {key: value.clone() for key, value in model.named_buffers()}
    expected = gradients(model)
    for key, value in model.named_buffers():  # running statistics of the first pass are not part of the comparison
        value.copy_(statistics[key])
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    found = gradients(model)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-7, msg=lambda text, key=key: f"{key}: {text}")
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing


@pytest.mark.parametrize(("name", "role"), CLASSES)
def test_autocast_to_bfloat16_trains_near_the_float32_pass(name, role):
    model = build(name, role, **without_dropout(name)).train()
    expected = model(**model.dummy_inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**model.dummy_inputs)
    key = "loss" if getattr(output, "loss", None) is not None else "logits" if "logits" in output else "pooler_output"
    found, wanted = output[key].float(), expected[key]
    scale = wanted.abs().mean().clamp(min=0.1)
    assert (found - wanted).abs().mean() < 0.1 * scale, key
    found.square().mean().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients
    assert {tensor.dtype for tensor in (*gradients, *model.parameters())} == {torch.float32}
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize(("name", "role"), CLASSES)
def test_hidden_states_come_when_asked_for_and_change_nothing_else(name, role):
    model = build(name, role)
    plain, full = run(model), run(model, output_hidden_states=True)
    assert plain.hidden_states is None
    assert isinstance(full.hidden_states, tuple)
    assert_equal(full, plain, rtol=0, atol=0)
    assert len(full.hidden_states) >= 2
    assert all(torch.isfinite(state).all() for state in full.hidden_states)
    by_config = build(name, role, output_hidden_states=True)
    assert len(run(by_config).hidden_states) == len(full.hidden_states)


@pytest.mark.parametrize("name", list_methods())
def test_single_hidden_states_can_be_selected(name):
    """What a backbone is for: the features of chosen depths, and no others are kept."""
    model = build(name, "base")
    full = run(model, output_hidden_states=True).hidden_states
    chosen = run(model, output_hidden_states=[0, -1]).hidden_states
    assert len(chosen) == len(full)
    assert all(state is None for state in chosen[1:-1])
    for index in (0, -1):
        assert torch.equal(chosen[index], full[index])


@pytest.mark.parametrize("name", methods_with_attention())
def test_attention_weights_come_from_eager_attention_layer_by_layer(name):
    model = build(name, "base", attn_implementation="eager")
    output = run(model, output_attentions=True, output_hidden_states=True)
    layers = sum(isinstance(module, SelfAttention) for module in model.modules())
    assert len(output.attentions) == layers
    tokens = output.hidden_states[0].shape[1]  # special tokens attend too, even where the result leaves them out
    for weights in output.attentions:
        assert weights.shape == (2, model.config.num_attention_heads, tokens, tokens)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert run(model).attentions is None
    assert_equal(run(build(name, "base", attn_implementation="sdpa")), run(model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [name for name in list_methods() if "attentions" not in get_method(name).model_classes["base"]._can_record_outputs],
)
def test_a_network_without_attention_says_that_it_has_no_weights_to_give(name):
    model = build(name, "base")
    with mock.patch.object(base.logger, "warning_once") as warned:
        assert run(model).attentions is None
        warned.assert_not_called()
        run(model, output_attentions=True)
    assert all("has no attention layers" in call.args[0] for call in warned.call_args_list)
    warned.assert_called()


@pytest.mark.parametrize(("name", "role"), CLASSES)
def test_a_fresh_model_survives_pickling(name, role):
    """Data loaders and process pools send models; nothing of ours is ever read back from a file in this way."""
    model = build(name, role)
    again = pickle.loads(pickle.dumps(model))
    assert_equal(run(again), run(model), rtol=0, atol=0)
    frozen = {key for key, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {key for key, value in again.named_parameters() if not value.requires_grad}


@pytest.mark.parametrize(("name", "role"), CLASSES)
def test_a_deep_copy_shares_nothing(name, role):
    model = build(name, role)
    before = run(model)
    other = copy.deepcopy(model)
    assert_equal(run(other), before, rtol=0, atol=0)
    own = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    assert not own & {tensor.untyped_storage().data_ptr() for tensor in other.state_dict().values()}
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    other.config.num_labels = 5
    assert_equal(run(model), before, rtol=0, atol=0)
    assert model.config.num_labels != 5


@pytest.mark.parametrize("name", methods_with_attention())
def test_the_attention_of_a_copy_is_its_own(name):
    model = build(name, "base", attn_implementation="sdpa")
    other = copy.deepcopy(model)
    other.set_attn_implementation("eager")
    assert len(run(other, output_attentions=True).attentions) > 0
    assert model.config._attn_implementation != "eager"
    assert_equal(run(other), run(model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "role"), [case for case in CLASSES if case[1] == "pretraining"])
def test_a_model_that_moves_parameters_before_a_step_says_so(name, role):
    """Training then brings them back when the step fails."""
    model = build(name, role)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * parameter.requires_grad)  # a teacher that equals its student would not move
    before = copy.deepcopy(model.state_dict())
    model.training_step_started(0, 10)
    moved = any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert moved == model.moves_before_step
