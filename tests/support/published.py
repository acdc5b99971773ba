"""Reference tensors of published encoders: cases of any size, and the released sizes by recipe."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ecg_transformers as ecg

STANDARD = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]


def named(tensors: dict[str, Any], start: str, end: str = "") -> list[str]:
    """The names of published tensors that begin so: a file without any would be compared with nothing."""
    found = sorted(name for name in tensors if name.startswith(start) and name.endswith(end))
    assert found, f"no tensor {start}…"
    return found


def recipe_weights(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Weights of the released size: row i is `shift + scale · (2u - 1)`, u from the seed plus i."""
    out = {}
    for index, (key, shape, shift, scale, kind) in enumerate(config["recipe"]):
        if kind == "int64":
            out[key] = torch.zeros(shape, dtype=torch.int64)
            continue
        size = int(np.prod(shape)) if shape else 1
        u = np.random.RandomState(config["recipe_seed"] + index).random_sample(size)
        out[key] = torch.from_numpy((shift + scale * (2 * u - 1)).astype(np.float32).reshape(shape))
    first, second = config.get("alias", ("", ""))
    return out | {key.replace(first, second): value for key, value in out.items() if first and first in key}


def recipe_input(config: dict[str, Any]) -> torch.Tensor:
    shape = config["input_shape"]
    u = np.random.RandomState(config["input_seed"]).random_sample(int(np.prod(shape))).reshape(shape)
    return torch.from_numpy(((2 * u - 1) * 1.5).astype(np.float32))


def published_case(parity: Any, folder: str, case: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Weights, inputs with expected outputs, and settings of one case; skips where the folder has it not."""
    if not parity.path(folder, f"{case}_io").is_file():
        pytest.skip(f"no reference tensors {folder}/{case}_io here")
    io, config = parity(folder, f"{case}_io"), parity.config(folder, f"{case}_io")
    if case != "full":
        return parity(folder, f"{case}_weights"), io, config
    return recipe_weights(config), io | {"input_values": recipe_input(config)}, config


def check_outputs(model: Any, io: dict[str, Any], config: dict[str, Any]) -> None:
    """Every published output within its published tolerance; logits where there are some."""
    assert not model.training
    with torch.no_grad():
        outputs = model.base_model(io["input_values"], output_hidden_states=True)
        logits = model(io["input_values"]).logits if "logits" in io else None
    for name, want in io.items():
        if name == "input_values" or name.startswith("grad."):
            continue
        if name.startswith("hidden_states."):
            got = outputs.hidden_states[int(name.rpartition(".")[2])]
        else:
            got = logits if name == "logits" else getattr(outputs, name)
        if name == "last_hidden_state":
            got = got[:, :: config.get("last_hidden_state_step", 1)]
        torch.testing.assert_close(got, want, atol=config["tolerance"][name], rtol=0, msg=lambda m, n=name: f"{n}: {m}")


def check_gradients(model: Any, weights: dict[str, Any], io: dict[str, Any], config: dict[str, Any]) -> None:
    """Gradients of `mean(pooler_output²)`; a parameter is found by the values of the published tensor."""
    model.base_model(io["input_values"]).pooler_output.pow(2).mean().backward()
    for name in named(io, "grad."):
        key = name.removeprefix("grad.")
        value = weights.get(key, weights.get(config.get("module_prefix", "") + key)).flatten()
        same = [
            p for p in model.parameters() if p.numel() == value.numel() and torch.equal(p.detach().flatten(), value)
        ]
        assert len(same) == 1, name
        torch.testing.assert_close(
            same[0].grad.reshape(io[name].shape), io[name], atol=config["tolerance"][name], rtol=0
        )


def check_preprocessing(parity: Any, folder: str) -> None:
    """The preset's result for every published signal, within 5e-5."""
    tensors, cases = parity(folder, "preprocess"), parity.config(folder, "preprocess")["cases"]
    assert cases
    for index, case in cases.items():
        extractor = ecg.ECGFeatureExtractor.for_method(case["method"], **case["extract"])
        signal, leads = tensors[f"signal.{index}"].numpy(), case.get("leads", STANDARD)
        got = extractor(signal, sampling_rate=case["rate"], lead_names=leads)["input_values"][0]
        np.testing.assert_allclose(got, tensors[f"out.{index}"].numpy(), atol=5e-5, rtol=0, err_msg=case["note"])


def released_file(parity: Any, folder: str) -> tuple[Path, str]:
    """A file laid out as the released ones, and the case that its weights belong to."""
    entry = json.loads((parity.folder / folder / "released_layout.json").read_text(encoding="utf-8"))
    return parity.folder / folder / entry["file"], entry["case"]
