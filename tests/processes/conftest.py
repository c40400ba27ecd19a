"""Fixtures of the tests with real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes.harness import Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A fresh store and folder."""
    return Scene(tmp_path)
