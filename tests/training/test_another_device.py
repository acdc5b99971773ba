"""Runs on a device that is not the CPU: the same training, and of the records nothing but int16 goes there.

The device is made in Python (`support.another_device`), so that this is shown on every machine.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from support.another_device import NAME, Transfer, process_with_device, sent_by
from support.small_runs import small_finetuning, small_pretraining

from ecg_transformers.training.finetuning import finetune
from ecg_transformers.training.pretraining import pretrain

FAST: dict[str, Any] = {"max_steps": 2, "preprocessing_overrides": "fast=true"}


@pytest.fixture(scope="module")
def device(own_cache: None) -> Iterator[ProcessPoolExecutor]:
    with process_with_device() as process:
        yield process


def sent_as(sent: list[Transfer]) -> set[torch.dtype]:
    """The types of batches of signals: what has records, leads and many samples (not parameters, filters and masks)."""
    return {transfer.dtype for transfer in sent if len(transfer.shape) == 3 and transfer.shape[-1] > 500}


@pytest.mark.parametrize("method", ["st_mem", "ecg_jepa"])
def test_pretraining_on_a_device_is_that_on_the_cpu(method: str, device: ProcessPoolExecutor, tmp_path: Path) -> None:
    pretrain(small_pretraining(tmp_path / "cpu", method, **FAST))
    there = small_pretraining(tmp_path / NAME, method, **FAST, cpu=False)
    assert sent_as(device.submit(sent_by, pretrain, there).result()) == {torch.int16}
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("cpu", NAME))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value.numpy(), atol=1e-4, err_msg=name)


def test_finetuning_on_a_device_gives_the_predictions_of_the_cpu(device: ProcessPoolExecutor, tmp_path: Path) -> None:
    pretrain(small_pretraining(tmp_path / "source", **FAST))
    finetune(small_finetuning(tmp_path / "cpu", tmp_path / "source", **FAST))
    there = small_finetuning(tmp_path / NAME, tmp_path / "source", **FAST, cpu=False)
    assert sent_as(device.submit(sent_by, finetune, there).result()) == {torch.int16}
    expected, found = (pq.read_table(tmp_path / name / "predictions.parquet").to_pandas() for name in ("cpu", NAME))
    numbers = expected.select_dtypes("floating").columns
    assert len(numbers)
    np.testing.assert_allclose(found[numbers], expected[numbers], atol=1e-3)
