"""Stores with nothing in them. To make one takes a hundred statements and a dozen syncs, to copy one takes neither."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from holdfast.clock import SystemClock
from holdfast.store.sqlite import filesystem, schema


def lay(path: Path) -> Path:
    """Put a store with nothing in it at `path`, unless something is there; returns `path`. For one process alone."""
    if not path.exists():
        filesystem.create_private(path)
        path.write_bytes(_blank())
    return path


@cache
def _blank() -> bytes:
    with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
        path = Path(folder) / "blank.db"
        schema.prepare(path, SystemClock()).close()
        return path.read_bytes()
