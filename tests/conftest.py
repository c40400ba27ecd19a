"""What tests share: an engine and a shell on fresh stores, and Hypothesis that gives the same verdict each time."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.cli.shell import Shell
from tests.faults import Engine
from tests.postgres.server import Databases
from tools.postgres import serving

# A job in the background of a shell has SIGINT ignored, and hands that on: commands under test must hear Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Hundreds of processes are started here: what one has compiled serves the next, also below a shell that forbids it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# `make test` is repeatable; HYPOTHESIS_PROFILE=search looks for what it has not tried yet.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may take long begins first, so that nobody waits for it at the end."""
    items.sort(key=lambda item: -_may_take_s(item))


def _may_take_s(item: pytest.Item) -> float:
    limit = item.get_closest_marker("timeout")
    return 0.0 if limit is None else float(limit.args[0])


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine on a fresh store."""
    engine = Engine(tmp_path)
    async with engine.store:
        yield engine


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """The shell in a folder of its own, with a file of agents."""
    return Shell(tmp_path)


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """A PostgreSQL server, started when a test needs it: fresh stores on it."""
    with serving() as url:
        made = Databases(url)
        yield made
        made.drop()
