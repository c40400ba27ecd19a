"""Runs from outside their attempts: created, changed by rules, signalled, deleted."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from holdfast.errors import Conflict, Refused
from holdfast.model import Created, NewRun, Reason, Run
from holdfast.rules import labels, transitions
from holdfast.store.protocol import Decide
from holdfast.store.transactions import budgets, decisions, imports, inbox, lanes, payloads
from holdfast.store.transactions.connection import Connection, Values


def create_all(connection: Connection, new: Sequence[NewRun], now_us: int) -> list[Created]:
    """Create the runs in their order, or return those that are there; as `create`, and where nothing is special about
    any of them, in as few statements for all as for one."""
    ids = {one.id for one in new}
    if len(ids) == len(new) > 1 and all(map(_is_plain, new)):
        connection.ahead(*(("runs.existing", (one.id,)) for one in new))
        if not any(check_same(connection, one) for one in new):
            return _create_all(connection, new, now_us)
    return [create(connection, one, now_us) for one in new]


def _is_plain(new: NewRun) -> bool:
    """Whether it is a row, its input and its tags: no signal, line or budget, and nothing that is kept elsewhere."""
    more = new.signal is not None or new.lane is not None or new.budget is not None
    return not more and len(new.input) <= payloads.INLINE_BYTES


def _create_all(connection: Connection, new: Sequence[NewRun], now_us: int) -> list[Created]:
    decided = [(one, transitions.create(one, 0, now_us)) for one in new]
    runs = [replace(decision.run, event_no=len(decision.notes)) for _, decision in decided]
    values = [_values(run, one) for run, one in zip(runs, new, strict=True)]
    keys = [row[0] for row in connection.returned("runs.insert_run", values)]
    runs = [replace(run, key=key) for run, key in zip(runs, keys, strict=True)]
    kept = [(run.key, one.input, None) for run, one in zip(runs, new, strict=True)]
    connection.many("runs.insert_payloads", kept)
    connection.many(
        "runs.insert_tag", [(run.key, *tag) for run, one in zip(runs, new, strict=True) for tag in one.tags]
    )
    decisions.write_first_notes(
        connection,
        [(run.key, decision.notes) for run, (_, decision) in zip(runs, decided, strict=True)],
        now_us,
    )
    return [Created(run=run, existed=False) for run in runs]


def _values(run: Run, new: NewRun) -> Values:
    return (
        run.id, run.agent, run.version, run.queue, run.priority, run.state, run.reason, new.claimable,
        run.created_at_us, run.event_no, run.available_at_us, run.deadline_at_us, payloads.digest(new.input),
        labels.told(run.needs),
    )  # fmt: skip


def create(connection: Connection, new: NewRun, now_us: int) -> Created:
    """Create the run, or return the one with this id, agent and input; then send it its signal, if one is given.
    Raises Conflict, and Refused for a new signal to a final run."""
    created = _create(connection, new, now_us)
    if new.signal is None:
        return created
    signal = new.signal
    inbox.add_signal(connection, new.id, signal.name, signal.payload, signal.dedup, now_us)
    return Created(run=decisions.run_by_id(connection, new.id), existed=created.existed)


def _create(connection: Connection, new: NewRun, now_us: int) -> Created:
    payloads.check_size(new.input, f"the input of run {new.id}")
    if check_same(connection, new):
        return Created(run=decisions.run_by_id(connection, new.id), existed=True)
    decision = transitions.create(new, 0, now_us)
    run = replace(decision.run, event_no=len(decision.notes))
    key: int = connection.value("runs.insert_run", _values(run, new))
    run = replace(run, key=key)
    connection.run("runs.insert_payloads", (run.key, *payloads.keep(connection, run.key, new.input)))
    connection.many("runs.insert_tag", [(run.key, *tag) for tag in new.tags])
    decisions.write_notes(connection, run.key, 1, decision.notes, now_us)
    if new.lane is not None:
        lanes.add(connection, run.key, new.lane)
    if new.budget is not None:
        budgets.create(connection, run.key, run.id, new.budget, now_us)
    if new.lane is not None and new.claimable and run.available_at_us is not None:
        run = _join(connection, run, run.available_at_us, now_us)
    return Created(run=run, existed=False)


def _join(connection: Connection, run: Run, due_at_us: int, now_us: int) -> Run:
    """Put a due run in the line of its key at once, when that is full: claims need not look at it, and at the thousands
    behind it, to find the runs of other keys."""
    place = None if due_at_us > now_us else lanes.join(connection, run, now_us)
    if place is None:
        return run
    return decisions.apply(connection, run, transitions.line_up(run, now_us, place.key, place.ahead), now_us)


def check_same(connection: Connection, new: NewRun) -> bool:
    """Whether the run is there. Raises Conflict when its id is that of a run of another agent or input."""
    existing = connection.row("runs.existing", (new.id,))
    if existing is None:
        return False
    agent, input_hash = existing
    if agent != new.agent:
        raise Conflict(f"the id {new.id!r} is taken by a run of agent {agent!r}; use another id")
    if input_hash != payloads.digest(new.input):
        raise Conflict(f"the id {new.id!r} is taken by a run of {agent!r} with another input; use another id")
    return True


def update(connection: Connection, run_id: str, decide: Decide, now_us: int) -> Run:
    """Let `decide` decide what becomes of the run. Raises RunNotFound and whatever `decide` raises."""
    before = decisions.run_by_id(connection, run_id)
    decision = decide(before, now_us)
    return before if decision is None else decisions.apply(connection, before, decision, now_us)


def delete(connection: Connection, run_id: str) -> None:
    """Delete a final run, or one that is not whole, with all that belongs to it. Raises RunNotFound and Refused."""
    run = decisions.run_by_id(connection, run_id)
    if run.reason is Reason.IMPORTING:
        imports.drop(connection, run_id)
        return
    if not run.state.final:
        raise Refused(
            f"run {run_id} is {run.state}: only a run that ended can be deleted; holdfast cancel {run_id}"
        )
    if connection.row("runs.needed", (run.key,)) is not None:
        raise Refused(
            f"run {run_id} is needed: its parent has not taken its outcome, or its own end has not reached all of its"
            f" children yet; holdfast show {run_id}"
        )
    connection.run("runs.delete_run", (run.key,))


def prune(connection: Connection, before_us: int, limit: int) -> int:
    """Delete runs that finished before and are not needed, oldest first; return how many."""
    keys = connection.rows("runs.prunable", (before_us, limit))
    for (key,) in keys:
        connection.run("runs.delete_run", (key,))
    return len(keys)


def limit_queue(connection: Connection, name: str, limit: int | None) -> None:
    """Set how many runs of the queue may hold a live lease."""
    if limit is not None and limit < 0:
        raise Refused(f"the limit of queue {name!r} is {limit}: it must be 0 or more, or None for no limit")
    connection.run("runs.limit_queue", (name, limit))
