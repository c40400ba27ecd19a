"""What lives only as long as a step: the place of a long one, and the text it streams."""

from __future__ import annotations

from msgspec import Struct

from holdfast.model.changes import Beside
from holdfast.model.journal import Identity


class NewCursor(Beside, frozen=True, kw_only=True):
    """The place of a long step. The newest of a call replaces the one before."""

    identity: Identity
    args_hash: bytes
    cursor: bytes


class CursorOver(Beside, frozen=True, kw_only=True):
    """The call is over: nobody goes on from its place."""

    identity: Identity


class NewOutput(Beside, frozen=True, kw_only=True):
    """Text that a step streams. `start` is how many characters this try streamed before."""

    identity: Identity
    start: int
    text: str


class Output(Struct, frozen=True, kw_only=True, gc=False):
    """Streamed text as watchers see it. `n` rises, with gaps. `start` tells what was missed; 0 is a new try."""

    n: int
    at_us: int
    step: str
    key: str | None
    scope: str
    start: int
    text: str
