"""Builds what an attempt needs to go on: the newest good checkpoint, the setup, and the tail.

The cost is setup + state + tail, whatever the history: a checkpoint remembers the run's event number at its save,
so the tail is one range of the index on (run, n).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from holdfast.model import Checkpoint, Entry, Journal, Note, Resolution, Run
from holdfast.store.transactions import budgets, payloads, rows, steps
from holdfast.store.transactions.connection import Connection, Row

_PAYLOAD: Final = 14
_NEWEST: Final = 1 << 62


ANY_LIMIT: Final = ("budgets.any_limit", ())
"""What `build` asks first, for every run."""


def look_ahead(connection: Connection, runs: Sequence[Run]) -> None:
    """`build` is going to be asked for all of these, which are nobody's and as they were read."""
    begun = [run for run in runs if _has_begun(run)]
    if not begun:
        return
    saved = [(run.key, _NEWEST) for run in begun if run.checkpoint_n]
    connection.ahead(
        *(("journal.checkpoint_below", each) for each in saved),
        *(("journal.resolutions", (run.key,)) for run in begun),
        *(("steps.cursors", (run.key,)) for run in begun),
    )
    tails = [(run.key, 0, 0) for run in begun if run.position and not run.checkpoint_n]
    turns: list[tuple[int, int]] = []
    for each in saved:
        row = connection.row("journal.checkpoint_below", each)
        if row is not None:  # good, nearly always
            tails.append((each[0], row[9], row[1]))
            turns.append((each[0], row[0]))
    connection.ahead(
        *(("journal.turns", each) for each in turns),
        *(("journal.setup", (key, event_no)) for key, event_no, _ in tails if event_no),
        *(("journal.tail", each) for each in tails),
    )


def _has_begun(run: Run) -> bool:
    return bool(run.position or run.checkpoint_n or run.attempts)


def build(connection: Connection, run: Run) -> tuple[Journal, tuple[Note, ...]]:
    """The journal of a run that is being claimed, and an event for each checkpoint now found bad.

    Raises StoreCorrupt when an entry of it fails its checksum.
    """
    if not _has_begun(run):  # a run that has only begun costs no reads
        return Journal(checkpoint=None, entries=(), limited=budgets.limited(connection, run.key)), ()
    checkpoint, event_no, corrupt, unmarked = _newest_good(connection, run)
    notes: list[Note] = []
    for n, name in unmarked:
        connection.run("journal.mark_corrupt", (run.key, n))
        notes.append(Note("checkpoint.corrupt", rows.event_json(n=n, name=name)))
    lost = _is_lost(connection, run, checkpoint)
    return _journal(connection, run, checkpoint, event_no, corrupt, lost=lost), tuple(notes)


def look(connection: Connection, run: Run, *, whole: bool) -> Journal:
    """The journal of a run as its next attempt would get it; `whole`: from the start of the run, whatever is saved.

    Changes nothing. Raises StoreCorrupt as `build` does.
    """
    if whole:
        return _journal(connection, run, None, 0, (), lost=False)
    checkpoint, event_no, corrupt, _ = _newest_good(connection, run)
    lost = _is_lost(connection, run, checkpoint)
    return _journal(connection, run, checkpoint, event_no, corrupt, lost=lost)


def _is_lost(connection: Connection, run: Run, checkpoint: Checkpoint | None) -> bool:
    if checkpoint is not None or not run.checkpoint_n:
        return False
    return run.checkpoint_n > (connection.value("journal.most_kept", (run.key,)) or 0)


def _journal(
    connection: Connection,
    run: Run,
    checkpoint: Checkpoint | None,
    event_no: int,
    corrupt: tuple[int, ...],
    *,
    lost: bool,
) -> Journal:
    segment = 0 if checkpoint is None else checkpoint.segment
    found: list[Row] = []
    if not lost and run.position:
        if event_no:
            found += connection.rows("journal.setup", (run.key, event_no))
        found += connection.rows("journal.tail", (run.key, event_no, segment))
    return Journal(
        checkpoint=checkpoint,
        entries=tuple(entry(connection, row, run.id) for row in found),
        resolutions=_resolutions(connection, run),
        corrupt=corrupt,
        lost=lost,
        cursors=steps.cursors(connection, run.key),
        limited=budgets.limited(connection, run.key),
    )


def entry(connection: Connection, row: Row, run_id: str) -> Entry:
    """An entry with its payload, wherever that is kept. Raises StoreCorrupt."""
    inline, blob = row[_PAYLOAD], row[_PAYLOAD + 1]
    if blob is not None:
        inline = payloads.load(connection, None, blob, f"run {run_id}: entry {row[0]}, {row[3]!r}")
    return rows.entry_of(row, inline)


def _newest_good(
    connection: Connection, run: Run
) -> tuple[Checkpoint | None, int, tuple[int, ...], list[tuple[int, str | None]]]:
    """The newest good checkpoint, its event number, the bad ones passed over, and those not yet known to be bad."""
    corrupt: list[int] = []
    unmarked: list[tuple[int, str | None]] = []
    below = _NEWEST if run.checkpoint_n else 0
    while below and (row := connection.row("journal.checkpoint_below", (run.key, below))) is not None:
        below = row[0]
        state = payloads.unpack(row[6], row[7], row[8])
        if state is not None:
            found = replace(rows.checkpoint_of(row, True, state), turns=_turns(connection, run.key, below))
            return found, row[9], tuple(corrupt), unmarked
        corrupt.append(below)
        if not row[10]:
            unmarked.append((below, row[2]))
    return None, 0, tuple(corrupt), unmarked


def _turns(connection: Connection, run: int, n: int) -> bytes:
    row = connection.row("journal.turns", (run, n))
    return b"" if row is None else row[0]


def _resolutions(connection: Connection, run: Run) -> tuple[Resolution, ...]:
    """All of them: one whose call lies before the checkpoint still says that its entry was answered there."""
    return tuple(rows.resolution_of(row[0]) for row in connection.rows("journal.resolutions", (run.key,)))
