"""The pytest plugin: a store of a test's own, and one crash again. By itself it loads nothing of holdfast."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from holdfast.testing.survive import CrashTest

_STORE = "HOLDFAST_STORE"
_PLAN = "HOLDFAST_CRASH_PLAN"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare `--crash-plan`."""
    group = parser.getgroup("holdfast", "agents that survive crashes (holdfast)")
    group.addoption(
        "--crash-plan",
        metavar="PLAN",
        help="let assert_survives_crashes try this plan alone, such as '3-' or '2+,1- seed=7'",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Hand the plan to whoever asks for it, in worker processes too."""
    plan = config.getoption("--crash-plan")
    if plan is not None:
        before = os.environ.get(_PLAN)
        os.environ[_PLAN] = plan
        config.add_cleanup(lambda: _put_back(before))


def _put_back(before: str | None) -> None:
    if before is None:
        os.environ.pop(_PLAN, None)
    else:
        os.environ[_PLAN] = before


@pytest.fixture
def holdfast_store(tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh store, which everything in this test finds by itself: the shell, and `holdfast.run`."""
    url = f"sqlite:///{tmp_path / 'holdfast.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_STORE, url)
        yield url


@pytest.fixture
def crash_test() -> CrashTest:
    """`holdfast.testing.assert_survives_crashes`, for tests that would rather ask than import."""
    from holdfast.testing import assert_survives_crashes

    return assert_survives_crashes
