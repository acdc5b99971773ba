"""What the tests of corpora share: writers of native layouts, and all rows of a corpus by record id."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def layouts() -> ModuleType:
    """The writers of `layouts.py` beside this file."""
    spec = importlib.util.spec_from_file_location("corpus_layouts", Path(__file__).with_name("layouts.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def rows_of(own_cache: None) -> Callable[..., dict]:
    """`rows_of(corpus, folder, **options)`: all rows of all parts by record id."""
    from ecg_transformers.data.loading import load_ecg_dataset

    def rows(name: str, folder: Path, **options: object) -> dict:
        return {row["record_id"]: row for part in load_ecg_dataset(name, folder, **options).values() for row in part}

    return rows


@pytest.fixture(scope="session")
def signal_of() -> Callable:
    """The float32 millivolts `(T, L)` of a row."""
    from ecg_transformers.data.record import ECGRecord

    return lambda row: ECGRecord.from_row(row).signal
