"""Records that go to a device as int16: the same values, the same checks, and nothing else on the way."""

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ecg_transformers.data.millivolts import INVALID
from ecg_transformers.data.record import DigitalRecord
from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor
from ecg_transformers.features.uncut import UncutCrops, UncutExtractor
from ecg_transformers.models.registry import get_method, list_methods
from ecg_transformers.signal.leads import STANDARD_LEADS

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def digital(seed: int = 0, length: int = 6000, rate: float = 500, leads: Any = STANDARD_LEADS) -> DigitalRecord:
    """Counts that swing around an offset, with gains that float32 holds exactly and others that it does not."""
    generator = np.random.default_rng(seed)
    gain, offset = generator.choice([200.0, 204.8, 999.1], len(leads)), generator.integers(-900, 900, len(leads))
    counts = offset + 300 * np.sin(np.arange(length)[:, None] / (20 + np.arange(len(leads))))
    samples = (counts + generator.normal(0, 60, (length, len(leads)))).astype(np.int16)
    return DigitalRecord(samples, gain, offset.astype(float), rate, list(leads), f"r{seed}")


def with_device_form() -> list[str]:
    crops = [name for name in list_methods() if issubclass(get_method(name).extractor_class, ECGFeatureExtractor)]
    return [name for name in crops if ECGFeatureExtractor.for_method(name, fast=True).has_device_form]


def on(device: str, extractor: ECGFeatureExtractor, records: Any, **options: Any) -> np.ndarray:
    values = extractor(records, return_tensors="pt", device=device, **options)["input_values"]
    assert values.device.type == device
    return values.cpu().numpy()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", with_device_form())
def test_a_device_makes_of_int16_what_the_host_makes_of_millivolts(method: str, device: str) -> None:
    fast = ECGFeatureExtractor.for_method(method, fast=True)
    records = [digital(0), digital(1, 7000), digital(2), digital(3, 6000, 400)]
    for given in (records, [record.to_row() for record in records]):
        expected = fast(given)["input_values"]
        np.testing.assert_array_equal(expected, fast([record.to_record() for record in records])["input_values"])
        assert np.abs(on(device, fast, given) - expected).max() < 1e-5
    starts = {"num_crops": 2, "generator": np.random.default_rng(3)}
    expected = fast(records, num_crops=2, generator=np.random.default_rng(3))["input_values"]
    assert np.abs(on(device, fast, records, **starts) - expected).max() < 1e-5


def test_the_scale_on_a_device_is_that_of_the_host_to_the_bit() -> None:
    plain = ECGFeatureExtractor(seq_len=6000, sampling_rate=500, fast=True)
    np.testing.assert_array_equal(on("cpu", plain, digital()), plain(digital())["input_values"])


class Sent(TorchDispatchMode):
    """What goes from one device to another: type and shape."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[tuple[torch.dtype, tuple[int, ...]]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        source = args[1] if "copy_" in str(function) else args[0] if args else None
        if isinstance(source, torch.Tensor) and isinstance(result, torch.Tensor) and source.device != result.device:
            self.tensors.append((source.dtype, tuple(source.shape)))
        return result


@pytest.mark.parametrize("method", ["st_mem", "ecg_jepa"])
def test_only_int16_and_a_scale_for_each_lead_are_sent(method: str) -> None:
    fast = ECGFeatureExtractor.for_method(method, fast=True)
    records, leads = [digital(0), digital(1)], len(fast.lead_names)
    fast(records, return_tensors="pt", device="meta")  # the filters' matrices are sent once
    with Sent() as sent:
        fast(records, return_tensors="pt", device="meta")
    assert sent.tensors == [(torch.int16, (2, leads, 6000)), (torch.float64, (2, 2, leads))]
    crops = [UncutExtractor(fast).finish(UncutExtractor(fast).prepare(record)) for record in records]
    with Sent() as sent:
        values = UncutCrops.of(np.stack(crops)).to("meta")
    assert sent.tensors == [(torch.int16, (2, leads, 6000)), (torch.float64, (2, 2, leads))]
    assert values.shape == (2, leads, fast.seq_len)


def gap(samples: np.ndarray) -> None:
    samples[100:120, 3] = INVALID


def long_gap(samples: np.ndarray) -> None:
    samples[100:900, 3] = INVALID


def flat_lead(samples: np.ndarray) -> None:
    samples[:, 4] = 7


def all_flat(samples: np.ndarray) -> None:
    samples[:] = 7


def huge(samples: np.ndarray) -> None:
    samples[50, 2] = 32767


EIGHT = ("I", "II", *STANDARD_LEADS[6:])


@pytest.mark.parametrize(
    ("fault", "leads", "missing"),
    [
        *((fault, STANDARD_LEADS, "derive") for fault in (None, gap, long_gap, flat_lead, all_flat, huge)),
        *((None, leads, missing) for leads in (EIGHT, ("MLII", "V1")) for missing in ("derive", "zero", "drop")),
    ],
)
def test_what_is_said_of_a_record_is_the_same_on_a_device(fault: Any, leads: Any, missing: str) -> None:
    fast = ECGFeatureExtractor.for_method("st_mem", fast=True, nan="interpolate", missing_leads=missing, pad="zero")
    record = digital(length=4000, leads=leads)
    if fault is not None:
        fault(record.samples)

    def said(**options: Any) -> tuple[Any, ...]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                values = fast(record.to_row(), return_tensors="pt", **options)["input_values"]
            except ValueError as error:
                return str(error), None, None, None
        return "", [str(warning.message) for warning in caught], fast.last_report, values

    (*expected, host), (*found, there) = said(), said(device="cpu")
    assert found == expected
    assert host is None or (host - there).abs().max() < 1e-5


@pytest.mark.parametrize("options", [{}, {"return_tensors": "pt", "device": "cpu"}])
def test_a_rate_that_cannot_be_meant_is_refused_by_hosts_and_devices(options: Any) -> None:
    fast = ECGFeatureExtractor.for_method("st_mem", fast=True, pad="zero")
    with pytest.raises(ValueError, match=r"the record \(r0\): resampling from 50000 to 250 Hz"):
        fast(digital(rate=50_000), **options)


def test_uncut_crops_come_through_a_worker_and_fit_several_crops() -> None:
    fast = ECGFeatureExtractor.for_method("ecg_jepa", fast=True)
    uncut, records = UncutExtractor(fast), [digital(0), digital(1, 7000)]
    crops = np.stack([uncut.finish(uncut.prepare(record), num_crops=3) for record in records])
    batch = pickle.loads(pickle.dumps(UncutCrops.of(crops)))
    assert len(batch) == 2
    assert np.abs(batch.to("cpu").numpy() - fast(records, num_crops=3)["input_values"]).max() < 1e-5
