"""Questions to people: asked, answered, escalated and closed, each in one transaction with what follows from it."""

from __future__ import annotations

from holdfast.errors import ApprovalNotFound
from holdfast.model import (
    Answer,
    ApprovalRecord,
    ApprovalStatus,
    CloseApproval,
    Decision,
    NewApproval,
    Note,
    Run,
)
from holdfast.rules import approvals as rule
from holdfast.store.transactions import decisions, inbox, questions, rows
from holdfast.store.transactions.connection import Connection

# --- beside an entry ----------------------------------------------------------------------------------------


def ask(connection: Connection, run_key: int, position: int, new: NewApproval, now_us: int) -> None:
    """Open the question. One whose entry was superseded after its answer was given has that answer still."""
    known = connection.row("approvals.answered_before", (run_key, new.question_hash))
    status = ApprovalStatus.OPEN if known is None else ApprovalStatus.ANSWERED
    connection.run(
        "approvals.insert_approval",
        (run_key, position, new.segment, new.question_hash, new.question, rows.options_json(new.options), new.context,
         status, now_us, new.expires_at_us, new.escalate_at_us, new.escalate_to, *(known or (None, "", None, None))),
    )  # fmt: skip
    if known is not None:
        answered = _record(connection, run_key, position)
        inbox.put(
            connection, _run(connection, run_key), rule.signal_name(position), rule.outcome(answered), now_us
        )


def close(connection: Connection, run_key: int, position: int, closed: CloseApproval, now_us: int) -> None:
    """Close the question, unless it is answered. After the end of its time a verdict is in the inbox, whichever."""
    if closed.status is not ApprovalStatus.EXPIRED:
        connection.run("approvals.withdraw_approval", (position, run_key, closed.n))
        return
    connection.run("approvals.expire_approval", (run_key, closed.n))
    name = rule.signal_name(closed.n)
    if connection.row("approvals.verdict_in_inbox", (run_key, name)) is None:
        inbox.put(
            connection,
            _run(connection, run_key),
            name,
            _verdict(connection, run_key, closed.n, now_us),
            now_us,
        )


def _verdict(connection: Connection, run_key: int, n: int, now_us: int) -> bytes:
    asked = _record(connection, run_key, n)
    return rule.outcome(asked) if asked.status is ApprovalStatus.ANSWERED else rule.expired(now_us)


# --- from outside -------------------------------------------------------------------------------------------


def answer(connection: Connection, run_id: str, n: int, given: Answer, now_us: int) -> ApprovalRecord:
    """Record the answer and send it to the run. The same answer again changes nothing."""
    run = decisions.run_by_id(connection, run_id)
    asked = _record(connection, run.key, n, run_id)
    answered = rule.answer(asked, given, now_us)
    if answered is None:
        return asked
    connection.run(
        "approvals.answer_approval",
        (answered.choice, answered.comment, answered.answered_by, answered.answered_at_us, run.key, n),
    )
    told = rows.event_json(
        n=n,
        question=asked.question,
        choice=answered.choice,
        by=answered.answered_by,
        comment=answered.comment,
    )
    note = Note("approval.answered", told)
    inbox.put(connection, run, rule.signal_name(n), rule.outcome(answered), now_us, notes=(note,))
    return answered


def escalate(connection: Connection, now_us: int, limit: int) -> int:
    """Mark at most `limit` open questions whose time has come, each once; return how many."""
    due = connection.rows("approvals.to_escalate", (now_us, max(0, limit)))
    for run_key, n in due:
        connection.run("approvals.escalate", (run_key, n))
        asked = _record(connection, run_key, n)
        told = rows.event_json(
            n=n, question=asked.question, to=asked.escalate_to, asked_at_us=asked.asked_at_us
        )
        run = _run(connection, run_key)
        decisions.apply(connection, run, Decision(run=run, notes=(Note("approval.escalated", told),)), now_us)
    return len(due)


# --- reading ------------------------------------------------------------------------------------------------


def of_run(connection: Connection, run_id: str) -> list[ApprovalRecord]:
    """Every question of the run, in the order of asking. Raises RunNotFound."""
    return questions.asked(connection, decisions.run_by_id(connection, run_id).key)


def still_open(connection: Connection, now_us: int, limit: int) -> list[ApprovalRecord]:
    """The questions of all runs that can be answered: the overdue ones first, then as they were asked."""
    return [rows.approval_of(row) for row in connection.rows("approvals.open_approvals", (now_us, limit))]


def _record(connection: Connection, run_key: int, n: int, run_id: str = "") -> ApprovalRecord:
    row = connection.row("approvals.approval", (run_key, n))
    if row is None:
        raise ApprovalNotFound(
            f"run {run_id} asked no question {n}; `holdfast approve {run_id}` lists what it asks"
        )
    return rows.approval_of(row)


def _run(connection: Connection, run_key: int) -> Run:
    run = decisions.run_by_key(connection, run_key)
    assert run is not None, "its question was read in this transaction"
    return run
