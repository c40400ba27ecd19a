"""The feed of a run."""

from __future__ import annotations

from msgspec import Struct


class Event(Struct, frozen=True, kw_only=True):
    """An immutable record of the feed of a run. `n` is gapless per run, from 1. `payload` is a JSON object."""

    run: str
    n: int
    at_us: int
    type: str
    payload: bytes


class Note(Struct, frozen=True):
    """An event to be written that is not an entry: a state change, progress, log line or warning."""

    type: str
    payload: bytes = b"{}"


class Progress(Struct, frozen=True, kw_only=True):
    """How far a run is. `total` None means unknown; 0 is legal and means that there is nothing to do."""

    current: float
    total: float | None = None
    description: str = ""
    phase: str | None = None
    started_at_us: int = 0
    updated_at_us: int = 0
