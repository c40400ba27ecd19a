"""Failures as they are recorded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FailureKind(StrEnum):
    """The class of a failure: what it means for trying again."""

    TRANSIENT = "transient"
    FATAL = "fatal"
    CHECKPOINT = "checkpoint"
    LOST = "lost"  # the worker went down
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    MISMATCH = "mismatch"
    UNKNOWN = "unknown"  # an effect may or may not have happened


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A classified error, as it is recorded.

    `type` is the error's class name, `frames` the user's own frames as text (ours cut out), `entries` the positions
    of the recorded step failures found in the error, its causes, contexts and groups: an operator's retry
    supersedes them. `unclassified` says that nobody declared this error, so it is taken to be transient.
    """

    kind: FailureKind
    type: str
    message: str
    retry_after_s: float | None = None
    unclassified: bool = False
    frames: str = ""
    cause: Failure | None = None
    entries: tuple[int, ...] = ()

    def summary(self) -> str:
        """The failure in one line."""
        return f"{self.type}: {self.message}" if self.message else self.type

    def told(self) -> dict[str, object]:
        """The failure as events tell it: the form that `show --json` has for an error."""
        cause = self.cause and self.cause.told()
        return {"type": self.type, "message": self.message, "class": self.kind, "cause": cause}
