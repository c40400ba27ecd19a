"""Schedules: added, looked at, fired. What a look decides is the rules'; here it becomes durable in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, tzinfo
from typing import Final

from msgspec.structs import replace

from holdfast.errors import (
    Conflict,
    PayloadTooLarge,
    Refused,
    RunNotFound,
    ScheduleNotFound,
    StoreCorrupt,
    UsageError,
)
from holdfast.model import (
    After,
    Cron,
    Fire,
    Fired,
    FireStatus,
    Lane,
    NewRun,
    NewSchedule,
    ScheduleRecord,
    Trigger,
)
from holdfast.rules import firing, labels, transitions
from holdfast.rules.schedule import check_priority
from holdfast.store.transactions import budgets, decisions, runs, schedule_rows
from holdfast.store.transactions.connection import Broken, Connection
from holdfast.zones import zone

INPUT_BYTES: Final = 64 * 1024  # it is written into every run, and read at every look
MOST_SCHEDULES: Final = 10_000  # what is listed, and walked through for circles
_ALL: Final = 1 << 62
TAG: Final = "schedule"  # what every run of a schedule is found by

Change = Callable[[ScheduleRecord, int], ScheduleRecord]


def get(connection: Connection, name: str) -> ScheduleRecord:
    """The schedule of this name. Raises ScheduleNotFound."""
    row = connection.row("schedules.schedule", (name,))
    if row is None:
        raise ScheduleNotFound(
            f"no schedule {name!r} in {connection.where}; `holdfast schedule ls` lists them"
        )
    return schedule_rows.schedule_of(row)


def listed(connection: Connection) -> list[ScheduleRecord]:
    """All of them, by name."""
    return [schedule_rows.schedule_of(row) for row in connection.rows("schedules.schedules")]


def fires(connection: Connection, name: str, limit: int) -> list[Fire]:
    """The newest fires, newest first. Raises ScheduleNotFound."""
    get(connection, name)
    return [schedule_rows.fire_of(row) for row in connection.rows("schedules.fires", (name, limit))]


def fire_of_run(connection: Connection, run_id: str) -> Fire | None:
    """The fire that the run is of, while it is in the history."""
    row = connection.row("schedules.fire_of_run", (run_id,))
    return None if row is None else schedule_rows.fire_of(row)


# --- adding and steering ------------------------------------------------------------------------------------


def put(connection: Connection, new: NewSchedule, now_us: int) -> ScheduleRecord:
    """Add the schedule, or make the one of this name be so. Raises UsageError, Refused and PayloadTooLarge."""
    check_priority(new.priority)
    if len(new.input) > INPUT_BYTES:
        raise PayloadTooLarge(
            f"the input of schedule {new.name!r} is {len(new.input) / 1024:.0f} KiB, over {INPUT_BYTES // 1024}:"
            " every run gets it anew; write it to a file and give the path"
        )
    row = connection.row("schedules.schedule", (new.name,))
    before = None if row is None else schedule_rows.schedule_of(row)
    if before is None and connection.value("schedules.count_schedules") >= MOST_SCHEDULES:
        raise Refused(f"the store has {MOST_SCHEDULES} schedules, the most it takes; remove some")
    if isinstance(new.trigger, After):
        _refuse_circle(connection, new)
    schedule = firing.begin(new, _zone(new.trigger), now_us, before)
    if before is None:
        connection.run("schedules.insert_schedule", schedule_rows.schedule_values(schedule))
    else:
        connection.run("schedules.update_schedule", schedule_rows.schedule_values(schedule))
    if new.lane is None:
        connection.run("schedules.drop_lane", (new.name,))
    else:
        connection.run("schedules.put_lane", (new.name, new.lane.key, new.lane.at_most))
    connection.run("schedules.put_needs", (labels.told(new.needs), new.name))
    budgets.put_of_schedule(connection, new.name, new.budget)
    return schedule


def _refuse_circle(connection: Connection, new: NewSchedule) -> None:
    others = {one.name: one.new for one in listed(connection)}
    circle = firing.circle((others | {new.name: new}).values())
    if circle is not None:
        raise Refused(f"these would start each other for ever: {' → '.join(circle)}; break the circle")


def change(connection: Connection, name: str, rule: Change, now_us: int) -> ScheduleRecord:
    """Pause or resume. Raises ScheduleNotFound."""
    schedule = rule(get(connection, name), now_us)
    connection.run("schedules.move_schedule", schedule_rows.state_values(schedule))
    return schedule


def remove(connection: Connection, name: str) -> None:
    """Forget the schedule, its history, and what waits for its turn; runs stay. Raises ScheduleNotFound."""
    get(connection, name)
    connection.run("schedules.delete_schedule", (name,))


def run_now(connection: Connection, name: str, now_us: int) -> Fire:
    """Start a run beside all others. Raises ScheduleNotFound."""
    schedule = get(connection, name)
    while connection.row("schedules.has_mark", (name, f"now {now_us}")) is not None:
        now_us += 1
    (fire,) = _write(connection, schedule, [firing.run_now(schedule, now_us)], now_us)
    connection.run("schedules.count_fire", (name,))
    return fire


def backfill(connection: Connection, name: str, since_us: int, until_us: int, now_us: int) -> list[Fire]:
    """Queue a fire for every due time of the window that has none. Raises ScheduleNotFound and Refused."""
    schedule = get(connection, name)
    known = {fire.mark: fire for fire in fires(connection, name, _ALL)}
    wanted = firing.backfill(schedule, _zone(schedule.new.trigger), since_us, min(until_us, now_us), known)
    queued = _write(connection, schedule, [replace(fire, at_us=now_us) for fire in wanted], now_us)
    if queued:
        after = replace(schedule, fires=schedule.fires + sum(fire.n == 0 for fire in wanted), wake_us=now_us)
        connection.run("schedules.move_schedule", schedule_rows.state_values(after))
    return queued


def _zone(trigger: Trigger) -> tzinfo:
    return zone(trigger.zone) if isinstance(trigger, Cron) else UTC


# --- firing -------------------------------------------------------------------------------------------------


def next_wake(connection: Connection) -> int | None:
    """When a schedule must be looked at next."""
    found: int | None = connection.value("schedules.next_wake")
    return found


def fire(connection: Connection, limit: int, now_us: int) -> Fired:
    """Look at the schedules whose time has come, until about `limit` fires are written."""
    looked = written = 0
    for (name,) in connection.rows("schedules.due", (now_us, limit)):
        written += 1 + _look(connection, get(connection, name), now_us)
        looked += 1
        if written >= limit:
            break
    wake_us = next_wake(connection)
    return Fired(schedules=looked, next_in_us=None if wake_us is None else wake_us - now_us)


def _look(connection: Connection, schedule: ScheduleRecord, now_us: int) -> int:
    """Look at one schedule. One that cannot be met is held, and keeps no other from being met."""
    try:
        with connection.savepoint():
            return _meet(connection, schedule, now_us)
    except (UsageError, Refused, StoreCorrupt, Broken) as error:
        # This machine knows fewer zones than that where it was added, a newer library reads its cron otherwise …
        held = firing.hold(schedule, f"{error}; then: holdfast schedule resume {schedule.name}")
        connection.run("schedules.move_schedule", schedule_rows.state_values(held))
        return 0


def _meet(connection: Connection, schedule: ScheduleRecord, now_us: int) -> int:
    decided = firing.decide(
        schedule,
        _zone(schedule.new.trigger),
        now_us,
        waiting=[
            schedule_rows.fire_of(row) for row in connection.rows("schedules.waiting", (schedule.name,))
        ],
        active=[row[0] for row in connection.rows("schedules.active", (schedule.name,))],
    )
    for run_id in decided.cancel:
        _cancel(connection, run_id, now_us)
    written = _write(connection, schedule, decided.fires, now_us)
    after = decided.schedule
    refused = sum(one.status is not was.status for one, was in zip(written, decided.fires, strict=True))
    after = replace(after, missed=after.missed + refused)
    connection.run("schedules.move_schedule", schedule_rows.state_values(after))
    return len(written)


def _cancel(connection: Connection, run_id: str, now_us: int) -> None:
    try:
        run = decisions.run_by_id(connection, run_id)
    except RunNotFound:
        return  # deleted meanwhile
    decisions.apply(connection, run, transitions.cancel(run, now_us), now_us)


def _write(
    connection: Connection, schedule: ScheduleRecord, decided: Sequence[Fire], now_us: int
) -> list[Fire]:
    """Write fires, new ones numbered on from the schedule's count, and start the runs of those that fired."""
    written: list[Fire] = []
    n = schedule.fires
    for fire in decided:
        is_new = fire.n == 0
        n += is_new
        fire = replace(fire, n=n if is_new else fire.n)
        run_key, active = None, False
        if fire.status is FireStatus.FIRED:
            fire, run_key, active = _start(connection, schedule.new, fire, now_us)
        values = schedule_rows.fire_values(fire, run_key, active=active)
        connection.run("schedules.insert_fire" if is_new else "schedules.move_fire", values)
        written.append(fire)
    if n > firing.KEPT_FIRES:
        connection.run("schedules.forget_fires", (schedule.name, n - firing.KEPT_FIRES))
    return written


def _start(
    connection: Connection, new: NewSchedule, fire: Fire, now_us: int
) -> tuple[Fire, int | None, bool]:
    """The run of a fire, its key, and whether it is unfinished. An id that is taken makes the fire a missed one."""
    assert fire.run is not None, "what fires knows its run"
    lane = connection.row("schedules.lane", (new.name,))
    run = NewRun(
        id=fire.run,
        agent=new.agent,
        version=new.version,
        input=new.input,
        queue=new.queue,
        priority=new.priority,
        deadline_us=new.deadline_us,
        tags=((TAG, new.name),),
        lane=None if lane is None else Lane(key=lane[0], at_most=lane[1]),
        budget=budgets.of_schedule(connection, new.name),
        needs=labels.of(connection.value("schedules.needs", (new.name,))),
    )
    try:
        created = runs.create(connection, run, now_us).run
    except Conflict as error:
        return replace(fire, status=FireStatus.MISSED, run=None, why=str(error)), None, False
    return fire, created.key, not created.state.final
