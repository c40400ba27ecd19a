"""Runs on their way to another store: read as parts that name nothing by a number of this store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from holdfast.errors import RunNotFound
from holdfast.model import ApprovalStatus, EntryKind, EntryStatus, ParentPolicy, Run, Unit
from holdfast.model.moving import (
    ChildStanding,
    MovedAccount,
    MovedApproval,
    MovedArtifact,
    MovedBudget,
    MovedCheckpoint,
    MovedCursor,
    MovedEntry,
    MovedEvent,
    MovedHead,
    MovedHistory,
    MovedLane,
    MovedLink,
    MovedPaged,
    MovedProgress,
    MovedResolution,
    MovedRun,
    MovedSignal,
    MovedTag,
    Pages,
    PartOfRun,
    json_or_base64,
)
from holdfast.rules import budget as budget_rules
from holdfast.store.transactions import payloads, reading, rows, samples
from holdfast.store.transactions.connection import Connection, Row

PAGE: Final = 500
PAGE_BYTES: Final = 1024 * 1024
_PARENT: Final = rows.INPUT
"""Where `tree` has the parent: after the columns of `run_rows`."""


def tree(connection: Connection, run_id: str) -> list[tuple[Run, str | None]]:
    """The run and all below it, parents first. Raises RunNotFound."""
    found = connection.rows("moving.tree", (run_id,))
    if not found:
        raise RunNotFound(f"no run has the id {run_id!r} in {connection.where}; `holdfast ls` lists them")
    return [
        (
            rows.run_of(row),
            row[_PARENT] if number else None,
        )  # whose child the first is, is no matter of the tree
        for number, row in enumerate(found)
    ]


# --- what may change while it stands still ----------------------------------------------------------------------


def head(connection: Connection, run_id: str) -> MovedHead:
    """The run, and those of its parts that may change, as they are at this moment. Raises RunNotFound, StoreCorrupt."""
    row = connection.row("moving.head", (run_id,))
    if row is None:
        raise RunNotFound(f"no run has the id {run_id!r} in {connection.where}; `holdfast ls` lists them")
    key: int = row[0]
    parts: list[PartOfRun] = [
        MovedTag(name=name, value=value) for name, value in sorted(connection.rows("moving.tags", (key,)))
    ]
    lane = connection.row("lanes.lane_of", (key,))
    if lane is not None:
        parts.append(MovedLane(key=lane[0], at_most=lane[1]))
    budget = connection.row("moving.budget", (key,))
    if budget is not None:
        parts.append(_budget(connection, budget))
    progress = reading.progress(connection, key)
    if progress is not None:
        parts.append(
            MovedProgress(
                current=progress.current,
                total=progress.total,
                description=progress.description,
                phase=progress.phase,
                started_at_us=progress.started_at_us,
                updated_at_us=progress.updated_at_us,
            )
        )
    history = samples.stored_history(connection, key, run_id)
    if history is not None:
        json, base64 = json_or_base64(history)
        parts.append(MovedHistory(samples=json, samples_base64=base64))
    parts += _resolutions(connection, key)
    parts += _cursors(connection, key)
    parts += _approvals(connection, key)
    return MovedHead(run=_run(connection, row), parts=tuple(parts))


def _link(
    parent: str, on_parent_end: str, standing: str, outcome: int | None, cancelled_by: int | None
) -> MovedLink:
    return MovedLink(
        parent=parent,
        on_parent_end=ParentPolicy(on_parent_end),
        standing=ChildStanding(standing),
        outcome=outcome,
        cancelled_by=cancelled_by,
    )


def _run(connection: Connection, row: Row) -> MovedRun:
    run = rows.run_of(row)
    claimable, parent, on_parent_end, standing, outcome, cancelled_by, behind = row[rows.TIES :]
    given = payloads.load(connection, row[rows.INPUT], row[rows.INPUT + 1], f"the input of run {run.id}")
    result = None
    if row[rows.RESULT] is not None or row[rows.RESULT + 1] is not None:
        result = payloads.load(
            connection, row[rows.RESULT], row[rows.RESULT + 1], f"the result of run {run.id}"
        )
    link = None if parent is None else _link(parent, on_parent_end, standing, outcome, cancelled_by)
    input_json, input_base64 = json_or_base64(given)
    result_json, result_base64 = json_or_base64(result)
    return MovedRun(
        id=run.id,
        agent=run.agent,
        version=run.version,
        child=link,
        state=run.state,
        reason=run.reason,
        queue=run.queue,
        priority=run.priority,
        needs=run.needs,
        claimable=bool(claimable),
        created_at_us=run.created_at_us,
        started_at_us=run.started_at_us,
        finished_at_us=run.finished_at_us,
        deadline_at_us=run.deadline_at_us,
        token=run.token,
        position=run.position,
        event_no=run.event_no,
        steps=run.steps,
        step=run.step,
        checkpoint_n=run.checkpoint_n,
        attempts=run.attempts,
        failures=run.failures,
        crashes=run.crashes,
        crashes_alone=run.crashes_alone,
        suspect=run.suspect,
        claimed_position=run.claimed_position,
        asked=run.asked,
        wait_name=run.wait_name,
        inbox_no=run.inbox_no,
        behind=bool(behind),
        waits_for_budgets=tuple(
            sorted(scope for (scope,) in connection.rows("moving.waits_for", (run.key,)))
        ),
        failure=run.failure,
        mismatch=run.mismatch,
        input=input_json,
        input_base64=input_base64,
        result=result_json,
        result_base64=result_base64,
    )


def _budget(connection: Connection, row: Row) -> MovedBudget:
    key, soft_percent, per_us, since_us = row
    reserved = {Unit(unit): int(amount) for unit, amount in connection.rows("moving.reserved", (key,))}
    lost = budget_rules.lost(reserved)
    return MovedBudget(
        soft_percent=soft_percent,
        per_us=per_us,
        since_us=since_us,
        units=tuple(
            MovedAccount(unit=Unit(unit), hard=hard, used=used + lost.get(Unit(unit), 0))
            for unit, hard, used, _ in sorted(connection.rows("budgets.accounts", (key,)))
        ),
    )


def _resolutions(connection: Connection, key: int) -> list[MovedResolution]:
    return [
        MovedResolution(n=n, resolution=rows.resolution_of(body))
        for n, body in connection.rows("moving.resolutions", (key,))
    ]


def _cursors(connection: Connection, key: int) -> list[MovedCursor]:
    found: list[MovedCursor] = []
    for identity, args_hash, cursor, position, at_us in connection.rows("steps.cursors", (key,)):
        json, base64 = json_or_base64(cursor)
        found.append(
            MovedCursor(
                identity=identity,
                args_hash=args_hash,
                position=position,
                at_us=at_us,
                cursor=json,
                cursor_base64=base64,
            )
        )
    return found


def _approvals(connection: Connection, key: int) -> list[MovedApproval]:
    found: list[MovedApproval] = []
    for row in connection.rows("moving.approvals", (key,)):
        context, context_base64 = json_or_base64(row[5])
        found.append(
            MovedApproval(
                n=row[0],
                segment=row[1],
                question_hash=row[2],
                question=row[3],
                options=rows.options_of(row[4]),
                context=context,
                context_base64=context_base64,
                status=ApprovalStatus(row[6]),
                closed_by=row[7],
                asked_at_us=row[8],
                expires_at_us=row[9],
                escalate_at_us=row[10],
                escalate_to=row[11],
                escalated=bool(row[12]),
                choice=row[13],
                comment=row[14],
                answered_by=row[15],
                answered_at_us=row[16],
            )
        )
    return found


# --- page by page -----------------------------------------------------------------------------------------------


def page(connection: Connection, run_id: str, pages: Pages, after: int) -> list[MovedPaged]:
    """The next parts of a kind: as many as fit into a page, one at least. Raises RunNotFound, StoreCorrupt."""
    statement, limit, part_of = _PAGES[pages]
    key, found, size_bytes = reading.run_key(connection, run_id), list[MovedPaged](), 0
    for row in connection.rows(statement, (key, after, limit)):
        part, part_bytes = part_of(connection, run_id, row)
        found.append(part)
        size_bytes += part_bytes
        if size_bytes >= PAGE_BYTES:
            break
    return found


_Read = tuple[MovedPaged, int]
"""A part, and how large its payload is."""


def _signal(connection: Connection, run_id: str, row: Row) -> _Read:
    n, name, at_us, dedup, consumed, inline, blob = row
    payload = payloads.load(connection, inline, blob, f"run {run_id}: signal {n}")
    json, base64 = json_or_base64(payload)
    signal = MovedSignal(
        n=n, name=name, at_us=at_us, dedup=dedup, consumed=consumed, payload=json, payload_base64=base64
    )
    return signal, len(payload)


def _checkpoint(connection: Connection, run_id: str, row: Row) -> _Read:
    n, segment, name, at_us, event_no, keep, now_us, body, sha256, size_bytes, encoding, corrupt, turns = row
    state = payloads.unpack(body, encoding, sha256)
    json, base64 = json_or_base64(state)
    turns_json, turns_base64 = json_or_base64(turns)
    checkpoint = MovedCheckpoint(
        n=n,
        segment=segment,
        name=name,
        at_us=at_us,
        event_no=event_no,
        keep=keep,
        now_us=now_us,
        size_bytes=size_bytes,
        sha256=sha256.hex(),
        corrupt=bool(corrupt),
        damaged=body if state is None else None,
        encoding=encoding if state is None else None,
        state=json,
        state_base64=base64,
        turns=turns_json,
        turns_base64=turns_base64,
    )
    return checkpoint, len(body if state is None else state)


def _event(connection: Connection, run_id: str, row: Row) -> _Read:
    n, at_us, kind, position = row[:4]
    payload = payloads.load(connection, row[16], row[17], f"run {run_id}: event {n}")
    json, base64 = json_or_base64(payload)
    if position is None:
        event = MovedEvent(n=n, at_us=at_us, type=kind, payload=json, payload_base64=base64)
        return event, len(payload)
    entry = MovedEntry(
        n=n,
        at_us=at_us,
        type=kind,
        position=position,
        kind=EntryKind(row[4]),
        status=EntryStatus(row[5]),
        segment=row[6],
        scope=row[7],
        name=row[8],
        key=row[9],
        occurrence=row[10],
        started_at_us=row[11],
        token=row[12],
        args_hash=row[13],
        signal=row[14],
        superseded=bool(row[15]),
        payload=json,
        payload_base64=base64,
    )
    return entry, len(payload)


def _artifact(connection: Connection, run_id: str, row: Row) -> _Read:
    position, name, sha256, media_type, at_us, superseded = row
    artifact = MovedArtifact(
        position=position,
        name=name,
        content=sha256.hex(),
        media_type=media_type,
        at_us=at_us,
        superseded=bool(superseded),
    )
    return artifact, 0


_PAGES: Final[dict[Pages, tuple[str, int, Callable[[Connection, str, Row], _Read]]]] = {
    Pages.SIGNALS: ("moving.signals", PAGE, _signal),
    Pages.CHECKPOINTS: ("moving.checkpoints", 1, _checkpoint),  # a state lies in its row, and may be large
    Pages.EVENTS: ("moving.events", PAGE, _event),
    Pages.ARTIFACTS: ("moving.artifacts", PAGE, _artifact),
}
