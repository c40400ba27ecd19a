"""Steps in one statement: the fence, the rows and the progress of any number of runs, one journey to the database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

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
    lists = [*_moves(gathered, changes), *_events(gathered)]
    name = "hot.record"
    if gathered.progress:
        name, lists = "hot.record_progress", [*lists, *_progress(gathered)]
    if any("\0" in text for text in lists):  # the general way says which Change has it
        return {}
    found = connection.planned(name, (connection.writer, connection.written, given_us, *lists))
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


# --- lists as the database reads them -------------------------------------------------------------------------
#
# The driver's own way looks at the type of every element: it took twice as long as the rest of a step (measured).

_KINDS: Final = "itittitttiiibib"  # of the columns of `_events`, after its run: i(nteger), t(ext), b(ytes)


def _moves(gathered: Gathered, changes: Sequence[Change]) -> list[str]:
    moves = [move for _, move in gathered.moves]
    return [
        _integers([move.run for move in moves]),
        _integers([move.entries for move in moves]),
        _integers([move.events for move in moves]),
        _integers([move.steps for move in moves]),
        _integers([move.token for move in moves]),
        _texts([move.step for move in moves]),
        _integers([move.expected for move in moves]),
        _texts([changes[indexes[-1]].reason for indexes, _ in gathered.moves]),
    ]


def _events(gathered: Gathered) -> list[str]:
    columns = zip(*gathered.rows, strict=True) if gathered.rows else [()] * (_EVENT_COLUMNS + 1)
    kept = [column for n, column in enumerate(columns) if n not in (_AT_US, _EVENT_COLUMNS)]
    return [_LISTS[kind](column) for kind, column in zip("i" + _KINDS, kept, strict=True)]


def _progress(gathered: Gathered) -> list[str]:
    told = gathered.progress
    return [
        _integers([run for run, _ in told]),
        _integers([float(report.current) for _, report in told]),
        _integers([None if report.total is None else float(report.total) for _, report in told]),
        _texts([report.description for _, report in told]),
        _texts([report.phase for _, report in told]),
        _integers([report.started_at_us for _, report in told]),
    ]


def _integers(values: Iterable[float | None]) -> str:
    return "{" + ",".join(["NULL" if value is None else repr(value) for value in values]) + "}"


def _texts(values: Iterable[str | None]) -> str:
    return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"


def _bytes(values: Iterable[bytes | None]) -> str:
    return "{" + ",".join(["NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values]) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_LISTS: Final[Mapping[str, Callable[[Iterable[Any]], str]]] = {"i": _integers, "t": _texts, "b": _bytes}
