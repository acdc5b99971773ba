"""The tables of labels, known records and published splits that come with the package.

They lie in `corpora/tables/` as `<name>.v<version>.csv`. A table that changes gets a new version, and the old file
stays: a card can say by which version its labels were made.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib.resources import files


@lru_cache(maxsize=64)
def packaged_table(name: str, version: int = 1) -> tuple[dict[str, str], ...]:
    """The rows of a packaged table as dictionaries of text. They are shared: do not change them."""
    resource = files("ecg_transformers.data.corpora").joinpath("tables", f"{name}.v{version}.csv")
    return tuple(csv.DictReader(resource.read_text(encoding="utf-8").splitlines()))


@lru_cache(maxsize=64)
def packaged_column(name: str, key: str, value: str, version: int = 1) -> dict[str, str]:
    """Two columns of a packaged table as a dictionary."""
    return {row[key]: row[value] for row in packaged_table(name, version)}
