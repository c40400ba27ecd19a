"""Fixtures of the tests with a process for each run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tests.faults import Engine


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine on a fresh store."""
    engine = Engine(tmp_path)
    async with engine.store:
        yield engine


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)
