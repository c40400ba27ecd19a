"""The nouns: frozen values that rows, rules and the API share.

Instants are whole microseconds since the epoch (`_us`). Payloads are JSON as bytes: no value holds a user's object.
Those that every step or every claim makes are msgspec Structs, made several times as fast: they change by
`msgspec.structs.replace`.
"""

from __future__ import annotations

from holdfast.model.artifacts import Artifact, Content, NewArtifact
from holdfast.model.changes import (
    Beside,
    Change,
    Committed,
    Decision,
    Failed,
    Hold,
    NewCheckpoint,
    Outcome,
    Park,
    RefusedChange,
    Release,
    Retry,
    Succeeded,
)
from holdfast.model.events import Event, Note, Progress
from holdfast.model.failures import Failure, FailureKind
from holdfast.model.journal import (
    SETUP,
    Call,
    Checkpoint,
    Entry,
    EntryKind,
    EntryStatus,
    Identity,
    Journal,
    Mismatch,
    Resolution,
    ResolutionKind,
    Signal,
)
from holdfast.model.parts import OwnedProgress, OwnedState
from holdfast.model.runs import (
    FINAL_STATES,
    HELD_REASONS,
    Claim,
    Created,
    NewRun,
    Reason,
    Run,
    RunFilter,
    RunState,
)
from holdfast.model.workers import Ask, Level, NewWorker, QueueRecord, Sample, Served, WorkerRecord

__all__ = [
    "Artifact",
    "Beside",
    "Ask",
    "Call",
    "Change",
    "Checkpoint",
    "Claim",
    "Committed",
    "Content",
    "Created",
    "Decision",
    "Entry",
    "EntryKind",
    "EntryStatus",
    "Event",
    "FINAL_STATES",
    "Failed",
    "Failure",
    "FailureKind",
    "HELD_REASONS",
    "Hold",
    "Identity",
    "Journal",
    "Level",
    "Mismatch",
    "NewArtifact",
    "NewCheckpoint",
    "NewRun",
    "NewWorker",
    "Note",
    "Outcome",
    "OwnedProgress",
    "OwnedState",
    "Park",
    "Progress",
    "QueueRecord",
    "Reason",
    "RefusedChange",
    "Release",
    "Resolution",
    "ResolutionKind",
    "Retry",
    "Run",
    "RunFilter",
    "RunState",
    "SETUP",
    "Sample",
    "Served",
    "Signal",
    "Succeeded",
    "WorkerRecord",
]
