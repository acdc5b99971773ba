"""Parity with the published CPC and the properties of our class."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from ecg_transformers.hub.folders import convert_to_folder
from ecg_transformers.models.ecg_cpc.configuration_ecg_cpc import ECGCPCConfig
from ecg_transformers.models.ecg_cpc.convert_ecg_cpc import convert_ecg_cpc
from ecg_transformers.models.ecg_cpc.modeling_ecg_cpc import (
    ECGCPCForPreTraining,
    ECGCPCForSequenceClassification,
    ECGCPCModel,
)
from ecg_transformers.models.shared.state_dicts import CheckpointError

FORMS = {
    "lstm": {},
    "gru": {"context": "gru"},
    "mlp": {"conv_norm": False, "projection_hidden_size": 16, "projection_bias": True, "hidden_size": 20},
    "s4": {"context": "s4", "state_size": 4, "context_dropout": 0.0},
    "strided": {"conv_kernels": [10, 4], "conv_strides": [2, 2]},
    "s4_strided": {"context": "s4", "conv_kernels": [3, 1], "conv_strides": [2, 1]},
}


def small_config(**overrides):
    base = {"num_leads": 3, "seq_len": 64, "sampling_rate": 100, "conv_dims": [16, 16], "conv_kernels": [1, 1]}
    base |= {"conv_strides": [1, 1], "hidden_size": 16, "steps_predicted": 4, "num_negatives": 7}
    return ECGCPCConfig(**{**base, **overrides})


def small_model(model_class=ECGCPCForPreTraining, seed=0, **overrides):
    torch.manual_seed(seed)
    return model_class(small_config(**overrides)).eval()


def parity_arguments(name, parity):
    settings = parity.config("st_mem", f"cpc_{name}_io")
    own = settings["negatives_from_same_seq_only"]
    return {
        "conv_strides": settings["strides"],
        "steps_predicted": settings["steps_predicted"],
        "num_negatives": settings["n_false_negatives"],
        "negatives": "same_sequence" if own else "everywhere",
        "seq_len": settings["length"],
    }


def published_pass(parity, name, mode):
    """The model after forward and backward pass of a published case, its output, and the case's tensors."""
    tensors = parity("st_mem", f"cpc_{name}_io")
    model = convert_ecg_cpc(parity("st_mem", f"cpc_{name}_weights"), **parity_arguments(name, parity))
    assert isinstance(model, ECGCPCForPreTraining)
    model.train(mode == "train")
    out = model(tensors["input"], negative_indices=tensors[f"{mode}.negative_flat_index"])
    out.loss.backward()
    return model, out, tensors


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", ["fc", "conv"])
def test_loss_accuracy_and_gradients_equal_the_published_ones(parity, name, mode):
    model, out, tensors = published_pass(parity, name, mode)
    torch.testing.assert_close(out.loss, tensors[f"{mode}.loss"], rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(out.accuracy, tensors[f"{mode}.acc"])
    gradients = {
        "encoder.0.0.weight": model.ecg_cpc.encoder[0][0].weight,
        "rnn.weight_ih_l0": model.ecg_cpc.layers[0].rnn.weight_ih_l0,
        "proj.weight": model.projection.hidden.weight if name == "conv" else model.projection.output.weight,
    }
    for key, parameter in gradients.items():
        torch.testing.assert_close(parameter.grad, tensors[f"{mode}.grad.{key}"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["fc", "conv"])
def test_what_the_encoder_gives_equals_the_published_one(parity, name):
    _, out, tensors = published_pass(parity, name, "eval")
    torch.testing.assert_close(out.encoded, tensors["eval.encoded"], atol=1e-5, rtol=0)
    torch.testing.assert_close(out.last_hidden_state, tensors["eval.rnn_out"], atol=1e-5, rtol=0)
    torch.testing.assert_close(out.predicted, tensors["eval.predicted"], atol=1e-5, rtol=0)


def test_running_statistics_after_a_pass_equal_the_published_ones(parity):
    model, _, tensors = published_pass(parity, "fc", "train")
    for index in range(4):
        norm = model.ecg_cpc.encoder[index][1]
        key = f"after_train.encoder.{index}.1"
        torch.testing.assert_close(norm.running_mean, tensors[f"{key}.running_mean"], atol=1e-5, rtol=0)
        torch.testing.assert_close(norm.running_var, tensors[f"{key}.running_var"], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("head", ["weights.", "linear_eval.weights."])
@pytest.mark.parametrize("name", ["fc", "conv"])
def test_both_published_heads_give_the_published_logits(parity, name, head):
    tensors = parity("st_mem", f"cpc_{name}_classifier")
    state = {k: v for k, v in parity("st_mem", f"cpc_{name}_weights").items() if not k.startswith("proj")}
    state |= {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}
    model = convert_ecg_cpc(state, conv_strides=parity_arguments(name, parity)["conv_strides"])
    assert isinstance(model, ECGCPCForSequenceClassification)
    expected = tensors["logits" if head == "weights." else "linear_eval.logits"]
    torch.testing.assert_close(model(tensors["input"]).logits, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_s4_files_convert_alone(parity):
    for name, model_class in (("s4_causal", ECGCPCModel), ("s4_bidir", ECGCPCForSequenceClassification)):
        tensors = parity("st_mem", name)
        state = {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}
        model = convert_ecg_cpc(state)
        assert type(model) is model_class
        assert model.config.s4_max_length == tensors["x"].shape[1]
        half = tensors["x"].shape[1] // 2
        for x, y in ((tensors["x"], tensors["y"]), (tensors["x"][:, :half], tensors["y_short"])):
            out = model(x.transpose(1, 2))
            result = out.last_hidden_state if model_class is ECGCPCModel else out.logits
            torch.testing.assert_close(result, y, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(("kind", "layers"), [(torch.nn.LSTM, 1), (torch.nn.LSTM, 3), (torch.nn.GRU, 2)])
def test_published_layout_of_any_size_converts(kind, layers, norm):
    torch.manual_seed(0)
    encoder = torch.nn.Sequential()
    for before, after, kernel in ((5, 10, 7), (10, 14, 1)):
        parts = [torch.nn.Conv1d(before, after, kernel, 3 if kernel > 1 else 1, (kernel - 1) // 2, bias=not norm)]
        parts += [torch.nn.BatchNorm1d(after)] if norm else []
        encoder.append(torch.nn.Sequential(*parts, torch.nn.ReLU()))
    published = torch.nn.ModuleDict({"encoder": encoder, "rnn": kind(14, 6, layers, batch_first=True)})
    published["proj"] = torch.nn.Linear(6, 14, bias=False)
    model = convert_ecg_cpc(published.eval().state_dict(), conv_strides=[3, 1], seq_len=50, steps_predicted=2)
    x = torch.randn(2, 5, 50)
    encoded = encoder(x).transpose(1, 2)
    context = published["rnn"](encoded)[0]
    out = model(x)
    torch.testing.assert_close(out.encoded, encoded, atol=1e-5, rtol=0)
    torch.testing.assert_close(out.last_hidden_state, context, atol=1e-5, rtol=0)
    torch.testing.assert_close(out.predicted, published["proj"](context), atol=1e-5, rtol=0)


@torch.no_grad()
def test_convolutions_before_s4_layers_convert_below_any_prefix(parity):
    stack = {
        k.removeprefix("weights."): v for k, v in parity("st_mem", "s4_causal").items() if k.startswith("weights.")
    }
    encoder = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Conv1d(3, 12, 3, 2, 1), torch.nn.ReLU()))
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    state |= {f"predictor.{k}": v for k, v in stack.items()} | {"proj.weight": torch.randn(12, 12)}
    model, alone = convert_ecg_cpc(state), convert_ecg_cpc(stack)
    assert isinstance(model, ECGCPCForPreTraining)
    assert (model.config.conv_strides, model.config.seq_len, model.config.steps_predicted) == ([2], 120, 14)
    x = torch.randn(2, 3, 120)
    torch.testing.assert_close(model(x).last_hidden_state, alone(encoder(x)).last_hidden_state)


def test_a_converted_s4_file_reads_records_at_the_published_rate(parity, tmp_path):
    stack = {k: v for k, v in parity("st_mem", "s4_causal").items() if k.startswith("weights.")}
    encoder = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Conv1d(12, 12, 3, 2, 1), torch.nn.ReLU()))
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()} | {"proj.weight": torch.randn(12, 12)}
    state |= {f"predictor.{k.removeprefix('weights.')}": v for k, v in stack.items()}
    save_file(state, tmp_path / "s4.safetensors")
    for folder, overrides, rate in (("as_published", {}, 240), ("otherwise", {"sampling_rate": 120}, 120)):
        convert_to_folder("ecg_cpc", tmp_path / "s4.safetensors", tmp_path / folder, **overrides)
        saved = json.loads((tmp_path / folder / "preprocessor_config.json").read_text())
        assert (saved["sampling_rate"], saved["seq_len"]) == (rate, 120)


def test_every_key_is_used_or_named(parity):
    state = parity("st_mem", "cpc_fc_weights")
    with pytest.raises(CheckpointError, match=r"stray\.weight"):
        convert_ecg_cpc({**state, "stray.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"rnn\.bias_hh_l1"):
        convert_ecg_cpc({k: v for k, v in state.items() if k != "rnn.bias_hh_l1"})


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
def test_context_does_not_see_beyond_the_receptive_field(form):
    model = small_model(ECGCPCModel, **FORMS[form])
    x = torch.randn(1, 3, 64)
    steps = model.config.encoded_length(64)
    before = model(x).last_hidden_state
    for step in (3, steps // 2):
        last = model.config.receptive_range(step)[1]
        changed = x.clone()
        changed[..., last + 1 :] += 3.0
        after = model(changed).last_hidden_state
        torch.testing.assert_close(after[:, : step + 1], before[:, : step + 1], atol=1e-5, rtol=0)
        changed = x.clone()
        changed[..., last] += 3.0
        assert (model(changed).last_hidden_state[:, step] - before[:, step]).abs().max() > 1e-6


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("negatives", ["same_sequence", "everywhere"])
def test_loss_starts_at_the_log_of_the_number_of_candidates(form, negatives):
    model = small_model(**FORMS[form], negatives=negatives)
    loss = model.train()(torch.randn(4, 3, 64)).loss
    predictions = model.config.encoded_length(64) - 4
    assert float(loss) / predictions == pytest.approx(math.log(8), rel=0.02)


def test_mean_reduction_is_the_sum_over_the_number_of_predictions():
    total, mean = small_model(), small_model(loss_reduction="mean")
    inputs = total.dummy_inputs
    torch.testing.assert_close(mean(**inputs).loss * 60, total(**inputs).loss)


@pytest.mark.parametrize("negatives", ["same_sequence", "everywhere"])
def test_negatives_never_hold_the_time_of_the_positive(negatives):
    model, generator = small_model(negatives=negatives), torch.Generator().manual_seed(0)
    drawn = [model.draw_sample_noise(generator) for _ in range(5)]
    noise = {key: torch.stack([draw[key] for draw in drawn]) for key in drawn[0]}
    assert noise["negative_times"].shape == (5, 60, 7)
    indices = model.negatives(torch.zeros(5, 3, 64), noise["negative_times"], noise.get("negative_records"))
    assert indices.shape == (60, 5, 7)
    records = [set((indices[:, row] // 64).flatten().tolist()) for row in range(5)]
    assert records == [set(range(5)) if negatives == "everywhere" else {row} for row in range(5)]
    positive, times = torch.arange(60) + 4, (indices % 64).flatten(1)
    assert (times != positive[:, None]).all()
    assert times.min() >= 0
    assert times.max() < 64


@torch.no_grad()
def test_two_halves_of_a_batch_have_the_loss_of_the_whole():
    model = small_model()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(6, 3, 64)
    times = torch.stack([model.draw_sample_noise(generator)["negative_times"] for _ in range(6)])
    whole = model(x, negative_times=times).loss
    halves = [model(x[part], negative_times=times[part]).loss for part in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(sum(halves) / 2, whole, rtol=1e-6, atol=1e-5)


@torch.no_grad()
def test_times_are_the_flat_indices_of_the_own_record():
    model, x = small_model(), torch.randn(2, 3, 64)
    times = torch.stack([model.draw_sample_noise(torch.Generator())["negative_times"] for _ in range(2)])
    flat = times.transpose(0, 1) + torch.tensor([0, 64])[None, :, None]
    torch.testing.assert_close(model(x, negative_times=times).loss, model(x, negative_indices=flat).loss)


def test_one_batch_can_be_learned():
    model = small_model(context="s4", context_dropout=0.0).train()
    inputs = model.dummy_inputs
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(model(**inputs).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("form", FORMS)
def test_every_parameter_gets_a_finite_gradient(form):
    model = small_model(**FORMS[form]).train()
    model(**model.dummy_inputs).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_horizon_in_milliseconds_keeps_its_length_at_any_rate():
    at_100, at_250 = (ECGCPCConfig(sampling_rate=rate, horizon_ms=120) for rate in (100, 250))
    assert (at_100.steps_predicted, at_250.steps_predicted) == (12, 30)
    strided = ECGCPCConfig(sampling_rate=240, horizon_ms=120, conv_kernels=[3, 1, 1, 1], conv_strides=[2, 1, 1, 1])
    assert strided.steps_predicted == 14


def test_encoded_length_and_receptive_range_follow_the_convolutions():
    config = ECGCPCConfig(conv_kernels=[10, 4, 4, 4], conv_strides=[2, 2, 2, 2], seq_len=400)
    assert config.encoded_length(400) == 25
    first, last = config.receptive_range(0)
    assert last - first + 1 == 10 + 3 * 2 + 3 * 4 + 3 * 8
    shifted = config.receptive_range(3)
    assert shifted == (first + 3 * 16, last + 3 * 16)


@torch.no_grad()
def test_classifier_offers_pooled_published_and_attention_heads():
    x = torch.randn(2, 3, 64)
    widths = {}
    for name, options in {
        "linear": {},
        "mean": {"pooling": ["mean"]},
        "published": {"classifier_hidden_sizes": [10]},
        "attention": {"head_pooling": "attention"},
    }.items():
        model = small_model(ECGCPCForSequenceClassification, num_labels=5, **options)
        out = model(x)
        assert out.logits.shape == (2, 5)
        assert model(x[:, None].expand(-1, 3, -1, -1)).probabilities.shape == (2, 5)
        widths[name] = model.classifier.in_features if name != "published" else model.classifier.norms[0].num_features
    assert widths == {"linear": 48, "mean": 16, "published": 48, "attention": 16}


@torch.no_grad()
def test_leads_go_to_their_slots_in_any_order():
    model, x = small_model(ECGCPCModel), torch.randn(2, 3, 64)
    expected = model(x).last_hidden_state
    torch.testing.assert_close(model(x[:, [2, 0, 1]], lead_indices=[2, 0, 1]).last_hidden_state, expected)
    rows = torch.tensor([[2, 0, 1], [1, 2, 0]])
    permuted = torch.stack([x[i, row] for i, row in enumerate(rows)])
    torch.testing.assert_close(model(permuted, lead_indices=rows).last_hidden_state, expected)
    without = x.clone()
    without[:, 1] = 0
    torch.testing.assert_close(
        model(x[:, [0, 2]], lead_indices=[0, 2]).last_hidden_state, model(without).last_hidden_state
    )
    with pytest.raises(ValueError, match="different within a record"):
        model(x, lead_indices=[0, 0, 1])


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
def test_saved_models_give_the_same_numbers(form, tmp_path):
    model = small_model(**FORMS[form])
    model.save_pretrained(tmp_path)
    reloaded, info = ECGCPCForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    inputs = model.dummy_inputs
    assert torch.equal(reloaded.eval()(**inputs).loss, model(**inputs).loss)


@pytest.mark.parametrize("form", ["lstm", "gru", "s4"])
def test_missing_weights_are_initialised_as_in_a_fresh_model(form, monkeypatch):
    # an empty checkpoint is refused; here it is the quickest way to have everything missing
    monkeypatch.setattr("ecg_transformers.models.base.refuse_misfits", lambda *found: None)
    fresh = small_model(**FORMS[form])
    loaded = ECGCPCForPreTraining.from_pretrained(None, config=small_config(**FORMS[form]), state_dict={})
    for (name, a), b in zip(fresh.state_dict().items(), loaded.state_dict().values()):
        assert b.isfinite().all(), name
        assert float(b.double().abs().mean()) == pytest.approx(float(a.double().abs().mean()), rel=0.6, abs=1e-6), name


def test_a_crop_shorter_than_the_horizon_is_refused():
    model = small_model(seq_len=4)
    with pytest.raises(ValueError, match="none lies 4 ahead"):
        model.draw_sample_noise(torch.Generator())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"conv_strides": [1]}, "one entry a layer"),
        ({"context": "tcn"}, "context must be one of"),
        ({"pooling": ["median"]}, "pooling takes"),
        ({"conv_dims": [10**9, 16]}, "between 1 and"),
        ({"horizon_ms": 100, "sampling_rate": None}, "needs a sampling_rate"),
        ({"horizon_ms": 100, "steps_predicted": 4}, "leave one of the two out"),
        (
            {"horizon_ms": 120, "steps_predicted": 12, "sampling_rate": 250},
            "means steps_predicted=30, but 12 was given",
        ),
        ({"steps_predicted": 0}, "at least 1"),
    ],
)
def test_configs_that_cannot_work_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        small_config(**overrides)
