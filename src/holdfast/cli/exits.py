"""What the shell's exit codes mean, for scripts."""

from __future__ import annotations

from enum import IntEnum

from holdfast.errors import (
    HoldfastError,
    NotFound,
    Refused,
    RunCancelled,
    RunFailed,
    StoreError,
    UsageError,
)
from holdfast.model import RunState


class Exit(IntEnum):
    """An exit code. Its name says what happened; the numbers are compatibility data."""

    SUCCEEDED = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    WAITS = 4  # for a person, or a signal from outside
    NOT_FOUND = 5
    REFUSED = 6
    UNREACHABLE = 7  # the store
    INTERRUPTED = 130
    TERMINATED = 143


_OF_ERROR: tuple[tuple[type[HoldfastError], Exit], ...] = (
    (RunFailed, Exit.FAILED),
    (RunCancelled, Exit.CANCELLED),
    (NotFound, Exit.NOT_FOUND),
    (Refused, Exit.REFUSED),
    (UsageError, Exit.USAGE),
    (StoreError, Exit.UNREACHABLE),
)


def exit_of_error(error: HoldfastError) -> Exit:
    """The code with which a command leaves because of this error."""
    return next((code for kind, code in _OF_ERROR if isinstance(error, kind)), Exit.FAILED)


def exit_of_state(state: RunState) -> Exit:
    """The code that says how a run stands."""
    match state:
        case RunState.SUCCEEDED:
            return Exit.SUCCEEDED
        case RunState.FAILED:
            return Exit.FAILED
        case RunState.CANCELLED:
            return Exit.CANCELLED
        case RunState.QUEUED | RunState.RUNNING | RunState.WAITING:
            return Exit.WAITS
