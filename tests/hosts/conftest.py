"""Fixtures of the tests with several hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.scene import Hosts
from tests.postgres.server import Databases
from tests.processes.harness import Scene


@pytest.fixture
def hosts(databases: Databases, tmp_path: Path) -> Iterator[Hosts]:
    """A fresh database and folder."""
    url = databases.fresh()
    yield Hosts(tmp_path, url)
    databases.drop(url)


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    """A fresh store of each kind."""
    return Scene(tmp_path) if request.param == "sqlite" else request.getfixturevalue("hosts")
