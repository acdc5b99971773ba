"""Runs of these tests build records once a session, and not in the user's cache."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache(own_cache: None) -> None:
    """See `own_cache`."""
