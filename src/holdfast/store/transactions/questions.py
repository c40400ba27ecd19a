"""What becomes of a run's open questions when the run itself moves: they are withdrawn with it, and asked again."""

from __future__ import annotations

from holdfast.model import ApprovalRecord, Decision, Note, Run
from holdfast.store.transactions import rows
from holdfast.store.transactions.connection import Connection, Row

_BY_THE_END = 0


def follow(
    connection: Connection, before: Run, decision: Decision
) -> tuple[tuple[Note, ...], tuple[Note, ...]]:
    """Make the questions of the run fit what was decided about it; the events that come before those of the decision,
    and those that come after them."""
    after = decision.run
    gone: list[Row] = []
    again: list[Row] = []
    if after.state.final and not before.state.final:
        gone += connection.rows("approvals.withdraw_at_end", (after.key,))
    if before.state.final and not after.state.final:
        again += connection.rows("approvals.reopen", (after.key, _BY_THE_END))
    for position in decision.supersede:
        again += connection.rows("approvals.reopen", (after.key, position))
    for position in decision.supersede:
        gone += connection.rows("approvals.withdraw_for_good", (after.key, position))
    withdrawn = {row[0] for row in gone}
    return _withdrawn(gone), tuple(_asked_again(row) for row in again if row[0] not in withdrawn)


def asked(connection: Connection, run: int) -> list[ApprovalRecord]:
    """Every question of the run, in the order of asking."""
    return [rows.approval_of(row) for row in connection.rows("approvals.approvals_of_run", (run,))]


def passed(connection: Connection, run: int, segment: int) -> tuple[Note, ...]:
    """The code has taken the checkpoint that opens this segment: what it asked before waits no longer."""
    return _withdrawn(connection.rows("approvals.withdraw_passed", (run, segment)))


def _withdrawn(found: list[Row]) -> tuple[Note, ...]:
    return tuple(Note("approval.withdrawn", rows.event_json(n=row[0], question=row[1])) for row in found)


def _asked_again(row: Row) -> Note:
    n, question, options, expires_at_us = row
    told = rows.event_json(
        n=n, question=question, options=rows.options_of(options), expires_at_us=expires_at_us
    )
    return Note("approval.asked", told)
