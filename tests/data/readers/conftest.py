"""Hospital files for the tests of their readers."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def hospital(monkeypatch, tmp_path_factory) -> Iterator[ModuleType]:
    """The module `hospital_files`; the key of the stand-ins lies in a folder of the test."""
    pytest.importorskip("pydicom", reason="hospital formats need the extra [clinical]")
    pytest.importorskip("defusedxml", reason="hospital formats need the extra [clinical]")
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path_factory.mktemp("key")))
    monkeypatch.delenv("ECG_IDENTITY_KEY", raising=False)
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent))
    import hospital_files

    yield hospital_files
    del sys.modules["hospital_files"]
