"""What a run looks like from outside: frozen values with exactly the fields of the shell's `--json`.

Times are aware datetimes in UTC; as JSON they are RFC 3339 with Z.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct, field

from holdfast.client.resources import (
    ClocksView,
    ResourcesView,
    clocks_of,
    clocks_view,
    own_sample,
    resources_view,
)
from holdfast.model import (
    SETUP,
    ApprovalRecord,
    ApprovalStatus,
    BudgetRecord,
    Checkpoint,
    Entry,
    EntryStatus,
    Event,
    Failure,
    Glimpse,
    Kin,
    Mismatch,
    Output,
    ParentPolicy,
    Progress,
    Reason,
    Run,
    RunState,
    StepCursor,
    Unit,
    WorkerRecord,
)
from holdfast.rules import progress as progress_rule
from holdfast.rules.approvals import over
from holdfast.rules.budget import plain
from holdfast.rules.effects import EffectState, effects_of

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""What JSON can say."""


class ProgressView(Struct, frozen=True, kw_only=True):
    """How far a run is. `percent` is None while the total is unknown; the ETA is a range in seconds, or None."""

    current: float
    total: float | None
    percent: float | None
    description: str
    phase: str | None
    eta_low_s: float | None
    eta_high_s: float | None
    updated_at: datetime


class CheckpointView(Struct, frozen=True, kw_only=True):
    """The newest saved checkpoint."""

    n: int
    name: str | None
    at: datetime


class WorkerView(Struct, frozen=True, kw_only=True):
    """The live worker that executes the run."""

    name: str
    host: str
    pid: int


class ErrorView(Struct, frozen=True, kw_only=True):
    """A failure. `error_class` (in JSON: `class`) is what it means for trying again: transient, fatal, lost …"""

    type: str
    message: str
    error_class: str
    cause: ErrorView | None


class ChildView(Struct, frozen=True, kw_only=True):
    """A child in short, and what becomes of it when its parent ends first."""

    id: str
    agent: str
    version: str
    state: RunState
    reason: Reason | None
    on_parent_end: ParentPolicy


class BudgetUnitView(Struct, frozen=True, kw_only=True):
    """One unit of a budget: dollars, seconds or counts. `limit` and `remaining` are None where it is only counted;
    `reserved` is what calls in flight may use."""

    unit: Unit
    limit: float | None
    used: float
    reserved: float
    remaining: float | None


class BudgetView(Struct, frozen=True, kw_only=True):
    """A budget: of a run (`run:ID`), an agent (`agent:NAME`) or a project (`project:NAME`). With a window of `per_s` it
    begins anew at `ends_at`. `waiting`: so many runs wait for it to be raised."""

    scope: str
    soft: float
    per_s: float | None
    ends_at: datetime | None
    units: tuple[BudgetUnitView, ...]
    waiting: int


class RunView(Struct, frozen=True, kw_only=True):
    """A run at one moment. `steps` counts the outcomes recorded in its life; `step` is the newest open one. `budget` is
    its own, `clocks` are those of one that is executed. `throttled`: it is held back because a person asked for it.
    `children` are the first 100 that it started, `workspace` is its folder, if that is there on this machine; lists
    leave the two out.
    """

    id: str
    agent: str
    version: str
    state: RunState
    reason: Reason | None
    queue: str
    priority: int
    attempts: int
    failures: int
    steps: int
    step: str | None
    progress: ProgressView | None
    checkpoint: CheckpointView | None
    resources: ResourcesView | None
    worker: WorkerView | None
    result: Json
    error: ErrorView | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    tags: dict[str, str]
    parent: str | None = None
    children: tuple[ChildView, ...] = ()
    budget: BudgetView | None = None
    clocks: ClocksView | None = None
    workspace: str | None = None
    throttled: bool = False


StepStatus: TypeAlias = Literal["ok", "failed", "abandoned", "retried", "superseded", "intended"]


class StepView(Struct, frozen=True, kw_only=True):
    """One recorded outcome. `segment` is "setup" above `ctx.restore`; `attempt` is the token of its attempt."""

    n: int
    name: str
    key: str | None
    segment: int | Literal["setup"]
    scope: str
    attempt: int
    status: StepStatus
    started_at: datetime | None
    finished_at: datetime


class StoredCheckpoint(Struct, frozen=True, kw_only=True):
    """A checkpoint in the store. `good`: its bytes match their hash."""

    n: int
    name: str | None
    at: datetime
    bytes: int
    good: bool


class EffectView(Struct, frozen=True, kw_only=True):
    """A step with `effect="once"`. `n` is its newest intent, which a verdict names. `result` is that of its newest
    outcome, `outcome`, which may be superseded: then the effect is unknown again."""

    n: int
    name: str
    key: str | None
    scope: str
    state: EffectState
    outcome: int | None
    result: Json


class CursorView(Struct, frozen=True, kw_only=True):
    """Where a long step was when it last said so."""

    name: str
    key: str | None
    scope: str
    cursor: Json
    at: datetime


class OutputView(Struct, frozen=True, kw_only=True):
    """Text that a step streams. `n` rises, with gaps; `start` is how many characters of the try came before."""

    n: int
    at: datetime
    step: str
    key: str | None
    scope: str
    start: int
    text: str


class ApprovalView(Struct, frozen=True, kw_only=True):
    """A question of a run. `n` is its number, that of the entry that asked; `hash` names its exact words.

    `overdue`: its `escalate=` time has passed. `choice`, `by`, `comment` and `answered_at` are its answer.
    """

    run: str
    agent: str
    n: int
    question: str
    options: tuple[str, ...]
    context: Json
    status: ApprovalStatus
    overdue: bool
    escalate_to: str | None
    hash: str
    asked_at: datetime
    escalate_at: datetime | None
    expires_at: datetime | None
    choice: str | None
    by: str | None
    comment: str
    answered_at: datetime | None


class Detail(Struct, frozen=True, kw_only=True):
    """What a person needs beside a RunView to know why nothing moves: the whole failure, both sides of a mismatch,
    the signal waited for, when the run is due, what it asks people, and the event that tells which budget or loop
    stopped it. `closed`: of the run and of the children that it waits for, those that no worker begins, and the queue
    that is limited to 0, "*" for all of them together. `pressed`: why the workers of a queued run begin nothing now.
    `needs`: the labels that it asks of a worker; `lacking`: those of them that no live worker of its agent has.
    `unserved`: it is running, and no live worker serves its version."""

    failure: Failure | None
    mismatch: Mismatch | None
    mismatch_entry: Entry | None
    wait_name: str | None
    due_at: datetime | None
    asked: str | None
    effects: tuple[EffectView, ...] = ()
    cursors: tuple[CursorView, ...] = ()
    questions: tuple[ApprovalView, ...] = ()
    closed: Mapping[str, str] = field(default_factory=dict[str, str])
    pressed: str | None = None
    needs: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    unserved: bool = False
    stopped_by: dict[str, Json] | None = None


def at(us: int) -> datetime:
    """An instant of the store as a datetime in UTC."""
    return datetime.fromtimestamp(us / 1_000_000, UTC)


def at_or_none(us: int | None) -> datetime | None:
    """An instant that may be missing."""
    return None if us is None else at(us)


def run_view(
    run: Run,
    *,
    now_us: int,
    glimpse: Glimpse,
    checkpoint: Checkpoint | None = None,
    worker: WorkerRecord | None = None,
    tags: dict[str, str] | None = None,
    parent: str | None = None,
    children: Sequence[Kin] = (),
    workspace: Path | None = None,
) -> RunView:
    """Put together what `show --json` says. Pure: everything that it says is an argument."""
    running = run.state is RunState.RUNNING
    at_work = worker if running else None
    own, progress, budget = own_sample(glimpse, now_us), glimpse.progress, glimpse.budget
    clocks = None if at_work is None else clocks_of(run, glimpse, at_work, now_us)
    return RunView(
        id=run.id,
        agent=run.agent,
        version=run.version,
        state=run.state,
        reason=run.reason,
        queue=run.queue,
        priority=run.priority,
        attempts=run.attempts,
        failures=run.failures,
        steps=run.steps,
        step=run.step,
        progress=None if progress is None else progress_view(progress, now_us, moving=running),
        checkpoint=None if checkpoint is None else checkpoint_view(checkpoint),
        resources=None if at_work is None else resources_view(own, at_work.sample),
        worker=None if at_work is None else WorkerView(name=at_work.name, host=at_work.host, pid=at_work.pid),
        result=None if run.result is None else decode_json(run.result),
        error=None if run.failure is None else error_view(run.failure),
        created_at=at(run.created_at_us),
        started_at=at_or_none(run.started_at_us),
        finished_at=at_or_none(run.finished_at_us),
        tags=tags or {},
        parent=parent,
        children=tuple(child_view(kin) for kin in children),
        budget=None if budget is None else budget_view(budget),
        clocks=None if at_work is None or clocks is None else clocks_view(clocks, at_work, own),
        workspace=None if workspace is None else str(workspace),
        throttled=glimpse.throttled,
    )


def budget_view(record: BudgetRecord) -> BudgetView:
    """A budget in the units that people use."""
    return BudgetView(
        scope=record.scope,
        soft=record.soft_percent / 100,
        per_s=None if record.per_us is None else record.per_us / 1e6,
        ends_at=at_or_none(record.ends_at_us),
        units=tuple(
            BudgetUnitView(
                unit=one.unit,
                limit=None if one.hard is None else plain(one.unit, one.hard),
                used=plain(one.unit, one.used),
                reserved=plain(one.unit, one.reserved),
                remaining=None
                if one.hard is None
                else plain(one.unit, max(0, one.hard - one.used - one.reserved)),
            )
            for one in record.accounts
        ),
        waiting=record.waiting,
    )


def child_view(kin: Kin) -> ChildView:
    """A child in short."""
    run = kin.run
    return ChildView(
        id=run.id,
        agent=run.agent,
        version=run.version,
        state=run.state,
        reason=run.reason,
        on_parent_end=kin.on_parent_end,
    )


def progress_view(progress: Progress, now_us: int, *, moving: bool = True) -> ProgressView:
    """Progress with its percentage and, while the run moves, its ETA."""
    eta = progress_rule.eta(progress, now_us) if moving else None
    return ProgressView(
        current=_plain(progress.current),
        total=None if progress.total is None else _plain(progress.total),
        percent=progress_rule.percent(progress),
        description=progress.description,
        phase=progress.phase,
        eta_low_s=eta[0] if eta else None,
        eta_high_s=eta[1] if eta else None,
        updated_at=at(progress.updated_at_us),
    )


def _plain(number: float) -> float:
    """3 for 3.0: most progress counts things."""
    return int(number) if float(number).is_integer() else number


def checkpoint_view(checkpoint: Checkpoint) -> CheckpointView:
    """A checkpoint in short."""
    return CheckpointView(n=checkpoint.n, name=checkpoint.name, at=at(checkpoint.at_us))


def stored_checkpoint(checkpoint: Checkpoint) -> StoredCheckpoint:
    """A checkpoint with its size and whether it is good."""
    return StoredCheckpoint(
        n=checkpoint.n,
        name=checkpoint.name,
        at=at(checkpoint.at_us),
        bytes=checkpoint.size_bytes,
        good=checkpoint.good,
    )


def approval_view(record: ApprovalRecord, now_us: int) -> ApprovalView:
    """A question as people see it at this moment: one whose time is up is expired, whether the run knows it or not."""
    late = record.status is ApprovalStatus.OPEN and over(record, now_us)
    return ApprovalView(
        run=record.run,
        agent=record.agent,
        n=record.n,
        question=record.question,
        options=record.options,
        context=decode_json(record.context),
        status=ApprovalStatus.EXPIRED if late else record.status,
        overdue=record.escalated and record.status is ApprovalStatus.OPEN,
        escalate_to=record.escalate_to,
        hash=record.question_hash.hex(),
        asked_at=at(record.asked_at_us),
        escalate_at=at_or_none(record.escalate_at_us),
        expires_at=at_or_none(record.expires_at_us),
        choice=record.choice,
        by=record.answered_by,
        comment=record.comment,
        answered_at=at_or_none(record.answered_at_us),
    )


def error_view(failure: Failure) -> ErrorView:
    """A failure with its causes."""
    return ErrorView(
        type=failure.type,
        message=failure.message,
        error_class=str(failure.kind),
        cause=None if failure.cause is None else error_view(failure.cause),
    )


def step_views(entries: Iterable[Entry]) -> list[StepView]:
    """Every recorded outcome in order; marks (unseen) are left out."""
    return [
        StepView(
            n=entry.position,
            name=entry.identity.name,
            key=entry.identity.key,
            segment="setup" if entry.identity.segment == SETUP else entry.identity.segment,
            scope=entry.identity.scope,
            attempt=entry.token,
            status=step_status(entry),
            started_at=at(entry.started_at_us) if entry.started_at_us else None,
            finished_at=at(entry.at_us),
        )
        for entry in entries
        if entry.status is not EntryStatus.UNSEEN
    ]


def step_status(entry: Entry) -> StepStatus:
    """How the call ended, as `steps --json` says it."""
    if entry.superseded:
        return "superseded"
    match entry.status:
        case EntryStatus.OK:
            return "ok"
        case EntryStatus.FAILED:
            return "failed"
        case EntryStatus.RETRIED:
            return "retried"
        case EntryStatus.ABANDONED | EntryStatus.UNSEEN:
            return "abandoned"
        case EntryStatus.INTENDED:
            return "intended"


def effect_views(entries: Sequence[Entry], running: int | None) -> list[EffectView]:
    """The effects among the entries. `running` is the token of the attempt that runs now."""
    return [
        EffectView(
            n=one.intent.position,
            name=one.intent.identity.name,
            key=one.intent.identity.key,
            scope=one.intent.identity.scope,
            state=one.state,
            outcome=None if one.outcome is None else one.outcome.position,
            result=None
            if one.outcome is None or not one.outcome.payload
            else decode_json(one.outcome.payload),
        )
        for one in effects_of(entries, running)
    ]


def cursor_view(cursor: StepCursor) -> CursorView:
    """A recorded cursor."""
    identity = cursor.identity
    return CursorView(
        name=identity.name,
        key=identity.key,
        scope=identity.scope,
        cursor=decode_json(cursor.cursor),
        at=at(cursor.at_us),
    )


def output_view(output: Output) -> OutputView:
    """A piece of streamed text."""
    return OutputView(
        n=output.n,
        at=at(output.at_us),
        step=output.step,
        key=output.key,
        scope=output.scope,
        start=output.start,
        text=output.text,
    )


def decode_json(payload: bytes) -> Json:
    """Recorded JSON as plain Python values."""
    value: Json = msgspec.json.decode(payload)
    return value


def event_payload(event: Event) -> dict[str, Json]:
    """The JSON object that an event carries."""
    value = decode_json(event.payload)
    return value if isinstance(value, dict) else {"value": value}


def newest(checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    """The newest of the stored checkpoints."""
    return checkpoints[-1] if checkpoints else None
