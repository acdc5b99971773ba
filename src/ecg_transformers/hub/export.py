"""A trained encoder or classifier as one file that runs without this package: torch's exported program, or ONNX."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from transformers import AutoConfig

from ecg_transformers.files import replacing
from ecg_transformers.layers.frozen import eval_mode
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.registry import method_of
from ecg_transformers.words import check_choice

FORMATS = ("pt2", "onnx")
ONNX_PACKAGES = ("onnx", "onnxscript")
OUTPUTS = ("logits", "probabilities", "last_hidden_state", "pooler_output")
TOLERANCE = 1e-4  # of the largest output: another runtime sums in another order

Runner = Callable[[dict[str, Tensor]], dict[str, Tensor]]


class ExportError(RuntimeError):
    """A model that a format cannot hold, or a file that does not compute what the model computes."""


def export_encoder(
    model_or_path: ECGPreTrainedModel | str | os.PathLike[str], output: str | Path, format: str = "pt2"
) -> str:
    """Write a model as one file that needs neither this package nor transformers to run.

    Args:
        model_or_path: a model of the package, or a folder or Hub repository that holds one. Of a pre-training model its
            encoder is exported, of a classifier encoder and head.
        output: the file; the format's ending is appended when it has none. An existing file is replaced.
        format: "pt2" (`torch.export.load(file).module()`) or "onnx" (any ONNX runtime; extra `[onnx]`).

    Returns:
        A sentence: what was written where, with which inputs and outputs, and how well it agrees with the model.

    The inputs are the model's own (`input_values (batch, num_leads, seq_len)`; beats, mask and RR features for beat
    models), with the number of leads and samples of its config and any batch size where the model allows it. The outputs
    are `last_hidden_state` and `pooler_output` of an encoder, `logits` and `probabilities` of a classifier. The file is
    run and compared with the model before it gets its name; nothing is left behind when that fails.

    Raises:
        ValueError: unknown format, an ending that belongs to another format, a folder in place of a file.
        ImportError: ONNX without its packages.
        ExportError: the format cannot hold this model, or the file gives other numbers.
    """
    target = _target(Path(output), format)
    if format == "onnx":
        _require_onnx()
    model = encoder_of(load(model_or_path) if isinstance(model_or_path, str | os.PathLike) else model_or_path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as beside, _quiet_evaluation(model):
        example = model.dummy_inputs
        program, free_batch = _program(model, example)
        runner = (write_pt2 if format == "pt2" else write_onnx)(model, program, beside)
        error = _largest_error(model, runner, example, free_batch)
    batch = "any batch size" if free_batch else f"a fixed batch of {len(next(iter(example.values())))}"
    inputs = ", ".join(f"{name} {tuple(value.shape[1:])}" for name, value in example.items())
    return (
        f"Wrote {target} ({target.stat().st_size / 2**20:.1f} MiB): {type(model).__name__} for {batch}, inputs {inputs} "
        f"after the batch axis, outputs {', '.join(_outputs(model))}; it agrees with the model to {error:.1e}."
    )


def load(path: str | os.PathLike) -> ECGPreTrainedModel:
    """The model that a folder or repository holds, of the class its config names (the encoder where it names none).

    Raises:
        ValueError: when it holds no model of this package.
    """
    config = AutoConfig.from_pretrained(path)
    method = method_of(config)
    role = "base"
    for candidate, dotted in method.classes.items():
        if dotted.rpartition(".")[2] in (config.architectures or ()):
            role = candidate
    model: ECGPreTrainedModel = method.model_classes[role].from_pretrained(path)
    return model


def encoder_of(model: ECGPreTrainedModel) -> ECGPreTrainedModel:
    """What of a model is exported: its encoder, or the whole of a classifier.

    Raises:
        ValueError: for anything that is no model of this package.
    """
    if not isinstance(model, ECGPreTrainedModel):
        raise ValueError(f"A {type(model).__name__} is no model of this package; only those can be exported.")
    if isinstance(model, ECGForSequenceClassification) or model.base_model is model:
        return model
    choose = getattr(model, "export_encoder", None)  # a method with two encoders says which one is for downstream use
    encoder: ECGPreTrainedModel = choose() if choose is not None else model.base_model
    return encoder


def _target(path: Path, format: str) -> Path:
    check_choice("The export format", format, FORMATS)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the file that is to be written, {path / f'model.{format}'} say.")
    if not path.suffix:
        path = path.with_name(f"{path.name}.{format}")
    if path.suffix != f".{format}":
        raise ValueError(f"{path}: a file of the format {format!r} must end in .{format}.")
    return path


def _require_onnx() -> None:
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"Writing ONNX needs {' and '.join(missing)}: install them with `pip install 'ecg_transformers[onnx]'`."
        )


@contextmanager
def _quiet_evaluation(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; every module gets its own mode back."""
    with eval_mode(model), torch.no_grad():
        yield


def _outputs(model: ECGPreTrainedModel) -> tuple[str, ...]:
    return OUTPUTS[:2] if isinstance(model, ECGForSequenceClassification) else OUTPUTS[2:]


def _wrapped(model: ECGPreTrainedModel, names: list[str]) -> nn.Module:
    """The model with positional inputs and a plain tuple as output, which any runtime understands."""

    class Exported(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            outputs = self.model(**dict(zip(names, values, strict=True)), return_dict=True)
            return tuple(outputs[name] for name in _outputs(self.model))

    return Exported()


def _program(model: ECGPreTrainedModel, example: dict[str, Tensor]) -> tuple[Any, bool]:
    """The exported program, and whether its batch size is free (some models fix it while they are traced)."""
    module, values = _wrapped(model, list(example)), tuple(example.values())
    shapes = {"values": tuple({0: Dim("batch")} for _ in values)}
    try:
        return torch.export.export(module, values, dynamic_shapes=shapes), True
    except (RuntimeError, ValueError, TypeError, AssertionError):
        try:
            return torch.export.export(module, values), False
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise ExportError(f"{type(model).__name__} cannot be traced as one graph: {_first_line(error)}") from error


def write_pt2(model: ECGPreTrainedModel, program: torch.export.ExportedProgram, path: Path) -> Runner:
    """Write, read back, and return a function that runs what was read."""
    torch.export.save(program, path)
    module, names = torch.export.load(path).module(), _outputs(model)
    return lambda inputs: dict(zip(names, module(*inputs.values()), strict=True))


def write_onnx(model: ECGPreTrainedModel, program: torch.export.ExportedProgram, path: Path) -> Runner:
    names, outputs = list(model.dummy_inputs), list(_outputs(model))
    try:
        written = torch.onnx.export(program, input_names=names, output_names=outputs, dynamo=True, verbose=False)
        assert written is not None
        written.save(path, external_data=False)
    except (RuntimeError, ValueError, TypeError) as error:  # torch wraps what its converter raises
        raise ExportError(
            f"{type(model).__name__} cannot be written as ONNX: {_first_line(error)} The format 'pt2' can hold it."
        ) from error
    return onnx_runner(path, outputs)


def onnx_runner(path: Path, outputs: list[str]) -> Runner:
    """onnxruntime where it is installed, else the (slow) reference evaluator of the onnx package."""
    if find_spec("onnxruntime") is not None:
        runtime = import_module("onnxruntime")
        session: Any = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    else:
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(str(path))

    def run(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        values = session.run(outputs, {name: value.numpy() for name, value in inputs.items()})
        return {name: torch.as_tensor(value) for name, value in zip(outputs, values, strict=True)}

    return run


def _largest_error(model: ECGPreTrainedModel, run: Runner, example: dict[str, Tensor], free_batch: bool) -> float:
    """Largest difference between file and model, relative to the largest output; on one, two and three records."""
    batches = [example]
    if free_batch:
        batches += [{name: value[:1] for name, value in example.items()}]
        batches += [{name: torch.cat([value, value[:1].flip(-1)]) for name, value in example.items()}]
    worst = 0.0
    for inputs in batches:
        expected, found = model(**inputs, return_dict=True), run(inputs)
        for name in _outputs(model):
            scale = max(1.0, float(expected[name].abs().max()))
            same_shape = found[name].shape == expected[name].shape
            error = float((found[name] - expected[name]).abs().max()) / scale if same_shape else float("inf")
            if not error <= TOLERANCE:
                raise ExportError(
                    f"The exported {type(model).__name__} gives another {name} than the model (relative error "
                    f"{error:.1e}, allowed {TOLERANCE:.0e}, {len(next(iter(inputs.values())))} records); no file was written."
                )
            worst = max(worst, error)
    return worst


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__).rstrip(".") + "."
