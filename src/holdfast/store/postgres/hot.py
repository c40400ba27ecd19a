"""Steps in one statement: the fence, the rows and the progress of any number of runs, one journey to the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from holdfast.model import Change, Committed
from holdfast.store.postgres.connection import Connection
from holdfast.store.transactions.commit import Gathered

_EVENT_COLUMNS = 17  # of `EventRow`: without the blob, which a row of this road never has
_AT_US = 2


def record(
    connection: Connection, gathered: Gathered, changes: Sequence[Change], given_us: int | None
) -> dict[int, Committed] | None:
    """Record the Changes and answer those whose runs moved; None when the writer was given up: nothing was done.

    `given_us` is the time, when it is not that of the database.
    """
    connection.register()
    lists: list[Any] = [*_moves(gathered, changes), *_rows(gathered)]
    found = connection.rows("hot.record", (connection.writer, connection.written, given_us, *lists))
    if not found:
        return None
    connection.written += 1
    moved = {row[1]: row for row in found}
    answers: dict[int, Committed] = {}
    for indexes, move in gathered.moves:
        if (row := moved.get(move.run)) is not None:
            for index in indexes:
                done = gathered.answers[index]
                answers[index] = Committed(done.position + row[2], done.event_no + row[3], row[0])
    return answers


def recorded(connection: Connection, gathered: Gathered, changes: Sequence[Change]) -> dict[int, Committed]:
    """The answers of a recording that came through and whose answer was lost: by its entries, which are there; what has
    none moved its run if that has the token still, which only rises."""
    answers: dict[int, Committed] = {}
    for indexes, move in gathered.moves:
        for index in indexes:
            if (
                found := _recorded(connection, changes[index], gathered.answers[index], move.token)
            ) is not None:
                answers[index] = found
    return answers


def _recorded(connection: Connection, change: Change, done: Committed, token: int) -> Committed | None:
    if change.entries:
        position = change.position + len(change.entries)
        row = connection.row("hot.recorded_at", (change.run, position, token))
        return None if row is None else Committed(position, row[0] + (change.progress is not None), row[1])
    row = connection.row("hot.live_at", (change.run, token))
    return None if row is None else replace(done, position=row[0], event_no=row[1])


def _moves(gathered: Gathered, changes: Sequence[Change]) -> list[list[Any]]:
    moves = [move for _, move in gathered.moves]
    return [
        [move.run for move in moves],
        [move.entries for move in moves],
        [move.events for move in moves],
        [move.steps for move in moves],
        [move.token for move in moves],
        [move.step for move in moves],
        [move.expected for move in moves],
        [changes[indexes[-1]].reason for indexes, _ in gathered.moves],
    ]


def _rows(gathered: Gathered) -> list[list[Any]]:
    columns = zip(*gathered.rows, strict=True) if gathered.rows else [()] * (_EVENT_COLUMNS + 1)
    events = [list(column) for n, column in enumerate(columns) if n not in (_AT_US, _EVENT_COLUMNS)]
    told = gathered.progress
    return [
        *events,
        [run for run, _ in told],
        [float(report.current) for _, report in told],
        [None if report.total is None else float(report.total) for _, report in told],
        [report.description for _, report in told],
        [report.phase for _, report in told],
        [report.started_at_us for _, report in told],
    ]
