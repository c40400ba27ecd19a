"""What the parts keep when they are used alone: for an owner, who is no run."""

from __future__ import annotations

from msgspec import Struct

from holdfast.model.events import Progress


class OwnedState(Struct, frozen=True, kw_only=True):
    """A state as stored. `version` counts the saves of its owner, across deletions; `state` is JSON."""

    version: int
    at_us: int
    state: bytes


class OwnedProgress(Struct, frozen=True, kw_only=True):
    """The newest progress of an owner. `version` counts the reports."""

    version: int
    progress: Progress
