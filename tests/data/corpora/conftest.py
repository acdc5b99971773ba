"""What the tests of corpora share: writers of native layouts, and all rows of a corpus by record id."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def load_beside(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"corpus_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def layouts() -> ModuleType:
    """The writers of `layouts.py` beside this file."""
    return load_beside("layouts")


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


@pytest.fixture(scope="session")
def smallest(tmp_path_factory: pytest.TempPathFactory, layouts: ModuleType) -> Callable[[str], tuple[str, Path]]:
    """`smallest(layout)`: the corpus of a layout of `smallest.py` and a folder with its smallest copy, not to be changed."""
    module = load_beside("smallest")
    folders: dict[str, Path] = {}

    def made(layout: str) -> tuple[str, Path]:
        corpus, write = module.SMALLEST[layout]
        if layout not in folders:
            folders[layout] = tmp_path_factory.mktemp("smallest")
            write(folders[layout], layouts)
        return corpus, folders[layout]

    return made
