"""Rows of the file ↔ the nouns of the model. The order of columns is pinned here and in `run_rows`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from holdfast.model import (
    SETUP,
    ApprovalRecord,
    ApprovalStatus,
    Checkpoint,
    Entry,
    EntryKind,
    EntryStatus,
    Event,
    Failure,
    Identity,
    Mismatch,
    Progress,
    Reason,
    Resolution,
    Run,
    RunState,
    Sample,
    Served,
)
from holdfast.rules import labels
from holdfast.store.transactions.connection import Row

STATES: Final[Mapping[str, RunState]] = {str(each): each for each in RunState}
REASONS: Final[Mapping[str | None, Reason | None]] = {None: None, **{str(each): each for each in Reason}}
KINDS: Final[Mapping[str, EntryKind]] = {str(each): each for each in EntryKind}
STATUSES: Final[Mapping[str, EntryStatus]] = {str(each): each for each in EntryStatus}

ENTRY_EVENTS: Final[Mapping[EntryStatus, str]] = {
    EntryStatus.OK: "step.finished",
    EntryStatus.FAILED: "step.failed",
    EntryStatus.ABANDONED: "step.abandoned",
    EntryStatus.RETRIED: "step.retried",
    EntryStatus.UNSEEN: "step.unseen",
    EntryStatus.INTENDED: "step.intended",
}
"""An entry is its event: what the feed calls it."""


class _Serves(msgspec.Struct, frozen=True, array_like=True):
    agent: str
    version: str
    continues: tuple[str, ...] = ()  # workers of before have none


_encode = msgspec.json.Encoder().encode
_failure = msgspec.json.Decoder(Failure).decode
_mismatch = msgspec.json.Decoder(Mismatch).decode
_resolution = msgspec.json.Decoder(Resolution).decode
_sample = msgspec.json.Decoder(Sample).decode
_options = msgspec.json.Decoder(tuple[str, ...]).decode
_serves = msgspec.json.Decoder(list[_Serves]).decode


def to_json(value: Failure | Mismatch | Resolution | Sample | None) -> bytes | None:
    """The value as it is stored."""
    return None if value is None else _encode(value)


def event_json(**fields: object) -> bytes:
    """The payload of an event."""
    return _encode(fields)


def run_of(row: Row) -> Run:
    """A run from a row of `run_rows`; further columns are ignored."""
    return Run(
        key=row[0],
        id=row[1],
        agent=row[2],
        version=row[3],
        queue=row[4],
        priority=row[5],
        state=STATES[row[6]],
        reason=REASONS[row[7]],
        created_at_us=row[8],
        token=row[9],
        position=row[10],
        event_no=row[11],
        steps=row[12],
        step=row[13],
        checkpoint_n=row[14],
        worker=row[15],
        available_at_us=row[16],
        attempts=row[17],
        failures=row[18],
        crashes=row[19],
        crashes_alone=row[20],
        suspect=bool(row[21]),
        claimed_position=row[22],
        asked=row[23],
        wait_name=row[24],
        inbox_no=row[25],
        deadline_at_us=row[26],
        started_at_us=row[27],
        finished_at_us=row[28],
        failure=None if row[29] is None else _failure(row[29]),
        mismatch=None if row[30] is None else _mismatch(row[30]),
        needs=labels.of(row[31]),
    )


INPUT: Final = 32
"""Where `whole_runs` has the input, inline or as a blob."""

RESULT: Final = 34
"""Where `whole_runs` has the result, inline or as a blob."""

TIES: Final = 36
"""What follows the columns of `whole_runs`."""


def run_values(run: Run) -> tuple[Any, ...]:
    """What a decision may change, in the order of the statement `settle_run`."""
    return (
        run.state, run.reason, run.token, run.position, run.event_no, run.worker, run.available_at_us, run.attempts,
        run.failures, run.crashes, run.crashes_alone, run.suspect, run.claimed_position, run.asked, run.wait_name,
        run.inbox_no, run.deadline_at_us, run.started_at_us, run.finished_at_us, run.steps, run.step, run.checkpoint_n,
    )  # fmt: skip


def entry_of(row: Row, payload: bytes) -> Entry:
    """An entry from a row of the statements that read the journal (see reading.sql)."""
    return Entry(
        Identity(row[1], row[2], row[3], row[4], row[5]),
        KINDS[row[6]],
        STATUSES[row[7]],
        payload,
        row[8] or b"",
        row[9],
        row[10],
        row[0],
        row[11],
        row[12],
        row[13] == 1,
    )


def resolution_of(body: bytes) -> Resolution:
    """A resolution from its JSON."""
    return _resolution(body)


def sample_of(body: bytes | None) -> Sample | None:
    """A sample from its JSON."""
    return None if body is None else _sample(body)


def serves_of(body: bytes) -> tuple[Served, ...]:
    """What a worker serves, from its JSON."""
    return tuple(
        Served(agent=each.agent, version=each.version, continues=each.continues) for each in _serves(body)
    )


def serves_json(serves: tuple[Served, ...]) -> bytes:
    """What a worker serves, as it is stored."""
    return _encode([_Serves(each.agent, each.version, each.continues) for each in serves])


def checkpoint_of(row: Row, good: bool, state: bytes | None = None) -> Checkpoint:
    """A checkpoint from its row: n, segment, name, at_us, size_bytes, now_us, …"""
    n, segment, name, at_us, size_bytes, now_us = row[:6]
    return Checkpoint(
        n=n,
        segment=segment,
        name=name,
        at_us=at_us,
        size_bytes=size_bytes,
        now_us=now_us,
        good=good,
        state=state,
    )


def options_json(options: tuple[str, ...]) -> bytes:
    """The options of a question, as they are stored."""
    return _encode(options)


def served_json(served: Iterable[tuple[str, str]]) -> str:
    """Agents, each with its version, as a statement takes them."""
    return _encode(sorted(served)).decode()


def reasons_json(reasons: Iterable[Reason]) -> str:
    """Reasons as a statement takes them."""
    return _encode(sorted(reasons)).decode()


def options_of(body: bytes) -> tuple[str, ...]:
    """The options of a question, from their JSON."""
    return _options(body)


def approval_of(row: Row) -> ApprovalRecord:
    """A question from its row."""
    return ApprovalRecord(
        run=row[0],
        agent=row[1],
        n=row[2],
        question_hash=row[3],
        question=row[4],
        options=options_of(row[5]),
        context=row[6],
        status=ApprovalStatus(row[7]),
        asked_at_us=row[8],
        expires_at_us=row[9],
        escalate_at_us=row[10],
        escalate_to=row[11],
        escalated=row[12] == 1,
        choice=row[13],
        comment=row[14],
        answered_by=row[15],
        answered_at_us=row[16],
    )


def progress_of(row: Row) -> Progress:
    """Progress from its row."""
    return Progress(
        current=row[0],
        total=row[1],
        description=row[2],
        phase=row[3],
        started_at_us=row[4],
        updated_at_us=row[5],
    )


def entry_event(run: str, n: int, kind: str, entry: Entry) -> Event:
    """The event that an entry is. Its payload is built here, not stored twice; results are not in the feed."""
    identity = entry.identity
    told: dict[str, object] = {
        "name": identity.name,
        "key": identity.key,
        "segment": "setup" if identity.segment == SETUP else identity.segment,
        "scope": identity.scope,
        "occurrence": identity.occurrence,
        "kind": entry.kind,
        "status": entry.status,
        "attempt": entry.token,
        "position": entry.position,
        "started_at_us": entry.started_at_us or None,
    }  # whether it was superseded later is not said: an event never changes
    if entry.status in (EntryStatus.FAILED, EntryStatus.RETRIED):
        try:
            told["error"] = _failure(entry.payload).told()
        except (
            msgspec.DecodeError
        ):  # of a kind that a newer version knows: the rest of the feed must be readable
            told["error"] = None
    return Event(run=run, n=n, at_us=entry.at_us, type=kind, payload=_encode(told))
