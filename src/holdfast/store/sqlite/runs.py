"""Runs from outside their attempts: created, changed by rules, signalled, deleted."""

from __future__ import annotations

from msgspec.structs import replace

from holdfast.errors import Conflict, Refused
from holdfast.model import Created, NewRun, Run, Signal
from holdfast.rules import transitions
from holdfast.store.protocol import Decide
from holdfast.store.sql import statements
from holdfast.store.sqlite import decisions, lanes, payloads
from holdfast.store.sqlite.connection import Connection

_SQL = statements("holdfast.store.sqlite", "sql", "runs.sql")


def create(connection: Connection, new: NewRun, now_us: int) -> Created:
    """Create the run, or return the one with this id, agent and input. Raises Conflict."""
    payloads.check_size(new.input, f"the input of run {new.id}")
    existing = connection.row(_SQL["existing"], (new.id,))
    if existing is not None:
        _check_same(new, *existing)
        return Created(run=decisions.run_by_id(connection, new.id), existed=True)
    decision = transitions.create(new, 0, now_us)
    run = replace(decision.run, event_no=len(decision.notes))
    connection.run(
        _SQL["insert_run"],
        (run.id, run.agent, run.version, run.queue, run.priority, run.state, run.reason, new.claimable,
         run.created_at_us, run.event_no, run.available_at_us, run.deadline_at_us, payloads.digest(new.input)),
    )  # fmt: skip
    run = replace(run, key=connection.newest_key())
    connection.run(_SQL["insert_payloads"], (run.key, *payloads.keep(connection, run.key, new.input)))
    connection.many(_SQL["insert_tag"], [(run.key, *tag) for tag in new.tags])
    decisions.write_notes(connection, run.key, 1, decision.notes, now_us)
    if new.lane is not None:
        lanes.add(connection, run.key, new.lane)
    return Created(run=run, existed=False)


def _check_same(new: NewRun, agent: str, input_hash: bytes) -> None:
    if agent != new.agent:
        raise Conflict(f"the id {new.id!r} is taken by a run of agent {agent!r}; use another id")
    if input_hash != payloads.digest(new.input):
        raise Conflict(f"the id {new.id!r} is taken by a run of {agent!r} with another input; use another id")


def update(connection: Connection, run_id: str, decide: Decide, now_us: int) -> Run:
    """Let `decide` decide what becomes of the run. Raises RunNotFound and whatever `decide` raises."""
    before = decisions.run_by_id(connection, run_id)
    decision = decide(before, now_us)
    return before if decision is None else decisions.apply(connection, before, decision, now_us)


def delete(connection: Connection, run_id: str) -> None:
    """Delete a final run with all that belongs to it. Raises RunNotFound and Refused."""
    run = decisions.run_by_id(connection, run_id)
    if not run.state.final:
        raise Refused(
            f"run {run_id} is {run.state}: only a run that ended can be deleted; holdfast cancel {run_id}"
        )
    connection.run(_SQL["delete_run"], (run.key,))


def prune(connection: Connection, before_us: int, limit: int) -> int:
    """Delete runs that finished before, oldest first; return how many."""
    keys = connection.rows(_SQL["prunable"], (before_us, limit))
    for (key,) in keys:
        connection.run(_SQL["delete_run"], (key,))
    return len(keys)


def add_signal(
    connection: Connection, run_id: str, name: str, payload: bytes, dedup: str | None, now_us: int
) -> Signal:
    """Put a signal into the inbox, or return the one with this `dedup`. Raises RunNotFound and Refused."""
    payloads.check_size(payload, f"the signal {name!r} to run {run_id}")
    run = decisions.run_by_id(connection, run_id)
    known = connection.row(_SQL["signal_by_dedup"], (run.key, dedup))
    if known is not None:
        body = payloads.load(connection, known[3], known[4], f"run {run_id}: signal {known[0]}")
        return Signal(n=known[0], name=known[1], payload=body, at_us=known[2])
    n = run.inbox_no + 1
    decision = transitions.signal(run, name, n, now_us)
    kept = payloads.keep(connection, run.key, payload)
    connection.run(_SQL["insert_signal"], (run.key, n, name, now_us, dedup, *kept))
    decisions.apply(connection, run, decision, now_us)
    return Signal(n=n, name=name, payload=payload, at_us=now_us)


def limit_queue(connection: Connection, name: str, limit: int | None) -> None:
    """Set how many runs of the queue may hold a live lease."""
    if limit is not None and limit < 0:
        raise Refused(f"the limit of queue {name!r} is {limit}: it must be 0 or more, or None for no limit")
    connection.run(_SQL["limit_queue"], (name, limit))
