"""Exported files: they compute what the model computes, for any batch size, and nothing broken is ever left behind."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

import ecg_transformers  # noqa: F401  (registers the Auto classes)
from ecg_transformers.hub import export
from ecg_transformers.hub.export import ExportError, export_encoder
from ecg_transformers.models.registry import get_method, list_methods

NEEDS_ONNX = pytest.mark.skipif(
    any(find_spec(name) is None for name in export.ONNX_PACKAGES),
    reason="ONNX is an extra: pip install 'ecg_transformers[onnx]'",
)


def build(name, role, **overrides):
    method = get_method(name)
    torch.manual_seed(0)
    return method.model_classes[role](method.config_class(**{**method.tiny_config, **overrides}))


@pytest.mark.parametrize("name", list_methods())
def test_exported_encoder_gives_what_the_model_gives_for_any_number_of_records(tmp_path, name):
    model = build(name, "base").eval()
    sentence = export_encoder(model, tmp_path / "encoder.pt2")
    assert "any batch size" in sentence
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.pt2"]
    program = torch.export.load(tmp_path / "encoder.pt2").module()
    inputs = {key: torch.cat([value] * 3) for key, value in model.dummy_inputs.items()}
    with torch.no_grad():
        expected = model(**inputs)
        tokens, pooled = program(*inputs.values())
    torch.testing.assert_close(tokens, expected.last_hidden_state, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pooled, expected.pooler_output, rtol=1e-4, atol=1e-5)


def test_exported_file_runs_without_this_package(tmp_path):
    model = build("st_mem", "base").eval()
    export_encoder(model, tmp_path / "encoder.pt2")
    torch.save(model.dummy_inputs["input_values"], tmp_path / "x.pt")
    code = (
        "import sys, torch\n"
        "x = torch.load('x.pt', weights_only=True)\n"
        "torch.save(torch.export.load('encoder.pt2').module()(x), 'y.pt')\n"
        "assert not {'ecg_transformers', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=280)
    with torch.no_grad():
        expected = model(**model.dummy_inputs).pooler_output
    torch.testing.assert_close(torch.load(tmp_path / "y.pt", weights_only=True)[1], expected, rtol=1e-4, atol=1e-5)


def test_saved_models_are_exported_as_the_class_they_are(tmp_path):
    classifier = build("st_mem", "classification", num_labels=3, problem_type="multi_label_classification").eval()
    classifier.save_pretrained(tmp_path / "classifier")
    sentence = export_encoder(tmp_path / "classifier", tmp_path / "out" / "file")
    assert "STMEMForSequenceClassification" in sentence
    assert "probabilities" in sentence
    logits, probabilities = torch.export.load(tmp_path / "out" / "file.pt2").module()(
        classifier.dummy_inputs["input_values"]
    )
    with torch.no_grad():
        expected = classifier(**classifier.dummy_inputs)
    torch.testing.assert_close(logits, expected.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(probabilities, expected.probabilities, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in list_methods() if "pretraining" in get_method(name).classes])
def test_of_a_pretraining_model_the_encoder_for_downstream_use_is_exported(name):
    model = build(name, "pretraining")
    encoder = export.encoder_of(model)
    assert type(encoder) is get_method(name).model_classes["base"]


def test_a_pretraining_checkpoint_exports_its_encoder(tmp_path):
    build("mtae", "pretraining").save_pretrained(tmp_path / "model")
    assert "MTAEModel for any batch size" in export_encoder(str(tmp_path / "model"), tmp_path / "m.pt2")


def test_exporting_changes_neither_mode_nor_gradients_of_the_model(tmp_path):
    model = build("st_mem", "classification").train()
    model.st_mem.eval()
    modes = [module.training for module in model.modules()]
    export_encoder(model, tmp_path / "m.pt2")
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_file_that_gives_other_numbers_is_not_put_in_place(tmp_path, monkeypatch):
    model = build("ecg_vit", "base")
    (tmp_path / "m.pt2").write_bytes(b"the file of yesterday")
    true_write = export.write_pt2

    def wrong(*arguments):
        run = true_write(*arguments)
        return lambda inputs: {name: value + 1 for name, value in run(inputs).items()}

    monkeypatch.setattr(export, "write_pt2", wrong)
    with pytest.raises(ExportError, match="gives another last_hidden_state"):
        export_encoder(model, tmp_path / "m.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt2"]
    assert (tmp_path / "m.pt2").read_bytes() == b"the file of yesterday"


def test_wrong_requests_are_answered_with_a_sentence(tmp_path):
    model = build("ecg_vit", "base")
    with pytest.raises(ValueError, match="must be one of pt2, onnx"):
        export_encoder(model, tmp_path / "m", "tflite")
    with pytest.raises(ValueError, match=r"must end in \.pt2"):
        export_encoder(model, tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="is a folder"):
        export_encoder(model, tmp_path)
    with pytest.raises(ValueError, match="no model of this package"):
        export_encoder(torch.nn.Linear(1, 1), tmp_path / "m.pt2")
    assert not list(tmp_path.iterdir())


def test_onnx_without_its_packages_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "ONNX_PACKAGES", ("onnx", "a_package_that_nobody_has"))
    with pytest.raises(ImportError, match=r"a_package_that_nobody_has.*ecg_transformers\[onnx\]"):
        export_encoder(build("ecg_vit", "base"), tmp_path / "m.onnx", "onnx")


@NEEDS_ONNX
@pytest.mark.parametrize("name", ["st_mem", "ecg_resnet"])
def test_onnx_file_gives_what_the_model_gives(tmp_path, name):
    model = build(name, "classification", num_labels=3).eval()
    assert "any batch size" in export_encoder(model, tmp_path / "m.onnx", "onnx")
    inputs = {key: torch.cat([value] * 3) for key, value in model.dummy_inputs.items()}
    found = export.onnx_runner(tmp_path / "m.onnx", ["logits", "probabilities"])(inputs)
    with torch.no_grad():
        expected = model(**inputs)
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)


@NEEDS_ONNX
def test_a_model_that_onnx_cannot_hold_is_refused_with_a_sentence(tmp_path):
    @torch.library.custom_op("ecg_transformers_tests::only_here", mutates_args=())
    def only_here(x: torch.Tensor) -> torch.Tensor:  # no format but torch's own can name this operation
        return x.clone()

    only_here.register_fake(torch.empty_like)
    model = build("ecg_vit", "base").eval()
    model.register_forward_pre_hook(
        lambda module, args, kwargs: (args, {**kwargs, "input_values": only_here(kwargs["input_values"])}),
        with_kwargs=True,
    )
    with pytest.raises(ExportError, match="cannot be written as ONNX"):
        export_encoder(model, tmp_path / "m.onnx", "onnx")
    assert not list(tmp_path.iterdir())
