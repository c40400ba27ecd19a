"""Runs to try the rules on."""

from __future__ import annotations

from msgspec import structs

from holdfast.model import Failure, FailureKind, Reason, Run, RunState

NOW_US = 1_000_000_000

LOST = Failure(kind=FailureKind.TRANSIENT, type="ConnectionError", message="gone")


def a_run(state: RunState = RunState.QUEUED, reason: Reason | None = None, **changes: object) -> Run:
    """A consistent run in this state: the worker only while running, an end only when final."""
    run = Run(
        key=7,
        id="r-1",
        agent="refactor",
        version="0",
        queue="default",
        priority=0,
        state=state,
        reason=reason,
        created_at_us=NOW_US - 60_000_000,
        token=3,
        position=5,
        claimed_position=5,
        event_no=9,
        attempts=2,
        worker=11 if state is RunState.RUNNING else None,
        available_at_us=NOW_US - 1_000 if state is RunState.QUEUED else None,
        finished_at_us=NOW_US - 1_000 if state.final else None,
    )
    return structs.replace(run, **changes)  # type: ignore[arg-type]


def running(**changes: object) -> Run:
    return a_run(RunState.RUNNING, **changes)


def waiting(reason: Reason, **changes: object) -> Run:
    return a_run(RunState.WAITING, reason, **changes)
