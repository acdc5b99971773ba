"""Every model runs on a device that is not the CPU: what it makes for itself is made there, and the results are the same.

The device is made in Python (`support.another_device`), so that this is shown on every machine.
"""

import copy
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from support.another_device import NAME, process_with_device

from ecg_transformers.models.registry import get_method, list_methods

OWN = {
    "ecg_cpc": {"context": "s4"}
}  # the fused LSTM of other devices has no form on the CPU that stands behind this one
MODELS = [(method, role) for method in list_methods() for role in get_method(method).model_classes]


@pytest.fixture(scope="module")
def device() -> Iterator[ProcessPoolExecutor]:
    with process_with_device() as process:
        yield process


def differences(method: str, role: str) -> dict[str, float]:
    """Between the CPU and the device, in the outputs and in the gradients, as shares of the largest value."""
    torch.manual_seed(0)
    entry = get_method(method)
    here = entry.model_classes[role](entry.config_class(**{**entry.tiny_config, **OWN.get(method, {})})).eval()
    there, inputs = copy.deepcopy(here).to(NAME), here.dummy_inputs
    sent = {name: value.to(NAME) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    found: dict[str, float] = {}
    outputs = []
    for model, given in ((here, inputs), (there, sent)):
        torch.manual_seed(1)
        outputs.append(model(**given))
    for name, expected in outputs[0].items():
        if isinstance(expected, torch.Tensor):
            assert outputs[1][name].device.type == NAME
            found[name] = _share(expected, outputs[1][name])
    if outputs[0].get("loss") is not None:
        for output in outputs:
            output.loss.backward()
        gradients = dict(there.named_parameters())
        for name, parameter in here.named_parameters():
            if parameter.grad is not None:
                found[name] = _share(parameter.grad, gradients[name].grad)
    return found


def _share(expected: torch.Tensor, found: torch.Tensor) -> float:
    far = (expected.double() - found.detach().cpu().double()).abs().max()
    return float(far / (expected.abs().max() + 1e-6))


@pytest.mark.parametrize(("method", "role"), MODELS)
def test_a_model_gives_on_a_device_what_it_gives_on_the_cpu(
    method: str, role: str, device: ProcessPoolExecutor
) -> None:
    found = device.submit(differences, method, role).result()
    assert found
    assert not {name: far for name, far in found.items() if far > 1e-4}
