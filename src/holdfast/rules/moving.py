"""What may be carried to another store, and what the lines of a run must look like to be taken for whole.

Laws of this file:
1. An unfinished run is carried only while it stands still: nothing but a person lets it go on, here or there.
2. Whatever a line says is checked before it is believed: a file may come from anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from holdfast.errors import InvalidExport, Refused, UsageError
from holdfast.model import HELD_REASONS, Reason, Run, RunState
from holdfast.model.moving import (
    MovedApproval,
    MovedArtifact,
    MovedBudget,
    MovedCheckpoint,
    MovedCursor,
    MovedEntry,
    MovedEvent,
    MovedHistory,
    MovedLane,
    MovedProgress,
    MovedResolution,
    MovedRun,
    MovedSignal,
    MovedTag,
    PartOfRun,
    is_there,
)
from holdfast.rules.ids import checked_id

_STANDS: Final = HELD_REASONS | {Reason.PAUSED, Reason.PARKED, Reason.LOOP, Reason.BUDGET}


def stands_still(run: Run) -> bool:
    """Whether nothing but a person lets the run go on: it ended, is paused or held, or waits for a raised budget."""
    if run.state is RunState.WAITING:
        return run.reason in _STANDS and run.available_at_us is None
    return run.state.final


def check_unchanged(before: Run, after: Run) -> None:
    """Raise Refused when the run moved meanwhile. A signal to it does not count: it is in its inbox here."""
    if _moves(before) != _moves(after):
        raise Refused(
            f"run {after.id} was changed while it was exported: it was {_stood(before)}, now it is {_stood(after)}; "
            "export it again"
        )


def _moves(run: Run) -> tuple[object, ...]:
    return run.state, run.reason, run.token, run.position, run.event_no, run.available_at_us


def _stood(run: Run) -> str:
    return f"{run.state} ({run.reason})" if run.reason else str(run.state)


# --- the lines of a run -----------------------------------------------------------------------------------------

_ORDER: Final[Mapping[type, int]] = {
    kind: place
    for place, kinds in enumerate(
        (
            (MovedTag,),
            (MovedLane,),
            (MovedBudget,),
            (MovedProgress,),
            (MovedHistory,),
            (MovedResolution,),
            (MovedCursor,),
            (MovedApproval,),
            (MovedSignal,),
            (MovedCheckpoint,),
            (MovedEvent, MovedEntry),
            (MovedArtifact,),
        )
    )
    for kind in kinds
}
_SINGLE: Final = (MovedLane, MovedBudget, MovedProgress, MovedHistory)


class RunCheck:
    """Takes the lines of one run, in order, and raises InvalidExport at the first that cannot be one of it."""

    def __init__(self, run: MovedRun) -> None:
        check_run(run)
        self._run = run
        self._place = -1
        self._last: int | str | None = None
        self._events = 0
        self._entries = 0

    def take(self, part: PartOfRun) -> None:
        """Check the next line."""
        place = _ORDER[type(part)]
        if place < self._place or (place == self._place and isinstance(part, _SINGLE)):
            raise InvalidExport(f"run {self._run.id}: this line stands in a wrong place")
        if place > self._place:
            self._place, self._last = place, None
        self._follow(part)
        if isinstance(part, MovedEvent | MovedEntry):
            self._count(part)

    def _follow(self, part: PartOfRun) -> None:
        """Their numbers rise: none is there twice."""
        match part:
            case MovedTag():
                mark: int | str = part.name
            case MovedCursor():
                mark = part.identity
            case MovedArtifact():
                mark = part.position
            case (
                MovedResolution()
                | MovedApproval()
                | MovedSignal()
                | MovedCheckpoint()
                | MovedEvent()
                | MovedEntry()
            ):
                mark = part.n
            case _:
                return
        if isinstance(self._last, int) and isinstance(mark, int) and mark <= self._last:
            raise InvalidExport(f"run {self._run.id}: number {mark} follows number {self._last}")
        self._last = mark

    def _count(self, part: MovedEvent | MovedEntry) -> None:
        self._events += 1
        if part.n != self._events:
            raise InvalidExport(
                f"run {self._run.id}: event {part.n} stands where event {self._events} belongs"
            )
        if isinstance(part, MovedEntry):
            self._entries += 1
            if part.position != self._entries:
                raise InvalidExport(
                    f"run {self._run.id}: entry {part.position} stands where entry {self._entries} belongs"
                )

    def end(self) -> None:
        """Check that nothing is missing."""
        if (self._events, self._entries) != (self._run.event_no, self._run.position):
            raise InvalidExport(
                f"run {self._run.id}: it has {self._run.event_no} events, {self._run.position} of them entries; "
                f"here stand {self._events} and {self._entries}"
            )


def check_run(run: MovedRun) -> None:
    """Raise InvalidExport for a run that no store can have, or that would go on by itself where it comes to."""
    try:
        checked_id(run.id)
    except UsageError as error:
        raise InvalidExport(str(error)) from error
    if not is_there(run.input, run.input_base64):
        raise InvalidExport(f"run {run.id} has no input")
    held = run.state is RunState.WAITING and run.reason in _STANDS
    if not held and not run.state.final:
        raise InvalidExport(
            f"run {run.id} is {run.state} ({run.reason}): only runs that stand still are moved"
        )
    if run.state.final is (run.finished_at_us is None):
        raise InvalidExport(f"run {run.id} is {run.state}, and its end is {run.finished_at_us}")
    if not run.claimed_position <= run.position <= run.event_no:
        raise InvalidExport(
            f"run {run.id}: its counters disagree (claimed at {run.claimed_position}, {run.position} entries, "
            f"{run.event_no} events)"
        )
