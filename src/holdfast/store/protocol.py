"""The Store protocol: the durable memory of holdfast, and the promise that each operation makes.

Laws, for every store:
1. Each operation is one transaction. What it returned is durable: it survives `kill -9` and power loss.
2. A Change is fenced by `(token, state running, position)`; one that does not fit changes nothing.
3. The store's clock stamps everything; callers send durations, never "now".
4. Rules decide, the store stores: `decide` functions run under the write lock and are synchronous and pure.
5. Errors are ours: StoreUnavailable, StoreFull, StoreRefused, StoreCorrupt, and those named per operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from holdfast.model import (
    Answer,
    ApprovalRecord,
    Artifact,
    Ask,
    Change,
    Checkpoint,
    Claim,
    Committed,
    Content,
    Created,
    Decision,
    Entry,
    Event,
    Fire,
    Fired,
    Journal,
    Kin,
    NewChild,
    NewRun,
    NewSchedule,
    NewWorker,
    Output,
    OwnedProgress,
    OwnedState,
    Progress,
    QueueRecord,
    RefusedChange,
    Run,
    RunFilter,
    Sample,
    ScheduleRecord,
    Served,
    Signal,
    Standing,
    StepCursor,
    WorkerRecord,
)
from holdfast.store.moving import Moving
from holdfast.store.seen import Samples, Wishes
from holdfast.store.shared import Budgets, Rates

Decide = Callable[[Run, int], Decision | None]
"""`decide(run, now_us)`: what shall become of the run, or None to leave it alone. May raise Refused."""


class Lifecycle(Protocol):
    """Opening, closing, and the clock."""

    @property
    def url(self) -> str:
        """The URL that opens this store again."""
        ...

    @property
    def lock_folder(self) -> Path | None:
        """The folder where workers of this machine hold their locks, which need not be there yet; None when none can be
        trusted. A lock that another machine registered, or another user, is not asked here."""
        ...

    @property
    def workspace_folder(self) -> Path | None:
        """The folder where this machine keeps the workspaces of runs, which need not be there yet; None when it keeps
        none. Two stores never have the same."""
        ...

    async def open(self) -> None:
        """Open the store, create or migrate its schema. Idempotent, safe from many processes at once.

        Raises StoreUnavailable (no folder, no permission), StoreRefused (network file system, newer schema).
        """
        ...

    async def close(self) -> None:
        """Release everything. Idempotent. Later calls raise StoreUnavailable."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def now(self) -> int:
        """The store's wall clock in microseconds."""
        ...


class Runs(Protocol):
    """Runs as everybody but the attempt sees them."""

    async def create_run(self, new: NewRun) -> Created:
        """Create a run as `queued` with its event and tags, or return the one that has this id.

        Idempotent by id: the same agent and the same input answer the existing run with `existed=True`; another
        agent or input raises Conflict. `new.signal` is sent in the same transaction, also to the run that existed, once
        by its `dedup`; a new one to a final run raises Refused.
        """
        ...

    async def create_runs(self, new: Sequence[NewRun]) -> list[Created]:
        """Create runs in one transaction, all or none; answers and errors are those of `create_run`."""
        ...

    async def get_run(self, run_id: str) -> Run:
        """The run with its failure, mismatch and result. Raises RunNotFound."""
        ...

    async def get_runs(self, run_keys: Sequence[int]) -> dict[int, Run]:
        """The runs with these keys, without their results; those that are not there are left out."""
        ...

    async def get_input(self, run_id: str) -> bytes:
        """The input of a run, JSON. Raises RunNotFound."""
        ...

    async def get_progress(self, run_key: int) -> Progress | None:
        """The newest recorded progress of a run."""
        ...

    async def list_runs(self, chosen: RunFilter) -> list[Run]:
        """Runs that fit, newest first, at most `chosen.limit`, without their results."""
        ...

    async def get_tags(self, run_keys: Sequence[int]) -> dict[int, dict[str, str]]:
        """The tags of these runs, by key; runs without tags are left out."""
        ...

    async def tag_run(self, run_id: str, changed: Mapping[str, str | None]) -> dict[str, str]:
        """Set tags of a run, or remove those whose value is None, and return what it has then.

        Raises RunNotFound, and UsageError for what cannot be a tag, with nothing changed.
        """
        ...

    async def find_runs_with_input(self, agent: str, input_json: bytes) -> list[Run]:
        """Unfinished runs of `agent` with exactly this input, newest first."""
        ...

    async def update_run(self, run_id: str, decide: Decide) -> Run:
        """The one door for everybody but the attempt: cancel, pause, resume, retry, deadline.

        Atomic: `decide` sees the run under the write lock; the run it returns, its events, the superseded entries
        (whose signals return to the inbox) and the resolution appear together. Raises RunNotFound and whatever
        `decide` raises, with nothing changed.
        """
        ...

    async def delete_run(self, run_id: str) -> None:
        """Delete a final run and all that belongs to it; its children stay. Raises RunNotFound, and Refused when it is
        not final, when an unfinished parent has not taken its outcome, or when its end has not reached its children."""
        ...

    async def prunable(self, before_us: int) -> dict[str, int]:
        """How many runs of each agent finished before `before_us`."""
        ...

    async def prune(self, before_us: int, limit: int) -> int:
        """Delete at most `limit` runs that finished before `before_us` and that `delete_run` would delete, and return
        how many."""
        ...


class Attempts(Protocol):
    """What workers do: claim runs and commit what their attempts record."""

    async def claim(
        self, worker: int, serves: Sequence[Served], limit: int, *, only: str | None = None
    ) -> list[Claim]:
        """Hand at most `limit` runs to the worker: due ones, and those whose worker is dead, in the order and within
        the limits of `rules.schedule`, each by `rules.transitions.claim` on exactly the token that was read.

        Atomic. A run that must run alone is handed out only to a worker without other runs, and nothing beside it.
        A run that took its worker down too often becomes `waiting: poison` instead. A run past its deadline is left
        to `sweep`. A retired or draining worker gets nothing. `only` claims one run by id, whatever its queue's limit,
        also one that is not `claimable`; never one that is not due or has a live holder. When it cannot be claimed,
        its unfinished children are, and theirs, within the limits.
        """
        ...

    async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        """Make Changes of any number of runs durable in one transaction, and answer each.

        Fenced (law 2) and independent: a refused Change leaves the others untouched. Changes of one run are applied
        in order. Refused too: a Change that consumes a signal that is not in the inbox, or records a second outcome
        of `once` under one key. Within a Change the events are: its notes, its entries, its checkpoint and progress,
        those of its outcome. What comes `beside` no entry is fenced like notes. A payload over 64 MiB raises
        PayloadTooLarge, before anything is written. A failure of the whole transaction raises StoreError, and nothing
        of it is recorded.
        """
        ...

    def commit_now(self, changes: Sequence[Change]) -> list[Committed | RefusedChange] | None:
        """`commit`, at once and on this thread, where that takes well under a millisecond; None, with nothing done,
        where it would not: another process is writing, the disk is slow, the store is elsewhere."""
        ...

    def commit_soon(self, change: Change, answered: Callable[[Committed | Exception | None], None]) -> bool:
        """Begin to `commit` one Change without waiting for it, where that is quicker than `commit`; False, with nothing
        done and no answer to come, where it is not.

        `answered` is called once, on the event loop, when it is durable; with None when nothing was done and `commit`
        has to do it or say why not; with an error when nobody knows. What is begun is finished.
        """
        ...

    async def asks(self, worker: int) -> list[Ask]:
        """The runs whose newest claim is this worker's, as the store sees them now: also those that were cancelled,
        expired or settled since, for as long as nobody has claimed them again."""
        ...

    async def get_once(self, run_key: int, key: str) -> Entry | None:
        """The recorded outcome of `ctx.once` under this key: one indexed read."""
        ...

    async def count_once(self, run_key: int) -> int:
        """How many `ctx.once` outcomes the run has."""
        ...


class Inbox(Protocol):
    """Signals, kept until an entry consumes them."""

    async def add_signal(self, run_id: str, name: str, payload: bytes, dedup: str | None = None) -> Signal:
        """Keep a signal for the run; a run that waits for this name becomes claimable at once, in the same
        transaction. Idempotent by `dedup`. Raises RunNotFound, Refused when the run is final."""
        ...

    async def read_inbox(self, run_key: int) -> tuple[int, list[Signal]]:
        """The highest signal number of the run, and its signals that no entry has consumed, in order."""
        ...


class Approvals(Protocol):
    """Questions to people. They are asked beside an entry (`NewApproval`), and closed by one (`CloseApproval`).

    A run that becomes final withdraws its open questions, and opens them again when it is retried. Superseding the
    entry that asked withdraws the question; superseding the one that went on without an answer opens it again. The
    same question of the same call, asked again after its answer was given, has that answer.
    """

    async def answer_approval(self, run_id: str, n: int, answer: Answer) -> ApprovalRecord:
        """Answer question `n` by `rules.approvals.answer`; the run gets the signal `holdfast:approval/n` and the
        event `approval.answered` in the same transaction. Idempotent: the same choice again changes nothing.

        Raises RunNotFound, ApprovalNotFound, UsageError (no such option), Refused (the question changed, is over, or
        has another answer).
        """
        ...

    async def list_approvals(self, run_id: str) -> list[ApprovalRecord]:
        """Every question of the run, in the order of asking. Raises RunNotFound."""
        ...

    async def list_open_approvals(self, limit: int) -> list[ApprovalRecord]:
        """The questions of all runs that can be answered now: escalated ones first, then as they were asked."""
        ...


class Children(Protocol):
    """Runs that another run started, by a Change with `NewChild` beside an entry: both become durable, or neither.

    A child that ends is told to its parent, unless that ended first, by a signal (`rules.waits.of_child`), in the
    transaction of its end; the signal is taken back when the child is retried before it is consumed. The end of a
    parent, however it comes, cancels its unfinished children of that policy, and theirs, in its transaction: 1,000 of
    them, and `sweep` the rest. A retry of the parent queues them again, and retries those children that did not succeed
    and whose outcome, or the entry that cancelled them, it supersedes. A run of the child's id that is no child of this
    parent, or of another agent or input, refuses the Change with `conflict`.
    """

    async def read_child(self, parent: int, child_id: str) -> Standing | None:
        """How a child of the run with this key stands at one moment; None when the run has no such child."""
        ...

    async def check_child(self, parent: int, new: NewChild) -> None:
        """Raise Conflict when a Change of the run with this key would be refused for this child."""
        ...

    async def list_children(
        self, run_ids: Sequence[str], limit: int, *, unfinished: bool = False
    ) -> list[Kin]:
        """At most `limit` children of these runs, or those that have not ended, in the order of their start, without
        their results."""
        ...

    async def parents_of(self, run_keys: Sequence[int]) -> dict[int, str]:
        """The ids of the parents of those of these runs that are children, by the child's key."""
        ...


class Feed(Protocol):
    """What happened in a run: events, entries, checkpoints."""

    async def read_events(self, run_id: str, after: int, limit: int) -> list[Event]:
        """Events with `n > after`, in order, gapless. An event once read never changes. Raises RunNotFound."""
        ...

    async def read_entries(self, run_id: str, *, payloads: bool = False) -> list[Entry]:
        """Every recorded entry of the run, in order, superseded ones and retried tries included."""
        ...

    async def list_checkpoints(self, run_id: str) -> list[Checkpoint]:
        """The stored checkpoints, oldest first, each verified (`good`), without state."""
        ...

    async def load_checkpoint(self, run_id: str, n: int | None = None) -> Checkpoint:
        """A checkpoint with its state; None means the newest good one. Raises CheckpointNotFound, StoreCorrupt."""
        ...


class Rehearsals(Protocol):
    """What new code is tried on before it meets the run."""

    async def load_journal(self, run_id: str, *, whole: bool = False) -> Journal:
        """The journal as the next attempt would get it; `whole`: without a checkpoint, every live entry since the run
        began. Changes nothing: a checkpoint that is found corrupt is passed over, and not marked. Raises RunNotFound,
        StoreCorrupt."""
        ...


class Steps(Protocol):
    """What lives only as long as a step: the places of long ones, and the text they stream."""

    async def read_cursors(self, run_id: str) -> list[StepCursor]:
        """The recorded places of the calls that are not over, oldest first. Raises RunNotFound.

        A place is replaced by the next of its call, and forgotten with the outcome (apart from a failure, which may be
        tried again), or when the run succeeds or is cancelled. Of a run the newest 1,000 are kept. A place that moved
        is progress, as an entry is: no crash before it counts.
        """
        ...

    async def read_output(self, run_id: str, after: int) -> list[Output]:
        """The streamed text that is still kept with `n > after`, in order. Raises RunNotFound.

        The newest 256 pieces of a run are kept while it is `running`, and none afterwards. `n` is never used twice.
        """
        ...


class Workers(Protocol):
    """Generations of workers with their leases, and the limits of queues."""

    async def register_worker(self, new: NewWorker, lease_us: int) -> int:
        """Record a new generation of a worker with a fresh lease, and return its key. Names may repeat.

        Runs that wait as `needs_code` for what it serves are queued again (at most 1,000; sweeps do the rest).
        """
        ...

    def renew_lease(self, worker: int, lease_us: int, sample: Sample | None) -> bool:
        """Renew the worker's lease and record its sample. Called from a thread of its own, on its own connection;
        blocks. False when the generation is retired."""
        ...

    async def retire_worker(self, worker: int, *, counted: bool = False) -> None:
        """End the generation: its runs, if any are left, are claimable at once; `counted=False`: as no crash."""
        ...

    async def mark_draining(self, worker: int) -> None:
        """Say that the worker claims nothing more: it says so itself, or is asked to drain so."""
        ...

    async def is_draining(self, worker: int) -> bool:
        """Whether that was said. One row, asked several times a second by each worker."""
        ...

    async def list_workers(self) -> list[WorkerRecord]:
        """Registered generations that are alive or still hold runs."""
        ...

    async def sweep(self, limit: int) -> int:
        """Do for at most `limit` runs what no worker can do for itself, by pure rules: fail those past their
        deadline, mark those whose version no live worker serves as `needs_code` (unless there is no live worker at
        all) and queue them again when one does, let ends reach the children that are left, mark questions whose
        `escalate_at_us` has come, each once,
        forget dead generations without runs. Returns how many rows changed."""
        ...

    async def limit_queue(self, name: str, limit: int | None) -> None:
        """Set how many runs of the queue may hold a live lease; "*" is all queues together."""
        ...

    async def list_queues(self) -> list[QueueRecord]:
        """The queues with their limits and counts."""
        ...


class Artifacts(Protocol):
    """What runs made and keep. Contents come in before anything refers to them, in transactions of one chunk each.

    A content that nothing refers to, and that was not touched for an hour, may be swept.
    """

    async def begin_content(self) -> int:
        """Begin to bring in a content; returns the key of the upload."""
        ...

    async def add_chunk(self, upload: int, n: int, chunk: bytes) -> None:
        """Store chunk `n` (from 0) of it; again is fine. Raises Refused when the upload is over or was swept."""
        ...

    async def seal_content(self, upload: int, content_id: str, size_bytes: int) -> Content:
        """All chunks are there: from now on an entry may refer to the content by its id, the SHA-256 of all of it.

        The same content is stored once, whoever brings it. Raises Refused when chunks are missing.
        """
        ...

    async def list_artifacts(self, run_id: str) -> list[Artifact]:
        """What the entries of a run made, in their order, without those that were superseded. Raises RunNotFound."""
        ...

    async def get_content(self, content_id: str) -> Content:
        """The size of a content and the number of its chunks. Raises ArtifactNotFound."""
        ...

    async def read_chunk(self, content_id: str, n: int) -> bytes:
        """Chunk `n` of a content, verified. Raises ArtifactNotFound, StoreCorrupt."""
        ...

    async def sweep_artifacts(self, limit: int) -> int:
        """Delete contents that nothing refers to, at most `limit` chunks of them; returns how many rows are gone."""
        ...


class Parts(Protocol):
    """What the parts keep when they are used alone, for an `owner` that is no run."""

    async def save_state_of(self, owner: str, state: bytes, expected: int | None) -> int:
        """Save a state and return its version, which only rises. Raises PayloadTooLarge, and Conflict, with nothing
        changed, when the version there is not the expected one (0: nothing is there; None: whatever is)."""
        ...

    async def load_state_of(self, owner: str) -> OwnedState:
        """The state, verified. Raises StateNotFound, StoreCorrupt."""
        ...

    async def delete_state_of(self, owner: str) -> None:
        """Delete the state; its versions go on counting. Raises StateNotFound."""
        ...

    async def save_checkpoint_of(self, owner: str, state: bytes, name: str | None, keep: int) -> int:
        """Save a checkpoint and return its number: above all that were ever given to this owner. The newest `keep`
        unnamed ones stay, and every named one. Raises PayloadTooLarge."""
        ...

    async def list_checkpoints_of(self, owner: str) -> list[Checkpoint]:
        """The stored checkpoints, oldest first, each verified (`good`), without state."""
        ...

    async def load_checkpoint_of(
        self, owner: str, n: int | None = None, name: str | None = None
    ) -> tuple[Checkpoint, tuple[int, ...]]:
        """Checkpoint `n` with its state; None: the newest good one (of this name), and the bad ones passed over.

        Raises CheckpointNotFound, StoreCorrupt.
        """
        ...

    async def delete_checkpoint_of(self, owner: str, n: int) -> None:
        """Delete a checkpoint. Raises CheckpointNotFound."""
        ...

    async def save_progress_of(self, owner: str, report: Progress) -> None:
        """Record a report as of now; the start of its phase is carried over (`rules.progress.merge`)."""
        ...

    async def get_progress_of(self, owner: str) -> OwnedProgress:
        """The newest report, and how many there were. Raises ProgressNotFound."""
        ...

    async def delete_progress_of(self, owner: str) -> None:
        """Delete the progress. Raises ProgressNotFound."""
        ...


class Schedules(Protocol):
    """Schedules, their fires, and the one operation that starts runs by time."""

    async def put_schedule(self, new: NewSchedule) -> ScheduleRecord:
        """Add a schedule, or make the one of this name be so; its trigger unchanged, it goes on where it was.

        Idempotent. Raises UsageError (a zone, interval or priority that cannot be), PayloadTooLarge, and Refused for
        schedules that would start each other for ever.
        """
        ...

    async def get_schedule(self, name: str) -> ScheduleRecord:
        """The schedule. Raises ScheduleNotFound."""
        ...

    async def list_schedules(self) -> list[ScheduleRecord]:
        """All schedules, by name."""
        ...

    async def list_fires(self, name: str, limit: int) -> list[Fire]:
        """The newest fires of a schedule, newest first; the newest 1,000 and every waiting or unfinished one are
        kept. Raises ScheduleNotFound."""
        ...

    async def get_fire(self, run_id: str) -> Fire | None:
        """The fire that a run is of; None for a run of no schedule."""
        ...

    async def pause_schedule(self, name: str) -> ScheduleRecord:
        """Fire nothing until it is resumed. Idempotent. Raises ScheduleNotFound."""
        ...

    async def resume_schedule(self, name: str) -> ScheduleRecord:
        """Go on; what became due meanwhile is made up for as the schedule says. Idempotent. Raises ScheduleNotFound."""
        ...

    async def remove_schedule(self, name: str) -> None:
        """Forget the schedule, its fires and what waits for its turn; its runs stay. Raises ScheduleNotFound."""
        ...

    async def run_schedule_now(self, name: str) -> Fire:
        """Start a run of the schedule at once, beside all others. Raises ScheduleNotFound."""
        ...

    async def backfill_schedule(self, name: str, since_us: int, until_us: int) -> list[Fire]:
        """Queue a fire for each due time of a past window, both ends included, that has no run and waits for none;
        returns those. Idempotent. Raises ScheduleNotFound, and Refused for more than 1,000."""
        ...

    async def fire_schedules(self, limit: int) -> Fired:
        """Meet the due times that passed, of at most `limit` schedules: runs, fires, cancelled runs and the next due
        times appear together. Any number of callers are exact: each due time is met once."""
        ...


class Hints(Protocol):
    """What makes loops quick, never right."""

    async def wait_for_news(self, timeout_s: float) -> None:
        """Return when something may have changed, or after the time-out. A hint: may be late, early or missing."""
        ...


class Store(
    Lifecycle,
    Runs,
    Attempts,
    Inbox,
    Approvals,
    Children,
    Rates,
    Budgets,
    Feed,
    Rehearsals,
    Workers,
    Samples,
    Wishes,
    Schedules,
    Steps,
    Artifacts,
    Parts,
    Moving,
    Hints,
    Protocol,
):
    """Durable memory behind one protocol: the only state that parts of holdfast share."""
