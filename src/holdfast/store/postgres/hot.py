"""Steps in one statement: the fence, the rows and the progress of any number of runs, one journey to the database.

One step by itself, which is what a run alone does all day, is a statement of its own: it has nothing to join.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from holdfast.model import Change, Committed
from holdfast.store.postgres.connection import Connection
from holdfast.store.postgres.literals import integers, octets, texts
from holdfast.store.transactions import commit, payloads, rows
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
    lists = [*_moves(gathered, changes), *_events(gathered), *_progress(gathered)]
    if any("\0" in text for text in lists):  # the general way says which Change has it
        return {}
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


# --- a step by itself ----------------------------------------------------------------------------------------------

_INTEGER, _TEXT, _BYTES = 20, 25, 17  # PostgreSQL's numbers of these types
_STEP: Final = (
    _TEXT, *(_INTEGER,) * 6, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _INTEGER, _TEXT,
    _TEXT, _TEXT, _INTEGER, _INTEGER, _BYTES, _BYTES,
)  # fmt: skip
STEP_TYPES: Final = list(_STEP)
STEP_FORMATS: Final = [0 if kind == _INTEGER else 1 for kind in _STEP]
"""Texts go as bytes, too: what the database cannot keep is refused by it, not cut off on the way."""


def is_step(change: Change) -> bool:
    """Whether the Change is one entry and nothing else."""
    return (
        len(change.entries) == 1
        and not change.notes
        and change.progress is None
        and commit.is_plain(change)
        and len(change.entries[0].payload) <= payloads.INLINE_BYTES
    )


def step_values(connection: Connection, change: Change, given_us: int | None) -> list[bytes | None]:
    """The values of `hot.record_step` for such a Change."""
    (entry,) = change.entries
    segment, scope, name, key, occurrence = entry.identity
    status = entry.status
    assert connection.writer is not None, "it has a row to count in"
    return [
        connection.writer.encode(), b"%d" % connection.written, None if given_us is None else b"%d" % given_us,
        b"%d" % change.run, b"%d" % change.token, b"%d" % change.position, b"%d" % (status in commit.OUTCOMES),
        None if change.step is None else change.step.encode(),
        None if change.reason is None else change.reason.encode(),
        rows.ENTRY_EVENTS[status].encode(), entry.kind.encode(), status.encode(), b"%d" % segment, scope.encode(),
        name.encode(), None if key is None else key.encode(), b"%d" % occurrence, b"%d" % entry.started_at_us,
        entry.args_hash or None, entry.payload,
    ]  # fmt: skip


def step_answer(row: bytes | None) -> tuple[int | None, int | None]:
    """The time and the event of `hot.record_step`."""
    assert row is not None, "a function with answers gives a row of them"
    now_us, event = row.strip(b"()").split(b",")
    return int(now_us) if now_us else None, int(event) if event else None


# --- lists ------------------------------------------------------------------------------------------------------

_KINDS: Final = "itittitttiiibib"  # of the columns of `_events`, after its run: i(nteger), t(ext), b(ytes)


def _moves(gathered: Gathered, changes: Sequence[Change]) -> list[str]:
    moves = [move for _, move in gathered.moves]
    return [
        integers([move.run for move in moves]),
        integers([move.entries for move in moves]),
        integers([move.events for move in moves]),
        integers([move.steps for move in moves]),
        integers([move.token for move in moves]),
        texts([move.step for move in moves]),
        integers([move.expected for move in moves]),
        texts([changes[indexes[-1]].reason for indexes, _ in gathered.moves]),
    ]


def _events(gathered: Gathered) -> list[str]:
    columns = zip(*gathered.rows, strict=True) if gathered.rows else [()] * (_EVENT_COLUMNS + 1)
    kept = [column for n, column in enumerate(columns) if n not in (_AT_US, _EVENT_COLUMNS)]
    return [_LISTS[kind](column) for kind, column in zip("i" + _KINDS, kept, strict=True)]


def _progress(gathered: Gathered) -> list[str]:
    told = gathered.progress
    return [
        integers([run for run, _ in told]),
        integers([float(report.current) for _, report in told]),
        integers([None if report.total is None else float(report.total) for _, report in told]),
        texts([report.description for _, report in told]),
        texts([report.phase for _, report in told]),
        integers([report.started_at_us for _, report in told]),
    ]


_LISTS: Final[Mapping[str, Callable[[Iterable[Any]], str]]] = {"i": integers, "t": texts, "b": octets}
