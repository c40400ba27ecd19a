"""What a schedule does when a controller looks at it: which fires become runs, wait, are skipped, were missed.

Laws of this file:
1. A due time is met once: `next_due_us` and `last_due_us` only grow, whatever the clock does.
2. A fire is known by its mark, and its run by an id made of the mark: met again, it is the same run.
3. Nothing is dropped in silence: what does not become a run is a fire with a status and a reason.
4. A success that a schedule comes after is never missed while the schedule is not paused.
5. What an operator asks for (backfill, a run now) is never skipped: it waits for its turn, or goes at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final, assert_never

from msgspec.structs import replace

from holdfast.errors import Refused
from holdfast.model import (
    After,
    CatchUp,
    CatchUpKind,
    Cron,
    Fire,
    FireCause,
    FireStatus,
    Interval,
    NewSchedule,
    Overlap,
    Run,
    ScheduleRecord,
    Trigger,
)
from holdfast.rules import timing

ON_TIME_US: Final = 60 * timing.SECOND_US
"""A fire is on time this long after it was due: a controller that starts again must not miss the one of this minute."""
MOST_QUEUED: Final = 100
"""Fires of a schedule that wait for their turn: a queue that only grows is an overload, and is said."""
MOST_CAUGHT_UP: Final = 1_000
"""Runs that one look at a schedule may start: they share a transaction."""
MOST_BACKFILLED: Final = 1_000
"""Due times of one backfill: a larger window is given in parts."""
KEPT_FIRES: Final = 1_000
"""Fires that stay in a schedule's history."""
MISSED_TOLD: Final = 20
"""Missed fires of one look that are told one by one; the oldest of them says that there were more."""


_HAVE_RUNS: Final = (FireStatus.FIRED, FireStatus.QUEUED)


@dataclass(frozen=True, slots=True)
class Firing:
    """What one look decided: the schedule as it shall be, its fires that are new (`n` is 0) or moved, in order, and
    the runs to be cancelled before theirs are started."""

    schedule: ScheduleRecord
    fires: tuple[Fire, ...] = ()
    cancel: tuple[str, ...] = ()


# --- the look of a controller -------------------------------------------------------------------------------


def decide(
    schedule: ScheduleRecord, zone: tzinfo, now_us: int, *, waiting: Sequence[Fire], active: Sequence[str]
) -> Firing:
    """Meet every due time that passed, and give the fires that wait their turn.

    `zone` is the trigger's, `waiting` the queued fires, oldest first, `active` the schedule's unfinished runs, oldest
    first. Paused schedules are not looked at.
    """
    met = _meet_times(schedule, zone, now_us)
    left, given_up = _made_up(schedule.new.catch_up, waiting, now_us)
    turns = _Turns(schedule.new.overlap, list(active), now_us)
    for fire in sorted([*left, *met.ready], key=lambda fire: fire.cause is FireCause.BACKFILL):
        turns.take(fire)
    fires = (*met.missed, *given_up, *turns.fires)
    after = met.schedule
    return Firing(
        replace(
            after,
            wake_us=wake_us(after),
            missed=after.missed + _count(fires, FireStatus.MISSED),
            skipped=after.skipped + _count(fires, FireStatus.SKIPPED),
            fires=after.fires + sum(fire.n == 0 for fire in fires),
        ),
        fires,
        tuple(turns.cancel),
    )


def wake_us(schedule: ScheduleRecord) -> int | None:
    """When the next due time is met: its jitter later."""
    if schedule.next_due_us is None:
        return None
    return schedule.next_due_us + timing.jitter_us(
        schedule.name, schedule.next_due_us, schedule.new.jitter_us
    )


@dataclass(frozen=True, slots=True)
class _Met:
    """The schedule after its due times were met, their fires, and those that are missed."""

    schedule: ScheduleRecord
    ready: Sequence[Fire] = ()
    missed: Sequence[Fire] = ()


def _meet_times(schedule: ScheduleRecord, zone: tzinfo, now_us: int) -> _Met:
    """Meet the times that passed."""
    trigger, catch_up = schedule.new.trigger, schedule.new.catch_up
    wakes_us = wake_us(schedule)
    if isinstance(trigger, After) or schedule.next_due_us is None or wakes_us is None or wakes_us > now_us:
        return _Met(schedule)
    most = catch_up.most if catch_up.kind is CatchUpKind.ALL else 1
    passed = timing.dues(trigger, zone, schedule.next_due_us, now_us, most + 1 + MISSED_TOLD)
    # None: the zone's rules changed since the next time was worked out.
    times = list(passed.times_us) or [schedule.next_due_us]
    if len(times) > 1 and _late_us(schedule, times[-1], now_us) < 0:
        times.pop()  # its own jitter is not over
    newest_us = times[-1]
    on_time = _late_us(schedule, newest_us, now_us) <= ON_TIME_US
    chosen = _chosen(catch_up, times, now_us)
    if on_time and newest_us not in chosen:
        chosen.append(newest_us)
    going = set(chosen)
    late = [due_us for due_us in times if due_us not in going]
    following_us = timing.next_due(trigger, zone, newest_us)
    return _Met(
        replace(schedule, next_due_us=following_us, last_due_us=newest_us),
        ready=[_by_time(schedule, due_us) for due_us in chosen],
        missed=_missed(schedule, late, now_us, more=passed.earlier or len(late) > MISSED_TOLD),
    )


def _late_us(schedule: ScheduleRecord, due_us: int, now_us: int) -> int:
    return now_us - due_us - timing.jitter_us(schedule.name, due_us, schedule.new.jitter_us)


def _chosen(catch_up: CatchUp, times: Sequence[int], now_us: int) -> list[int]:
    """Which times are made up for, however late."""
    match catch_up.kind:
        case CatchUpKind.SKIP:
            return []
        case CatchUpKind.LAST:
            return [times[-1]]
        case CatchUpKind.ALL:
            return [due_us for due_us in times[-catch_up.most :] if due_us >= now_us - catch_up.window_us]
        case _:
            assert_never(catch_up.kind)


def _by_time(schedule: ScheduleRecord, due_us: int) -> Fire:
    return Fire(
        schedule=schedule.name,
        mark=str(due_us),
        due_us=due_us,
        cause=FireCause.TIME,
        status=FireStatus.QUEUED,
        run=f"{schedule.name}-{timing.stamp(due_us)}",
    )


def _missed(schedule: ScheduleRecord, late: Sequence[int], now_us: int, *, more: bool) -> list[Fire]:
    policy = schedule.new.catch_up
    why = {
        CatchUpKind.SKIP: "no controller looked at its time, and catch_up is 'skip'",
        CatchUpKind.LAST: "no controller looked at its time, and catch_up is 'last': a later one went instead",
        CatchUpKind.ALL: f"no controller looked at its time, and catch_up is the newest {policy.most}"
        f" of {policy.window_us / timing.SECOND_US:g} s",
    }[policy.kind]
    told = [
        replace(_by_time(schedule, due_us), status=FireStatus.MISSED, run=None, at_us=now_us, why=why)
        for due_us in late[-MISSED_TOLD:]
    ]
    if told and more:
        told[0] = replace(told[0], why=f"{why}; so were those before it, since {_told(schedule)}")
    return told


def _told(schedule: ScheduleRecord) -> str:
    assert schedule.next_due_us is not None, "times passed"
    return timing.stamp(schedule.next_due_us)


def _made_up(policy: CatchUp, waiting: Sequence[Fire], now_us: int) -> tuple[list[Fire], list[Fire]]:
    """The fires that wait, and apart from them those that came during a pause and are not made up for."""
    held = [fire for fire in waiting if fire.held]
    kept: set[str] = set()
    match policy.kind:
        case CatchUpKind.SKIP:
            pass
        case CatchUpKind.LAST:
            kept = {fire.mark for fire in held[-1:]}
        case CatchUpKind.ALL:
            kept = {fire.mark for fire in held[-policy.most :] if fire.due_us >= now_us - policy.window_us}
        case _:
            assert_never(policy.kind)
    why = f"the schedule was paused, and catch_up is {str(policy.kind)!r}"
    given_up = [
        replace(fire, status=FireStatus.MISSED, run=None, at_us=now_us, why=why)
        for fire in held
        if fire.mark not in kept
    ]
    return [fire for fire in waiting if not fire.held or fire.mark in kept], given_up


class _Turns:
    """Gives one fire after the other its turn, beside the runs that are unfinished."""

    def __init__(self, overlap: Overlap, active: list[str], now_us: int) -> None:
        self._overlap = overlap
        self._active = active
        self._now_us = now_us
        self._queued = 0
        self.fires: list[Fire] = []
        self.cancel: list[str] = []

    def take(self, fire: Fire) -> None:
        """Decide what becomes of it."""
        overlap = self._overlap
        if fire.cause is FireCause.BACKFILL and overlap in (Overlap.SKIP, Overlap.CANCEL):
            overlap = Overlap.QUEUE
        if overlap is Overlap.ALLOW or not self._active:
            self._fire(fire)
        elif overlap is Overlap.QUEUE:
            self._queue(fire)
        elif overlap is Overlap.SKIP:
            self._skip(fire, f"run {self._active[-1]} was unfinished, and overlap is 'skip'")
        else:
            self._replace(fire)

    def _fire(self, fire: Fire) -> None:
        assert fire.run is not None, "what waits knows its run"
        self.fires.append(replace(fire, status=FireStatus.FIRED, at_us=self._now_us, why=None))
        self._active.append(fire.run)

    def _queue(self, fire: Fire) -> None:
        if fire.cause is not FireCause.BACKFILL:
            if self._queued >= MOST_QUEUED:
                self._skip(fire, f"{MOST_QUEUED} fires wait for their turn already")
                return
            self._queued += 1
        if fire.why is None:  # else it waits already, and waits on
            why = f"it waits for run {self._active[-1]}"
            self.fires.append(replace(fire, at_us=self._now_us, why=why))

    def _skip(self, fire: Fire, why: str) -> None:
        self.fires.append(replace(fire, status=FireStatus.SKIPPED, run=None, at_us=self._now_us, why=why))

    def _replace(self, fire: Fire) -> None:
        """Cancel what is unfinished; what this very look fired is not started at all."""
        began = {one.run for one in self.fires if one.status is FireStatus.FIRED}
        self.cancel += [run for run in self._active if run not in began]
        superseded, self.fires = self.fires, []
        for one in superseded:
            if one.status is FireStatus.FIRED:
                self._skip(one, "the fire after it came at once, and overlap is 'cancel'")
            else:
                self.fires.append(one)
        self._active.clear()
        self._fire(fire)


def _count(fires: Iterable[Fire], status: FireStatus) -> int:
    return sum(fire.status is status for fire in fires)


# --- what runs and people do to schedules -------------------------------------------------------------------


def begin(new: NewSchedule, zone: tzinfo, now_us: int, before: ScheduleRecord | None) -> ScheduleRecord:
    """The schedule as it is after it was added, or added again under a name that is there.

    A trigger that did not change goes on where it was; another one begins now, and never at a time met already. A
    person's pause stays, a hold ends. Raises UsageError for an interval under a second.
    """
    trigger = new.trigger
    if before is not None and _unanchored(before.new.trigger) == _unanchored(trigger):
        new = replace(new, trigger=before.new.trigger)
        return replace(_taken_up(before, now_us), new=new)
    if isinstance(trigger, Interval):
        timing.check_every(trigger.every_us)
        trigger = replace(trigger, anchor_us=now_us - now_us % timing.SECOND_US)
        new = replace(new, trigger=trigger)
    met_us = now_us if before is None or before.last_due_us is None else before.last_due_us
    next_us = None if isinstance(trigger, After) else timing.next_due(trigger, zone, max(now_us, met_us))
    if before is not None:
        return replace(_taken_up(before, now_us), new=new, next_due_us=next_us)
    begun = ScheduleRecord(new=new, created_at_us=now_us, next_due_us=next_us, wake_us=None)
    return replace(begun, wake_us=wake_us(begun))


def _unanchored(trigger: Trigger) -> Trigger:
    return replace(trigger, anchor_us=0) if isinstance(trigger, Interval) else trigger


def _taken_up(schedule: ScheduleRecord, now_us: int) -> ScheduleRecord:
    """To be looked at anew: whatever held it may be gone."""
    held = schedule.held is not None
    return replace(schedule, paused=schedule.paused and not held, held=None, wake_us=now_us)


def pause(schedule: ScheduleRecord) -> ScheduleRecord:
    """Fire nothing until it is resumed; due times stay where they are. Idempotent."""
    return replace(schedule, paused=True)


def resume(schedule: ScheduleRecord, now_us: int) -> ScheduleRecord:
    """Go on: what became due meanwhile is made up for as `catch_up` says, at the next look. Idempotent."""
    return replace(schedule, paused=False, held=None, wake_us=now_us) if schedule.paused else schedule


def hold(schedule: ScheduleRecord, why: str) -> ScheduleRecord:
    """Pause it because it cannot be met."""
    return replace(schedule, paused=True, held=why)


def run_now(schedule: ScheduleRecord, now_us: int) -> Fire:
    """A fire beside all others: at once, whatever runs, paused or not."""
    return Fire(
        schedule=schedule.name,
        mark=f"now {now_us}",
        due_us=now_us,
        cause=FireCause.PERSON,
        status=FireStatus.FIRED,
        run=f"{schedule.name}-now-{timing.stamp(now_us)}",
        at_us=now_us,
    )


def after(schedule: ScheduleRecord, source: Run, now_us: int) -> Fire:
    """The fire that the success of `source` makes. It waits until a controller looks."""
    return Fire(
        schedule=schedule.name,
        mark=f"run {source.key}",
        due_us=now_us,
        cause=FireCause.RUN,
        status=FireStatus.QUEUED,
        run=f"{schedule.name}-after-{source.key}",
        at_us=now_us,
        source=source.id,
        held=schedule.paused,
    )


def backfill(
    schedule: ScheduleRecord, zone: tzinfo, since_us: int, until_us: int, known: Mapping[str, Fire]
) -> list[Fire]:
    """A fire for each due time from `since_us` up to `until_us`, both included, that has no run and waits for none.

    `known` has the fires of the schedule by mark. Times that the schedule has yet to meet by itself are left to it.
    Raises Refused for what has no times, and for too many.
    """
    trigger = schedule.new.trigger
    if isinstance(trigger, After):
        raise Refused(
            f"schedule {schedule.name!r} comes after {trigger.name!r} and has no times to fill in;"
            f" holdfast schedule run-now {schedule.name}"
        )
    last_us = until_us if schedule.next_due_us is None else min(until_us, schedule.next_due_us - 1)
    first_us = timing.next_due(_from(trigger, since_us), zone, since_us - 1)
    if first_us is None or first_us > last_us:
        return []
    found = timing.dues(trigger, zone, first_us, last_us, MOST_BACKFILLED)
    if found.earlier:
        raise Refused(
            f"schedule {schedule.name!r} was due more than {MOST_BACKFILLED} times in this window;"
            " fill it in in parts, the oldest first"
        )
    fires = [_by_time(schedule, due_us) for due_us in found.times_us]
    return [
        replace(fire, cause=FireCause.BACKFILL, n=0 if before is None else before.n)
        for fire in fires
        if (before := known.get(fire.mark)) is None or before.status not in _HAVE_RUNS
    ]


def _from(trigger: Cron | Interval, since_us: int) -> Cron | Interval:
    """An interval reaches back before its anchor when it is asked to."""
    if isinstance(trigger, Interval) and since_us <= trigger.anchor_us:
        back = (trigger.anchor_us - since_us) // trigger.every_us + 2
        return replace(trigger, anchor_us=trigger.anchor_us - back * trigger.every_us)
    return trigger


def circle(schedules: Iterable[NewSchedule]) -> list[str] | None:
    """Names of schedules that would start each other for ever, in order; None when there are none."""
    comes_after = {one.name: one for one in schedules}
    following: dict[str, list[str]] = {name: [] for name in comes_after}
    for name, one in comes_after.items():
        if isinstance(one.trigger, After):
            for source in comes_after.values():
                if one.trigger.name in (source.name, source.agent):
                    following[source.name].append(name)
    for start in comes_after:
        path, seen = [start], {start}
        stack = [iter(following[start])]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                path.pop()
            elif found == start:
                return [*path, start]
            elif found not in seen:
                seen.add(found)
                path.append(found)
                stack.append(iter(following[found]))
    return None
