"""What the parts keep when they are used alone: for an owner, who is no run."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.model.events import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedState:
    """A state as stored. `version` counts the saves of its owner, across deletions; `state` is JSON."""

    version: int
    at_us: int
    state: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedProgress:
    """The newest progress of an owner. `version` counts the reports."""

    version: int
    progress: Progress
