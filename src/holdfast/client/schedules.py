"""Schedules: runs that start by themselves, as people ask for them and as they look from outside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final, Literal, TypeVar

from msgspec import Struct

from holdfast import codec
from holdfast.agents import AnyAgent
from holdfast.client.view import Json, at, at_or_none, decode_json
from holdfast.duration import Duration, micros
from holdfast.errors import UsageError
from holdfast.lanes import lane_of
from holdfast.model import (
    After,
    CatchUp,
    CatchUpKind,
    Cron,
    Fire,
    Interval,
    NewSchedule,
    Overlap,
    ScheduleRecord,
    Trigger,
)
from holdfast.rules import firing, timing
from holdfast.rules.schedule import check_priority
from holdfast.store.protocol import Store
from holdfast.zones import zone

FIRES_SHOWN: Final = 20
_NAME: Final = re.compile(r"\w[\w.\-]{0,127}")
_SECOND_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """When runs of `agent` with `args` start by themselves. Exactly one of `cron`, `every` and `after` says when.

    `cron` is a cron expression, read on clocks in `zone`; `every` a duration, counted from when it was added;
    `after` the name of a schedule or an agent: each of its runs that succeeds starts one. `catch_up` says what
    becomes of times that nobody was there for: none of them (`skip`), the newest (`last`), or the newest
    `catch_up_most` within `catch_up_window` (`all`). `overlap` says what becomes of a fire while a run of this
    schedule is unfinished: it is skipped, waits for its turn (`queue`), cancels that run, or goes beside it
    (`allow`). `jitter` delays each fire by a time below it, the same one whoever asks. Runs get the agent's version
    at hand, its deadline, and its queue unless `queue` says otherwise.

    Raises UsageError for what cannot be, InvalidInput for arguments that do not fit the agent.
    """

    name: str
    agent: AnyAgent
    args: Sequence[object] = ()
    cron: str | None = None
    zone: str = "UTC"
    every: Duration | None = None
    after: str | None = None
    catch_up: Literal["skip", "last", "all"] = "last"
    catch_up_most: int = 100
    catch_up_window: Duration = "1d"
    overlap: Literal["skip", "queue", "cancel", "allow"] = "skip"
    jitter: Duration = 0
    queue: str | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        self.asked()

    def asked(self) -> NewSchedule:
        """What the store is asked for, all of it checked."""
        if not hasattr(self.agent, "fn"):
            raise UsageError(
                f"schedule {self.name!r}: {self.agent!r} is no agent: put @agent on the function"
            )
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"{self.name!r} is no name for a schedule: letters, digits, '_', '-' and '.', at most 128,"
                " beginning with a letter or digit"
            )
        check_priority(self.priority)
        payload = codec.input_json(self.agent.fn, tuple(self.args))
        return NewSchedule(
            name=self.name,
            agent=self.agent.name,
            version=self.agent.version,
            input=payload,
            trigger=self._trigger(),
            catch_up=self._catch_up(),
            overlap=self._overlap(),
            jitter_us=micros(self.jitter),
            queue=self.queue or self.agent.queue,
            priority=self.priority,
            deadline_us=self.agent.deadline_us,
            lane=lane_of(self.agent, payload),
            budget=None if self.agent.budget is None else self.agent.budget.terms,
            needs=tuple(self.agent.needs),
        )

    def _trigger(self) -> Trigger:
        given = [name for name in ("cron", "every", "after") if getattr(self, name) is not None]
        if len(given) != 1:
            said = " and ".join(given) if given else "none of them"
            raise UsageError(f"schedule {self.name!r} takes one of cron, every and after, and got {said}")
        if self.cron is not None:
            zone(self.zone)
            return Cron(expression=timing.check_cron(self.cron), zone=self.zone)
        if self.every is not None:
            return Interval(every_us=timing.check_every(micros(self.every)))
        return After(name=str(self.after))

    def _catch_up(self) -> CatchUp:
        kind = _one_of(CatchUpKind, self.catch_up, f"schedule {self.name!r}: catch_up")
        if not 1 <= self.catch_up_most <= firing.MOST_CAUGHT_UP:
            raise UsageError(
                f"schedule {self.name!r}: catch_up_most is 1 to {firing.MOST_CAUGHT_UP}, not {self.catch_up_most}"
            )
        return CatchUp(kind=kind, most=self.catch_up_most, window_us=micros(self.catch_up_window))

    def _overlap(self) -> Overlap:
        overlap = _one_of(Overlap, self.overlap, f"schedule {self.name!r}: overlap")
        if self.catch_up == "all" and overlap in (Overlap.SKIP, Overlap.CANCEL):
            raise UsageError(
                f"schedule {self.name!r}: with overlap {str(overlap)!r} only one of the fires that catch_up='all' makes"
                " up for would stay; use overlap='queue' (one after the other) or 'allow' (all at once)"
            )
        return overlap


Kind = TypeVar("Kind", CatchUpKind, Overlap)


def _one_of(kinds: type[Kind], given: str, what: str) -> Kind:
    try:
        return kinds(given)
    except ValueError as error:
        raise UsageError(f"{what} is one of {', '.join(kinds)}, not {given!r}") from error


# --- as it looks from outside -------------------------------------------------------------------------------


class FireView(Struct, frozen=True, kw_only=True):
    """One fire. `cause` is `time`, `run`, `backfill` or `person`, `status` `fired`, `queued`, `skipped` or `missed`.
    `run` is the id of its run, which a queued fire is still to start."""

    n: int
    due_at: datetime
    at: datetime
    cause: str
    status: str
    run: str | None
    source: str | None
    why: str | None


class ScheduleView(Struct, frozen=True, kw_only=True):
    """A schedule and where it stands. `next_at` is the next due time, jitter left out; None: no time makes it due.
    `fires` counts all of its life, `missed` and `skipped` those of them without a run; `last` is the newest."""

    name: str
    agent: str
    version: str
    cron: str | None
    zone: str | None
    every_s: float | None
    after: str | None
    catch_up: str
    catch_up_most: int
    catch_up_window_s: float
    overlap: str
    jitter_s: float
    queue: str
    priority: int
    input: Json
    paused: bool
    held: str | None
    next_at: datetime | None
    fires: int
    missed: int
    skipped: int
    last: FireView | None
    created_at: datetime


def fire_view(fire: Fire) -> FireView:
    """A fire as `schedule show --json` has it."""
    return FireView(
        n=fire.n,
        due_at=at(fire.due_us),
        at=at(fire.at_us),
        cause=str(fire.cause),
        status=str(fire.status),
        run=fire.run,
        source=fire.source,
        why=fire.why,
    )


def schedule_view(schedule: ScheduleRecord, last: Fire | None) -> ScheduleView:
    """A schedule as `schedule ls --json` has it."""
    new = schedule.new
    trigger = new.trigger
    return ScheduleView(
        name=new.name,
        agent=new.agent,
        version=new.version,
        cron=trigger.expression if isinstance(trigger, Cron) else None,
        zone=trigger.zone if isinstance(trigger, Cron) else None,
        every_s=trigger.every_us / _SECOND_US if isinstance(trigger, Interval) else None,
        after=trigger.name if isinstance(trigger, After) else None,
        catch_up=str(new.catch_up.kind),
        catch_up_most=new.catch_up.most,
        catch_up_window_s=new.catch_up.window_us / _SECOND_US,
        overlap=str(new.overlap),
        jitter_s=new.jitter_us / _SECOND_US,
        queue=new.queue,
        priority=new.priority,
        input=decode_json(new.input),
        paused=schedule.paused,
        held=schedule.held,
        next_at=at_or_none(schedule.next_due_us),
        fires=schedule.fires,
        missed=schedule.missed,
        skipped=schedule.skipped,
        last=None if last is None else fire_view(last),
        created_at=at(schedule.created_at_us),
    )


class Schedules:
    """The schedules of a store. Stateless: any number, in any process, see the same."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, schedule: Schedule) -> ScheduleView:
        """Add the schedule, or make the one of this name be so. Idempotent: with the trigger unchanged it goes on
        where it was. Raises UsageError, InvalidInput, and Refused for schedules that would start each other for ever.
        """
        asked = schedule.asked()
        if asked.jitter_us:
            timing.check_jitter(asked.trigger, _zone(asked.trigger), asked.jitter_us, await self._store.now())
        return await self._view(await self._store.put_schedule(asked))

    async def get(self, name: str) -> ScheduleView:
        """The schedule of this name. Raises ScheduleNotFound."""
        return await self._view(await self._store.get_schedule(name))

    async def all(self) -> list[ScheduleView]:
        """All of them, by name."""
        return [await self._view(found) for found in await self._store.list_schedules()]

    async def fires(self, name: str, *, limit: int = FIRES_SHOWN) -> list[FireView]:
        """Its newest fires, newest first. Raises ScheduleNotFound."""
        return [fire_view(fire) for fire in await self._store.list_fires(name, limit)]

    async def fire_of(self, run_id: str) -> tuple[str, FireView] | None:
        """The schedule that started a run, and the fire; None for any other run, and when it was forgotten."""
        fire = await self._store.get_fire(run_id)
        return None if fire is None else (fire.schedule, fire_view(fire))

    async def pause(self, name: str) -> ScheduleView:
        """Fire nothing until it is resumed. Idempotent. Raises ScheduleNotFound."""
        return await self._view(await self._store.pause_schedule(name))

    async def resume(self, name: str) -> ScheduleView:
        """Go on; times that passed meanwhile are made up for as `catch_up` says. Raises ScheduleNotFound."""
        return await self._view(await self._store.resume_schedule(name))

    async def remove(self, name: str) -> None:
        """Forget it, with its fires and what waits for its turn; its runs stay. Raises ScheduleNotFound."""
        await self._store.remove_schedule(name)

    async def run_now(self, name: str) -> FireView:
        """Start a run at once, whatever runs, paused or not. Raises ScheduleNotFound."""
        return fire_view(await self._store.run_schedule_now(name))

    async def backfill(self, name: str, since: datetime, until: datetime | None = None) -> list[FireView]:
        """Queue a run for each due time from `since` to `until` (default: now), both included, that has none.

        Idempotent: runs of a fire have one id, however often they are asked for. A backfill of a schedule that skips
        or cancels goes one after the other. Raises ScheduleNotFound, UsageError for times without a zone, Refused for
        more than 1,000 and for a schedule without times.
        """
        since_us = _instant(since, "since")
        until_us = await self._store.now() if until is None else _instant(until, "until")
        fires = await self._store.backfill_schedule(name, since_us, until_us)
        return [fire_view(fire) for fire in fires]

    async def _view(self, schedule: ScheduleRecord) -> ScheduleView:
        fires = await self._store.list_fires(schedule.name, 1) if schedule.fires else []
        return schedule_view(schedule, fires[0] if fires else None)


def _zone(trigger: Trigger) -> tzinfo:
    return zone(trigger.zone) if isinstance(trigger, Cron) else UTC


def _instant(moment: datetime, what: str) -> int:
    if moment.tzinfo is None:
        raise UsageError(f"{what} {moment} has no time zone: write datetime(…, tzinfo=UTC), or any other")
    return round(moment.timestamp() * _SECOND_US)
