"""Schedules and fires as rows, in the order of the columns in schedules.sql."""

from __future__ import annotations

from typing import Any

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
    ScheduleRecord,
    Trigger,
)
from holdfast.store.transactions.connection import Row


def schedule_of(row: Row) -> ScheduleRecord:
    """A schedule from its row."""
    new = NewSchedule(
        name=row[0],
        agent=row[1],
        version=row[2],
        input=row[3],
        trigger=_trigger_of(row[4:9]),
        catch_up=CatchUp(kind=CatchUpKind(row[9]), most=row[10], window_us=row[11]),
        overlap=Overlap(row[12]),
        jitter_us=row[13],
        queue=row[14],
        priority=row[15],
        deadline_us=row[16],
    )
    return ScheduleRecord(
        new=new,
        created_at_us=row[17],
        next_due_us=row[18],
        wake_us=row[19],
        last_due_us=row[20],
        paused=row[21] == 1,
        held=row[22],
        fires=row[23],
        missed=row[24],
        skipped=row[25],
    )


def _trigger_of(cells: Row) -> Trigger:
    cron, zone, every_us, anchor_us, after = cells
    if cron is not None:
        return Cron(expression=cron, zone=zone)
    if every_us is not None:
        return Interval(every_us=every_us, anchor_us=anchor_us)
    return After(name=after)


def _trigger_cells(trigger: Trigger) -> tuple[Any, ...]:
    match trigger:
        case Cron(expression=expression, zone=zone):
            return expression, zone, None, None, None
        case Interval(every_us=every_us, anchor_us=anchor_us):
            return None, None, every_us, anchor_us, None
        case After(name=name):
            return None, None, None, None, name


def schedule_values(schedule: ScheduleRecord) -> tuple[Any, ...]:
    """The whole row."""
    new = schedule.new
    return (
        new.name, new.agent, new.version, new.input, *_trigger_cells(new.trigger), new.catch_up.kind,
        new.catch_up.most, new.catch_up.window_us, new.overlap, new.jitter_us, new.queue, new.priority,
        new.deadline_us, schedule.created_at_us, *state_values(schedule)[1:],
    )  # fmt: skip


def state_values(schedule: ScheduleRecord) -> tuple[Any, ...]:
    """What its fires change, in the order of the statement `move_schedule`."""
    return (
        schedule.name, schedule.next_due_us, schedule.wake_us, schedule.last_due_us, schedule.paused, schedule.held,
        schedule.fires, schedule.missed, schedule.skipped,
    )  # fmt: skip


def fire_of(row: Row) -> Fire:
    """A fire from its row."""
    return Fire(
        schedule=row[0],
        n=row[1],
        mark=row[2],
        due_us=row[3],
        cause=FireCause(row[4]),
        status=FireStatus(row[5]),
        run=row[6],
        at_us=row[7],
        why=row[8],
        source=row[9],
        held=row[10] == 1,
    )


def fire_values(fire: Fire, run_key: int | None = None, *, active: bool = False) -> tuple[Any, ...]:
    """The whole row."""
    return (
        fire.schedule, fire.n, fire.mark, fire.due_us, fire.cause, fire.status, fire.run, run_key, active, fire.at_us,
        fire.why, fire.source, fire.held,
    )  # fmt: skip
