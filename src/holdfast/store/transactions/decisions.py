"""Makes a rule's decision about a run durable: the row, its payloads, its events, what is superseded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from holdfast.errors import RunNotFound
from holdfast.model import Decision, Note, Run
from holdfast.rules import transitions
from holdfast.rules.waits import child_of
from holdfast.store.transactions import ends, lanes, payloads, questions, rows
from holdfast.store.transactions.connection import Connection, Read, Row, Values
from holdfast.store.transactions.family import AT_ONCE, Family

KEPT: Final = -1
"""In place of a worker: whoever claimed the run last stays the one."""


class Ties(NamedTuple):
    """What else a move of a run concerns."""

    lane: bool
    questions: bool
    kin: bool
    schedules: bool


ANY: Final = Ties(lane=True, questions=True, kin=True, schedules=True)
"""Nobody has looked: all of it may be."""


def run_by_key(connection: Connection, key: int) -> Run | None:
    """The run without its result, or None."""
    row = connection.row("decisions.run_by_key", (key,))
    return None if row is None else rows.run_of(row)


def run_by_id(connection: Connection, run_id: str) -> Run:
    """The run with all that is known of it. Raises RunNotFound."""
    return whole_run(connection, _found(connection, connection.row("decisions.run_by_id", (run_id,)), run_id))


def small_run(connection: Connection, run_id: str) -> Run | None:
    """The same where it is one small row, for who only looks; None when the result is kept elsewhere. Raises
    RunNotFound."""
    row = _found(connection, connection.row("decisions.shown_by_id", (run_id,)), run_id)
    return None if row[rows.RESULT + 1] is not None else whole_run(connection, row)


def _found(connection: Connection, row: Row | None, run_id: str) -> Row:
    if row is None:
        raise RunNotFound(f"no run has the id {run_id!r} in {connection.where}; `holdfast ls` lists them")
    return row


def whole_run(connection: Connection, row: Row) -> Run:
    """The run with its result, from a row of `whole_runs`; further columns are ignored."""
    run = rows.run_of(row)
    inline, blob = row[rows.RESULT : rows.RESULT + 2]
    if inline is None and blob is None:
        return run
    return replace(run, result=payloads.load(connection, inline, blob, f"the result of run {run.id}"))


def row_with_ties(connection: Connection, key: int) -> tuple[Row, Ties]:
    """The row of `whole_runs` of a run that was read in this transaction, and what else its move concerns."""
    row = connection.row("decisions.row_with_ties", (key,))
    assert row is not None, "it was read in this transaction"
    return row, Ties(*row[rows.TIES :])


def look_ahead(connection: Connection, keys: Sequence[int], *more: Read) -> None:
    """`row_with_ties` is going to be asked of all of these."""
    connection.ahead(*(("decisions.row_with_ties", (key,)) for key in keys), *more)


def apply(
    connection: Connection,
    before: Run,
    decision: Decision,
    now_us: int,
    *,
    ties: Ties = ANY,
    holder: int | None = KEPT,
) -> Run:
    """Write what was decided about `before`, inside the caller's transaction, and return the run as it is then.

    What it means for the run's parent and children becomes durable with it, and the line of its concurrency key moves:
    who frees a place calls the next. `ties`, when they were read in this transaction, spare the looks at what the run
    has nothing to do with. `holder` is the worker that claimed it last, from now on.
    """
    after, undone = _settle(connection, before, decision, now_us, ties, holder)
    if ties.kin and (undone or before.state.final is not after.state.final):
        family(connection, now_us).follow(before, after, undone)
    return after


def apply_all(
    connection: Connection, moves: Sequence[tuple[Run, Decision]], holder: int | None, now_us: int
) -> list[Run]:
    """Write decisions that `move_alone`, as `apply` does, in as few statements for all of them as for one; the runs as
    they are then."""
    moved = [
        replace(decision.run, event_no=before.event_no + len(decision.notes)) for before, decision in moves
    ]
    notes = [
        values
        for before, decision in moves
        for values in _note_values(connection, before.key, before.event_no + 1, decision.notes, now_us)
    ]
    connection.many("decisions.hand_run", [(*rows.run_values(run), holder, run.key) for run in moved])
    told = [after for (before, _), after in zip(moves, moved, strict=True) if _tells_more(before, after)]
    connection.many("decisions.settle_payloads", [_payload_values(connection, after) for after in told])
    connection.many("commit.insert_note", notes)
    return moved


def moves_alone(before: Run, decision: Decision, ties: Ties) -> bool:
    """Whether a decision concerns the run and its feed only: no line moves, nobody waits for its end, and nothing that
    is recorded changes by it."""
    ends = before.state.final is not decision.run.state.final
    more = decision.claimable or decision.supersede or decision.resolution is not None
    return not (more or ties.lane or (ends and (ties.questions or ties.kin or ties.schedules)))


def _tells_more(before: Run, after: Run) -> bool:
    return (
        after.result is not before.result
        or after.failure is not before.failure
        or after.mismatch is not before.mismatch
    )


def family(connection: Connection, now_us: int, limit: int = AT_ONCE) -> Family:
    """What follows from moves of this transaction, for at most `limit` children."""
    return Family(connection, now_us, _settle, limit)


def pass_over(connection: Connection, now_us: int, limit: int) -> int:
    """Call the next where a called run was not claimed in time, and let those go that are for the same workers as it:
    they stay due, and stop nobody; how many passed on."""
    passed = 0
    for key, run in lanes.lapse(connection, now_us, limit):
        gone = lanes.leave(connection, key, run, max(0, limit - passed))
        _call_up(connection, gone, now_us)
        _call_up(connection, lanes.call(connection, key, now_us), now_us)
        passed += 1 + len(gone)
    return passed


def _settle(
    connection: Connection,
    before: Run,
    decision: Decision,
    now_us: int,
    ties: Ties = ANY,
    holder: int | None = KEPT,
) -> tuple[Run, Sequence[str]]:
    """Write the run, and move the line that it stands in."""
    after, undone = _write(connection, before, decision, now_us, ties, holder)
    if ties.lane and (after.state, after.reason, after.available_at_us) != (
        before.state,
        before.reason,
        before.available_at_us,
    ):
        _call_up(connection, lanes.follow(connection, before, after, now_us), now_us)
    return after, undone


def _call_up(connection: Connection, called: list[tuple[int, int]], now_us: int) -> None:
    for key, due_at_us in called:
        run = run_by_key(connection, key)
        assert run is not None, "a lane goes with its run"
        _write(connection, run, transitions.call_up(run, due_at_us, now_us), now_us)


def _write(
    connection: Connection,
    before: Run,
    decision: Decision,
    now_us: int,
    ties: Ties = ANY,
    holder: int | None = KEPT,
) -> tuple[Run, Sequence[str]]:
    """Write the run alone; the children whose outcome or cancellation it supersedes."""
    undone: list[str] = []
    notes = decision.notes
    if ties.questions:
        first, last = questions.follow(connection, before, decision)
        notes = (*first, *notes, *last)
    after = replace(decision.run, event_no=before.event_no + len(notes))
    if holder != KEPT:
        connection.run("decisions.hand_run", (*rows.run_values(after), holder, after.key))
    elif after != before:
        connection.run("decisions.settle_run", (*rows.run_values(after), after.key))
    if _tells_more(before, after):
        connection.run("decisions.settle_payloads", _payload_values(connection, after))
    if decision.claimable:
        connection.run("decisions.let_any_worker_claim", (after.key,))
    for position in decision.supersede:
        connection.run("decisions.supersede", (after.key, position))
        returned = (
            child_of(name) for (name,) in connection.rows("decisions.return_signal", (after.key, position))
        )
        undone += (child for child in returned if child is not None)
        undone += (child for (child,) in connection.rows("decisions.cancelled_by", (after.key, position)))
    if decision.resolution is not None:
        connection.run("decisions.insert_resolution", (after.key, rows.to_json(decision.resolution)))
    write_notes(connection, after.key, before.event_no + 1, notes, now_us)
    if ties.schedules:
        ends.moved(connection, before, after, now_us)
    return after, undone


def write_notes(connection: Connection, run: int, first_n: int, notes: tuple[Note, ...], now_us: int) -> None:
    """Write events that are not entries, numbered from `first_n`."""
    for values in _note_values(connection, run, first_n, notes, now_us):
        connection.run("commit.insert_note", values)


def write_first_notes(
    connection: Connection, runs: Sequence[tuple[int, tuple[Note, ...]]], now_us: int
) -> None:
    """Write the first events of new runs, in one call."""
    values = [each for run, notes in runs for each in _note_values(connection, run, 1, notes, now_us)]
    connection.many("commit.insert_note", values)


def _note_values(
    connection: Connection, run: int, first_n: int, notes: tuple[Note, ...], now_us: int
) -> list[Values]:
    return [
        (run, n, now_us, note.type, *payloads.keep(connection, run, note.payload))
        for n, note in enumerate(notes, first_n)
    ]


def _payload_values(connection: Connection, run: Run) -> Values:
    result: tuple[bytes | None, int | None] = (None, None)
    if run.result is not None:
        payloads.check_size(run.result, f"the result of run {run.id}")
        result = payloads.keep(connection, run.key, run.result)
    return (*result, rows.to_json(run.failure), rows.to_json(run.mismatch), run.key)
