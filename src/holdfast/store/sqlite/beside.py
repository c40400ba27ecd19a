"""What comes into being in the transaction of an entry: each kind with the function that writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from holdfast.model import Beside, NewArtifact
from holdfast.store.sqlite import artifacts
from holdfast.store.sqlite.connection import Connection

Write = Callable[[Connection, int, int, Any, int], None]
"""`write(connection, run_key, position, thing, now_us)`: `position` is that of the Change's last entry. Raises Refused
when it cannot be; then nothing of the Change is recorded."""

WRITERS: Final[Mapping[type[Beside], Write]] = {NewArtifact: artifacts.write}


def write(connection: Connection, run: int, position: int, thing: Beside, now_us: int) -> None:
    """Write one of them inside the caller's transaction."""
    WRITERS[type(thing)](connection, run, position, thing, now_us)
