"""The parts of runs that are carried from one store to another: a line each in the file of `holdfast export`.

A payload that is JSON stands in its field as it is, byte for byte; any other stands as base64 in the field beside it
(`payload` and `payload_base64`). No part holds a number of the store's own: runs are named by their ids, contents by
their hashes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from holdfast.model.approvals import ApprovalStatus
from holdfast.model.budgets import Unit
from holdfast.model.children import ParentPolicy
from holdfast.model.failures import Failure
from holdfast.model.journal import EntryKind, EntryStatus, Mismatch, Resolution
from holdfast.model.runs import Reason, RunState

EXPORT_FORMAT: Final = 1
"""The number of the format. A file of a higher one is refused, never guessed at."""

Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""What a column of a store holds."""

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""The same, never below 0."""

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
"""A SHA-256 in hexadecimal, as `sha256sum` says it."""

NOTHING: Final = Raw(b"")
"""No JSON: the payload stands beside it as base64, or there is none."""


def json_or_base64(payload: bytes | None) -> tuple[Raw, bytes | None]:
    """The two fields of a payload: one line of JSON as it is, anything else as bytes. None is in neither."""
    if payload is None:
        return NOTHING, None
    try:
        if b"\n" not in payload and bytes(memoryview(msgspec.json.decode(payload, type=Raw))) == payload:
            payload.decode()
            return Raw(payload), None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    return NOTHING, payload


def payload_of(json: Raw, base64: bytes | None) -> bytes:
    """The payload of two fields; b"" when there is none."""
    return base64 if base64 is not None else bytes(memoryview(json))


def is_there(json: Raw, base64: bytes | None) -> bool:
    """Whether there is a payload in the two fields."""
    return base64 is not None or json is not NOTHING


class ChildStanding(StrEnum):
    """How a child stands: `swept` by its parent's end."""

    OPEN = "open"
    ENDED = "ended"
    SWEPT = "swept"


class Pages(StrEnum):
    """The parts of a run that are read page by page."""

    SIGNALS = "signals"
    CHECKPOINTS = "checkpoints"
    EVENTS = "events"
    ARTIFACTS = "artifacts"


class Part(
    Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="part"
):
    """A line of the file."""


class ExportHeader(Part, frozen=True, kw_only=True, tag="header"):
    """The first line: which format the others are in, and when they were written."""

    holdfast_export: Count
    version: str = ""
    at: str = ""


class MovedContent(Part, frozen=True, kw_only=True, tag="content"):
    """The content of an artifact begins: its chunks follow. Each stands once, before the first run that has it."""

    id: Digest
    size_bytes: Count
    chunks: Count


class MovedChunk(Part, frozen=True, kw_only=True, tag="chunk"):
    """A chunk of the content above: as text when it is UTF-8, else as base64."""

    n: Count
    text: str | None = None
    base64: bytes | None = None


class MovedLink(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Whose child a run is; its parent stands before it in the file, in the same tree."""

    parent: str
    on_parent_end: ParentPolicy
    standing: ChildStanding = ChildStanding.OPEN
    outcome: Count | None = None
    cancelled_by: Count | None = None


class MovedRun(Part, frozen=True, kw_only=True, tag="run"):
    """A run begins: what `Run` says of it, apart from its worker, its input and its outcome. Other parts follow."""

    id: str
    agent: str
    version: str
    child: MovedLink | None = None
    state: RunState
    reason: Reason | None = None
    queue: str = "default"
    priority: Whole = 0
    needs: tuple[str, ...] = ()
    claimable: bool = True
    created_at_us: Whole
    started_at_us: Whole | None = None
    finished_at_us: Whole | None = None
    deadline_at_us: Whole | None = None
    token: Count = 0
    position: Count = 0
    event_no: Count = 0
    steps: Count = 0
    step: str | None = None
    checkpoint_n: Count = 0
    attempts: Count = 0
    failures: Count = 0
    crashes: Count = 0
    crashes_alone: Count = 0
    suspect: bool = False
    claimed_position: Whole = 0
    asked: str | None = None
    wait_name: str | None = None
    inbox_no: Count = 0
    behind: bool = False
    """Its end, or its retry, has not reached all of its children yet."""
    waits_for_budgets: tuple[str, ...] = ()
    failure: Failure | None = None
    mismatch: Mismatch | None = None
    input: Raw = NOTHING
    input_base64: bytes | None = None
    result: Raw = NOTHING
    result_base64: bytes | None = None


class MovedTag(Part, frozen=True, kw_only=True, tag="tag"):
    """A tag of the run above."""

    name: str
    value: str = ""


class MovedLane(Part, frozen=True, kw_only=True, tag="lane"):
    """Its concurrency key."""

    key: str
    at_most: Count


class MovedAccount(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A unit of its budget, in grains."""

    unit: Unit
    hard: Count | None = None
    used: Count = 0


class MovedBudget(Part, frozen=True, kw_only=True, tag="budget"):
    """Its own budget, with what is used of it."""

    soft_percent: Count
    per_us: Count | None = None
    since_us: Whole = 0
    units: tuple[MovedAccount, ...] = ()


class MovedProgress(Part, frozen=True, kw_only=True, tag="progress"):
    """Its newest progress."""

    current: float
    total: float | None = None
    description: str = ""
    phase: str | None = None
    started_at_us: Whole
    updated_at_us: Whole


class MovedResolution(Part, frozen=True, kw_only=True, tag="resolution"):
    """What an operator said about a mismatch or an effect."""

    n: Count
    resolution: Resolution


class MovedCursor(Part, frozen=True, kw_only=True, tag="cursor"):
    """Where a long step of it is. `identity` is that of the call: segment, scope, name, key, occurrence."""

    identity: str
    args_hash: bytes = b""
    position: Count = 0
    at_us: Whole
    cursor: Raw = NOTHING
    cursor_base64: bytes | None = None


class MovedHistory(Part, frozen=True, kw_only=True, tag="history"):
    """What it used over its life: samples, oldest first."""

    samples: Raw = NOTHING
    samples_base64: bytes | None = None


class MovedSignal(Part, frozen=True, kw_only=True, tag="signal"):
    """A signal that came to its inbox. `consumed` is the position of the entry that took it."""

    n: Count
    name: str
    at_us: Whole
    dedup: str | None = None
    consumed: Count | None = None
    payload: Raw = NOTHING
    payload_base64: bytes | None = None


class MovedApproval(Part, frozen=True, kw_only=True, tag="approval"):
    """A question that it asked, and the answer."""

    n: Count
    segment: Whole
    question_hash: bytes
    question: str
    options: tuple[str, ...]
    status: ApprovalStatus
    closed_by: Count | None = None
    asked_at_us: Whole
    expires_at_us: Whole | None = None
    escalate_at_us: Whole | None = None
    escalate_to: str | None = None
    escalated: bool = False
    choice: str | None = None
    comment: str = ""
    answered_by: str | None = None
    answered_at_us: Whole | None = None
    context: Raw = NOTHING
    context_base64: bytes | None = None


class MovedCheckpoint(Part, frozen=True, kw_only=True, tag="checkpoint"):
    """A saved state. `damaged`: its bytes do not match their hash; they stand here as they are stored."""

    n: Count
    segment: Whole
    name: str | None = None
    at_us: Whole
    event_no: Count
    keep: Whole
    now_us: Whole
    size_bytes: Count
    sha256: Digest
    corrupt: bool = False
    damaged: bytes | None = None
    encoding: str | None = None
    state: Raw = NOTHING
    state_base64: bytes | None = None
    turns: Raw = NOTHING
    turns_base64: bytes | None = None


class MovedEvent(Part, frozen=True, kw_only=True, tag="event"):
    """Something that happened."""

    n: Count
    at_us: Whole
    type: str
    payload: Raw = NOTHING
    payload_base64: bytes | None = None


class MovedEntry(Part, frozen=True, kw_only=True, tag="entry"):
    """The outcome of a call, which is an event, too."""

    n: Count
    at_us: Whole
    type: str
    position: Count
    kind: EntryKind
    status: EntryStatus
    segment: Whole
    scope: str = ""
    name: str
    key: str | None = None
    occurrence: Whole = 0
    started_at_us: Whole | None = None
    token: Count | None = None
    args_hash: bytes | None = None
    signal: Count | None = None
    superseded: bool = False
    payload: Raw = NOTHING
    payload_base64: bytes | None = None


class MovedArtifact(Part, frozen=True, kw_only=True, tag="artifact"):
    """What it made and keeps: `content` is the id of one that stands above."""

    position: Count
    name: str
    content: Digest
    media_type: str
    at_us: Whole
    superseded: bool = False


class RunEnd(Part, frozen=True, kw_only=True, tag="end"):
    """The run is whole: so many lines it has, with this one not counted, and this is the SHA-256 of them."""

    run: str
    lines: Count
    sha256: Digest


class ExportFooter(Part, frozen=True, kw_only=True, tag="footer"):
    """The file is whole: so many runs are in it, and this is the SHA-256 of all lines above."""

    runs: Count
    sha256: Digest


MovedPaged = MovedSignal | MovedCheckpoint | MovedEvent | MovedEntry | MovedArtifact
"""What is read page by page."""

PartOfRun = (
    MovedTag
    | MovedLane
    | MovedBudget
    | MovedProgress
    | MovedResolution
    | MovedCursor
    | MovedHistory
    | MovedSignal
    | MovedApproval
    | MovedCheckpoint
    | MovedEvent
    | MovedEntry
    | MovedArtifact
)
"""What follows the line of a run, in this order; events and entries stand among each other by their numbers."""

Line = ExportHeader | MovedContent | MovedChunk | MovedRun | PartOfRun | RunEnd | ExportFooter
"""Any line of the file."""


class MovedHead(Struct, frozen=True, kw_only=True):
    """A run at one moment, with those of its parts that may change while it stands still. The others are read page by
    page: signals up to `run.inbox_no`, checkpoints, events, artifacts."""

    run: MovedRun
    parts: tuple[PartOfRun, ...]


class ImportRecord(Struct, frozen=True, kw_only=True):
    """What a store knows of a run that was imported. `sha256` is that of its lines; None: it is not whole yet."""

    key: int
    sha256: str | None


class Ending(Struct, frozen=True, kw_only=True):
    """An imported run whose lines are all written: so many, with the run's own, and this is their SHA-256.

    The others are what concerns other runs and comes into being only now: its place among its kin, its concurrency
    key, its budget, the budgets that it waits for.
    """

    key: int
    lines: int
    sha256: str
    child: MovedLink | None = None
    behind: bool = False
    lane: MovedLane | None = None
    budget: MovedBudget | None = None
    waits_for_budgets: tuple[str, ...] = ()
