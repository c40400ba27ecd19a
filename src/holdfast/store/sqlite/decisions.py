"""Makes a rule's decision about a run durable: the row, its payloads, its events, what is superseded."""

from __future__ import annotations

from msgspec.structs import replace

from holdfast.errors import RunNotFound
from holdfast.model import Decision, Note, Run
from holdfast.rules import transitions
from holdfast.store.sql import statements
from holdfast.store.sqlite import ends, lanes, payloads, rows
from holdfast.store.sqlite.connection import Connection

_SQL = statements("holdfast.store.sqlite", "sql", "decisions.sql")
_SETTLE_RUN, _SETTLE_PAYLOADS = _SQL["settle_run"], _SQL["settle_payloads"]
_SUPERSEDE, _RETURN_SIGNAL = _SQL["supersede"], _SQL["return_signal"]
_INSERT_RESOLUTION, _LET_ANY_WORKER_CLAIM = _SQL["insert_resolution"], _SQL["let_any_worker_claim"]
_RUN_BY_KEY, _RUN_BY_ID = _SQL["run_by_key"], _SQL["run_by_id"]
_INSERT_NOTE = statements("holdfast.store.sqlite", "sql", "commit.sql")["insert_note"]


def run_by_key(connection: Connection, key: int) -> Run | None:
    """The run without its result, or None."""
    row = connection.row(_RUN_BY_KEY, (key,))
    return None if row is None else rows.run_of(row)


def run_by_id(connection: Connection, run_id: str) -> Run:
    """The run with all that is known of it. Raises RunNotFound."""
    row = connection.row(_RUN_BY_ID, (run_id,))
    if row is None:
        raise RunNotFound(f"no run has the id {run_id!r} in {connection.path}; `holdfast ls` lists them")
    run = rows.run_of(row)
    inline, blob = row[rows.RESULT : rows.RESULT + 2]
    if inline is None and blob is None:
        return run
    return replace(run, result=payloads.load(connection, inline, blob, f"the result of run {run_id}"))


def apply(connection: Connection, before: Run, decision: Decision, now_us: int) -> Run:
    """Write what was decided about `before`, inside the caller's transaction, and return the run as it is then.

    The one door of every move, so the line of its concurrency key moves here, too: who frees a place calls the next.
    """
    after = _write(connection, before, decision, now_us)
    if (after.state, after.reason, after.available_at_us) != (
        before.state,
        before.reason,
        before.available_at_us,
    ):
        _call_up(connection, lanes.follow(connection, before, after, now_us), now_us)
    return after


def pass_over(connection: Connection, now_us: int, limit: int) -> int:
    """Call the next where a called run was not claimed in time; how many calls passed on."""
    keys = lanes.lapse(connection, now_us, limit)
    for key in keys:
        _call_up(connection, lanes.call(connection, key, now_us), now_us)
    return len(keys)


def _call_up(connection: Connection, called: list[tuple[int, int]], now_us: int) -> None:
    for key, due_at_us in called:
        run = run_by_key(connection, key)
        assert run is not None, "a lane goes with its run"
        _write(connection, run, transitions.call_up(run, due_at_us, now_us), now_us)


def _write(connection: Connection, before: Run, decision: Decision, now_us: int) -> Run:
    notes = decision.notes
    after = replace(decision.run, event_no=before.event_no + len(notes))
    if after != before:
        connection.run(_SETTLE_RUN, (*rows.run_values(after), after.key))
    if (after.result, after.failure, after.mismatch) != (before.result, before.failure, before.mismatch):
        _write_payloads(connection, after)
    if decision.claimable:
        connection.run(_LET_ANY_WORKER_CLAIM, (after.key,))
    for position in decision.supersede:
        connection.run(_SUPERSEDE, (after.key, position))
        connection.run(_RETURN_SIGNAL, (after.key, position))
    if decision.resolution is not None:
        connection.run(_INSERT_RESOLUTION, (after.key, rows.to_json(decision.resolution)))
    write_notes(connection, after.key, before.event_no + 1, notes, now_us)
    ends.moved(connection, before, after, now_us)
    return after


def write_notes(connection: Connection, run: int, first_n: int, notes: tuple[Note, ...], now_us: int) -> None:
    """Write events that are not entries, numbered from `first_n`."""
    for n, note in enumerate(notes, first_n):
        connection.run(
            _INSERT_NOTE, (run, n, now_us, note.type, *payloads.keep(connection, run, note.payload))
        )


def _write_payloads(connection: Connection, run: Run) -> None:
    result: tuple[bytes | None, int | None] = (None, None)
    if run.result is not None:
        payloads.check_size(run.result, f"the result of run {run.id}")
        result = payloads.keep(connection, run.key, run.result)
    connection.run(
        _SETTLE_PAYLOADS, (*result, rows.to_json(run.failure), rows.to_json(run.mismatch), run.key)
    )
