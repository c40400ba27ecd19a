"""Fixtures of the tests of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres.server import Databases


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    """A store that nobody has used."""
    made = databases.fresh()
    yield made
    databases.drop(made)
