"""Runs on their way in from another store.

Laws of this file:
1. A run that is not whole is `queued (importing)`: not due, without deadline or kin. The schema refuses its moves.
2. What it shall be stands in `imports`, and becomes so in the transaction that ends the import of its whole tree.
3. Whoever writes to it counts the lines, so that none is missing at the end, and learns when it was given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from holdfast.errors import Conflict, InvalidExport, Refused
from holdfast.model import Lane
from holdfast.model.moving import (
    Ending,
    ImportRecord,
    MovedApproval,
    MovedArtifact,
    MovedBudget,
    MovedCheckpoint,
    MovedCursor,
    MovedEntry,
    MovedEvent,
    MovedHistory,
    MovedLane,
    MovedProgress,
    MovedResolution,
    MovedRun,
    MovedSignal,
    MovedTag,
    PartOfRun,
    is_there,
    payload_of,
)
from holdfast.rules import labels
from holdfast.store.transactions import lanes, payloads, rows, samples
from holdfast.store.transactions.connection import Connection, Values


def find(connection: Connection, run_id: str) -> ImportRecord | None:
    """What is known of the import of the run."""
    row = connection.row("imports.find", (run_id,))
    return None if row is None else ImportRecord(key=row[0], sha256=None if row[1] is None else row[1].hex())


def begin(connection: Connection, run: MovedRun) -> int:
    """Make the run, as one that is being imported. Raises Conflict when one has its id."""
    if connection.row("runs.existing", (run.id,)) is not None:
        raise Conflict(f"the id {run.id!r} is taken; holdfast show {run.id}")
    given, result = payload_of(run.input, run.input_base64), payload_of(run.result, run.result_base64)
    for payload, what in ((given, "input"), (result, "result")):
        payloads.check_size(payload, f"the {what} of run {run.id}")
    key: int = connection.value(
        "imports.insert_run",
        (run.id, run.agent, run.version, run.queue, run.priority, run.created_at_us, run.token, run.position,
         run.event_no, run.steps, run.step, run.checkpoint_n, run.attempts, run.failures, run.crashes,
         run.crashes_alone, run.suspect, run.claimed_position, run.asked, run.wait_name, run.inbox_no,
         run.started_at_us, payloads.digest(given), labels.told(run.needs)),
    )  # fmt: skip
    has_result = is_there(run.result, run.result_base64)
    kept_result = payloads.keep(connection, key, result) if has_result else (None, None)
    connection.run(
        "imports.insert_payloads",
        (key, *payloads.keep(connection, key, given), *kept_result, rows.to_json(run.failure),
         rows.to_json(run.mismatch)),
    )  # fmt: skip
    connection.run(
        "imports.begin",
        (key, run.state, run.reason, run.claimable, run.deadline_at_us, run.finished_at_us),
    )
    return key


def add(connection: Connection, key: int, parts: Sequence[PartOfRun]) -> None:
    """Write parts of the run. Raises Refused when its import was given up, or is over."""
    connection.run("imports.count", (len(parts), key))
    _check_one(connection)
    events: list[Values] = []
    for part in parts:
        if isinstance(part, MovedEvent | MovedEntry):
            events.append(_event(connection, key, part))
        else:
            _write(connection, key, part)
    if events:
        connection.many("imports.insert_event", events)


def _check_one(connection: Connection) -> None:
    if connection.changed() != 1:
        raise Refused(
            "the run is not being imported any more: it was deleted, or another import of it has begun; import again"
        )


def _write(connection: Connection, key: int, part: PartOfRun) -> None:
    match part:
        case MovedTag():
            connection.run("runs.insert_tag", (key, part.name, part.value))
        case MovedProgress():
            connection.run(
                "imports.insert_progress",
                (key, part.current, part.total, part.description, part.phase, part.started_at_us, part.updated_at_us),
            )  # fmt: skip
        case MovedHistory():
            samples.put_history(connection, key, payload_of(part.samples, part.samples_base64))
        case MovedResolution():
            connection.run("imports.insert_resolution", (key, part.n, rows.to_json(part.resolution)))
        case MovedCursor():
            cursor = payload_of(part.cursor, part.cursor_base64)
            connection.run(
                "imports.insert_cursor",
                (key, part.identity, part.args_hash, cursor, part.position, part.at_us),
            )
        case MovedSignal():
            payload = payload_of(part.payload, part.payload_base64)
            payloads.check_size(payload, f"the signal {part.name!r}")
            kept = payloads.keep(connection, key, payload)
            connection.run(
                "imports.insert_signal",
                (key, part.n, part.name, part.at_us, part.dedup, part.consumed, *kept),
            )
        case MovedApproval():
            connection.run("imports.insert_approval", _approval(key, part))
        case MovedCheckpoint():
            _write_checkpoint(connection, key, part)
        case MovedArtifact():
            _write_artifact(connection, key, part)
        case MovedEvent() | MovedEntry() | MovedLane() | MovedBudget():
            raise AssertionError("events are written many at a time, the others at the end")


def _event(connection: Connection, key: int, part: MovedEvent | MovedEntry) -> Values:
    payload = payload_of(part.payload, part.payload_base64)
    payloads.check_size(payload, f"the payload of event {part.n}")
    kept = payloads.keep(connection, key, payload)
    if isinstance(part, MovedEvent):
        return (key, part.n, part.at_us, part.type, *(None,) * 12, False, *kept)
    return (
        key, part.n, part.at_us, part.type, part.position, part.kind, part.status, part.segment, part.scope, part.name,
        part.key, part.occurrence, part.started_at_us, part.token, part.args_hash, part.signal, part.superseded, *kept,
    )  # fmt: skip


def _approval(key: int, part: MovedApproval) -> Values:
    return (
        key, part.n, part.segment, part.question_hash, part.question, rows.options_json(part.options),
        payload_of(part.context, part.context_base64), part.status, part.closed_by, part.asked_at_us,
        part.expires_at_us,
        part.escalate_at_us, part.escalate_to, part.escalated, part.choice, part.comment, part.answered_by,
        part.answered_at_us,
    )  # fmt: skip


def _write_checkpoint(connection: Connection, key: int, part: MovedCheckpoint) -> None:
    """A state that matches its hash; or a damaged one, as it was stored: it is passed over here as it was there."""
    sha256 = bytes.fromhex(part.sha256)
    if part.damaged is not None:
        encoding, body = part.encoding or "raw", part.damaged
    else:
        state = payload_of(part.state, part.state_base64)
        payloads.check_size(state, f"the state of checkpoint {part.n}")
        if payloads.digest(state) != sha256:
            raise InvalidExport(f"checkpoint {part.n} does not match its own hash")
        encoding, body = payloads.pack(state)
    connection.run(
        "imports.insert_checkpoint",
        (key, part.n, part.segment, part.name, part.at_us, part.event_no, part.keep, part.now_us, body, sha256,
         part.size_bytes, encoding, part.corrupt),
    )  # fmt: skip
    turns = payload_of(part.turns, part.turns_base64)
    if turns:
        connection.run("commit.insert_turns", (key, part.n, turns))


def _write_artifact(connection: Connection, key: int, part: MovedArtifact) -> None:
    content = connection.row("artifacts.sealed", (bytes.fromhex(part.content),))
    if content is None:
        raise Refused(
            f"the content {part.content} of the artifact {part.name!r} is not in the store: import again"
        )
    connection.run(
        "imports.insert_artifact",
        (key, part.position, part.name, content[0], part.media_type, part.at_us, part.superseded),
    )


def end(connection: Connection, endings: Sequence[Ending]) -> None:
    """The runs of a tree become what they were. Raises Refused when one is not whole, or was given up."""
    for one in endings:
        connection.run("imports.seal", (bytes.fromhex(one.sha256), one.key, one.lines))
        _check_one(connection)
        connection.run("imports.end", (one.key,))
        if one.child is not None:
            link = one.child
            connection.run(
                "imports.insert_link",
                (one.key, link.on_parent_end, link.standing, link.outcome, link.cancelled_by, link.parent),
            )
            _check_one(connection)
        if one.behind:
            connection.run("children.leave_behind", (one.key,))
        if one.lane is not None:
            lanes.add(connection, one.key, Lane(key=one.lane.key, at_most=one.lane.at_most))
        if one.budget is not None:
            _add_budget(connection, one.key, one.budget)
    _wait(connection, endings)


def _add_budget(connection: Connection, run: int, budget: MovedBudget) -> None:
    key: int = connection.value(
        "imports.insert_budget", (budget.soft_percent, budget.per_us, budget.since_us, run)
    )
    for account in budget.units:
        connection.run("budgets.save", (key, account.unit, account.hard, account.used, 0))


def _wait(connection: Connection, endings: Iterable[Ending]) -> None:
    """When all budgets of the tree are there: those that are not here, of an agent say, can be waited for no more."""
    for one in endings:
        for scope in one.waits_for_budgets:
            connection.run("imports.insert_wait", (one.key, scope))


def drop(connection: Connection, run_id: str, key: int | None = None) -> bool:
    """Delete a run that is not whole, with all that is written of it; `key`: unless another import of it has begun."""
    found = find(connection, run_id)
    if found is None or found.sha256 is not None or key not in (None, found.key):
        return False
    connection.run("imports.drop", (found.key,))
    return True
