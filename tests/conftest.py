"""Fixtures shared by all tests: real records and reference tensors, each skipped with a reason where a clone has none."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with slow tests come first, so that no worker ends alone with one (`--no-loadscope-reorder` keeps this)."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """One torch thread: the suite shares two cores, and sums are then in one order."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Records are built once a session, and not in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECG_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def _folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable, REPOSITORY / default))


@pytest.fixture(scope="session")
def ecg_data_dir() -> Path:
    """The folder with real records in native corpus layouts (environment variable ECG_DATA_DIR)."""
    folder = _folder("ECG_DATA_DIR", "../shared/ecg-data")
    if not folder.is_dir():
        pytest.skip("no real ECG records here: set ECG_DATA_DIR to a folder with ptb-xl/, mitdb/, …")
    return folder


class Parity:
    """Reference tensors: `parity("st_mem", "st_mem_a_io")` gives a dict, `parity.config(...)` the file's settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, group: str, name: str) -> Path:
        return self.folder / group / f"{name}.safetensors"

    def __call__(self, group: str, name: str) -> dict[str, Any]:
        from safetensors.torch import load_file

        return load_file(self.path(group, name))

    def config(self, group: str, name: str) -> dict[str, Any]:
        from safetensors import safe_open

        with safe_open(self.path(group, name), framework="pt") as file:
            return json.loads((file.metadata() or {}).get("config", "{}"))


@pytest.fixture(scope="session")
def parity() -> Callable[[str, str], dict[str, Any]]:
    """Tensors that the reference implementations produced (environment variable ECG_PARITY_DIR)."""
    folder = _folder("ECG_PARITY_DIR", "../shared/parity")
    if not folder.is_dir():
        pytest.skip("no reference tensors here: set ECG_PARITY_DIR to the folder with st_mem/ and ecg_jepa/")
    return Parity(folder)
