"""A store, and nothing else: no agent, no worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast import open_store
from holdfast.store.protocol import Store
from holdfast.testing import blank


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(blank.lay(tmp_path / "parts.db")) as store:
        yield store
