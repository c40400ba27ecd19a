"""The lines of concurrency keys: who runs, who stands in line, who is called and not claimed yet.

A lane `stands` apart (its run ended, waits for something else, or is due again and was not looked at yet), in line,
called, or running. A new run that is due is called, or stands in line. The invariant, after every transaction: somebody
stands in line only while the runs that run and those that are called fill the limit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from holdfast.model import Lane, Reason, Run, RunState
from holdfast.rules import lanes as rules
from holdfast.rules.schedule import claim_key
from holdfast.store.transactions.connection import Connection

APART, IN_LINE, CALLED, RUNNING = "apart", "in_line", "called", "running"

MOST_COUNTED: Final = 100
"""Runs ahead in a line are counted up to here, or to the limit: further back a place says nothing more."""


class Place(NamedTuple):
    """Where a run stands that may not run now: `ahead` of it are so many, counted up to MOST_COUNTED or its limit."""

    key: str
    ahead: int


def add(connection: Connection, run: int, lane: Lane) -> None:
    """Give a new run its lane."""
    connection.run("lanes.add", (run, lane.key, lane.at_most))


def join(connection: Connection, run: Run, now_us: int) -> Place | None:
    """Where a new run, which is due, stands in line; None when there is room, and it is called."""
    place = blocked(connection, run.key)
    if place is None:
        assert run.available_at_us is not None, "it is due"
        at = claim_key(run.available_at_us, run.priority)
        connection.run("lanes.stand", (IN_LINE, at, run.available_at_us, run.key))
        connection.run("lanes.call", (now_us, run.key))
    return place


def blocked(connection: Connection, run: int) -> Place | None:
    """Where a due run would stand in line; None when it may run now, or has no concurrency key."""
    if connection.row("lanes.lane_of", (run,)) is None:
        return None
    row = connection.row("lanes.candidate", (run,))
    assert row is not None, "a lane goes with its run"
    key, at_most, stands, place, available_at_us, priority, state = row
    if state == RunState.RUNNING:  # taken over from a dead worker: it never left its place
        return None
    at = place if stands == CALLED else claim_key(available_at_us, priority)
    ahead: int = connection.value("lanes.ahead", (key, at, run, max(MOST_COUNTED, at_most)))
    live, narrowest = _running(connection, key)
    if rules.may_run(Lane(key=key, at_most=at_most), live=live, narrowest=narrowest, ahead=ahead):
        return None
    return Place(key, ahead)


def follow(connection: Connection, before: Run, after: Run, now_us: int) -> list[tuple[int, int]]:
    """Note how the run stands after its move; return whom to call up: run and due time, as `call` does."""
    row = connection.row("lanes.lane_of", (after.key,))
    if row is None:
        return []
    key, _, stands, place, due_at_us = row
    if after.state is RunState.RUNNING:
        connection.run("lanes.stand", (RUNNING, None, None, after.key))
        return []
    if after.reason is Reason.LIMIT:
        if stands != CALLED:  # who was called and came too late has its place still
            due_at_us = before.available_at_us
            assert due_at_us is not None, "only a due run stands in line"
            place = claim_key(due_at_us, before.priority)
        connection.run("lanes.stand", (IN_LINE, place, due_at_us, after.key))
    elif stands == APART:
        return []
    else:
        connection.run("lanes.stand", (APART, None, None, after.key))
    return call(connection, key, now_us)


def call(connection: Connection, key: str, now_us: int) -> list[tuple[int, int]]:
    """Call as many out of the line as there are places, from its head; return their runs and when they were due."""
    called: list[tuple[int, int]] = []
    while (head := connection.row("lanes.head", (key,))) is not None:
        run, at_most, due_at_us = head
        live, narrowest = _running(connection, key)
        waiting: int = connection.value("lanes.called", (key,))
        if not rules.may_run(Lane(key=key, at_most=at_most), live=live, narrowest=narrowest, ahead=waiting):
            break
        connection.run("lanes.call", (now_us, run))
        called.append((run, due_at_us))
    return called


def lapse(connection: Connection, now_us: int, limit: int) -> list[tuple[str, int]]:
    """Take back the calls that nobody answered in time; return their keys and runs, which stay due."""
    lapsed: list[tuple[str, int]] = []
    for run, key, called_at_us in connection.rows("lanes.longest_called", (limit,)):
        if rules.lapsed(called_at_us, now_us):
            connection.run("lanes.stand", (APART, None, None, run))
            lapsed.append((key, run))
    return lapsed


def leave(connection: Connection, key: str, run: int, limit: int) -> list[tuple[int, int]]:
    """Take at most `limit` runs out of the line that ask for the same workers as this one, which nobody took: they
    would be called in vain, one after the other. Return their runs and when they were due, as `call` does."""
    alike: list[tuple[int, int]] = [
        (row[0], row[1]) for row in connection.rows("lanes.alike", (key, run, limit))
    ]
    for other, _ in alike:
        connection.run("lanes.stand", (APART, None, None, other))
    return alike


def _running(connection: Connection, key: str) -> tuple[int, int | None]:
    row = connection.row("lanes.running", (key,))
    assert row is not None, "an aggregate has a row"
    return row[0], row[1]
