"""Every error a caller can meet, and the signals that unwind an attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.model import Failure


class HoldfastError(Exception):
    """The base of every error of holdfast's own. The message says what, which run, and the way out."""


# --- what a caller asked for cannot be done -----------------------------------------------------------------


class NotFound(HoldfastError):
    """There is no such thing in this store."""


class RunNotFound(NotFound):
    """No run has this id."""


class AgentNotFound(NotFound):
    """No such agent: the file, the module or the name in it does not exist."""


class CheckpointNotFound(NotFound):
    """The run, or the owner of checkpoints used alone, has no such checkpoint."""


class ArtifactNotFound(NotFound):
    """The run has no such artifact."""


class StateNotFound(NotFound):
    """Nothing is saved under this id: see `State`."""


class ProgressNotFound(NotFound):
    """No progress was reported under this id: see `Progress`."""


class ProcessNotFound(NotFound):
    """No process has this number, or it has ended."""


class ScheduleNotFound(NotFound):
    """No schedule has this name."""


class ApprovalNotFound(NotFound):
    """The run asks no such question."""


class Refused(HoldfastError):
    """The thing exists, but what was asked does not fit its present state."""


class Conflict(Refused):
    """The id is taken by a run with another agent or another input."""


class InvalidTransition(Refused):
    """The state table has no such move from the state the run is in."""


class UsageError(HoldfastError):
    """A call of the API that can never work: bad arguments, or agent code that breaks a rule of the Context."""


class NotSerializable(UsageError):
    """A value cannot be recorded, or does not survive being recorded and read again."""


class PayloadTooLarge(NotSerializable):
    """A value is over the hard limit of one payload."""


class InvalidInput(UsageError):
    """An input does not fit the agent's parameters."""


class InvalidExport(UsageError):
    """A file of exported runs is cut, damaged, of a newer format, or no such file."""


# --- the store ----------------------------------------------------------------------------------------------


class StoreError(HoldfastError):
    """The store cannot serve."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or opened: missing folder, no permission, busy, I/O error."""


class StoreFull(StoreUnavailable):
    """The disk under the store is full. What was acknowledged is kept; writing goes on when there is room."""


class StoreGone(StoreError):
    """The store was deleted or replaced while in use: nothing more can be kept in it, and waiting does not help."""


class StoreRefused(StoreError):
    """This store must not be used: a network file system, a schema newer than the code, a faulty library."""


class StoreCorrupt(StoreError):
    """What the store returned fails its checksum or its shape."""


class LeaseLost(HoldfastError):
    """The attempt is fenced out: a newer token exists, or the run left `running`. Nothing was recorded."""


# --- what happened to a run ---------------------------------------------------------------------------------


class RunFailed(HoldfastError):
    """The run ended as `failed`. `failure` carries the class, the message and the cause."""

    def __init__(self, run_id: str, failure: Failure) -> None:
        super().__init__(f"run {run_id} failed: {failure.summary()}")
        self.run_id = run_id
        self.failure = failure


class RunCancelled(HoldfastError):
    """The run ended as `cancelled`."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} was cancelled")
        self.run_id = run_id


# --- what agent code meets ----------------------------------------------------------------------------------


class StepFailed(HoldfastError):
    """A step ended without a result, after its retries. Raised the same, live and replayed.

    `kind` is one of the values of `model.FailureKind`; `entry` is the position of the recorded failure.
    """

    def __init__(self, failure: Failure, *, step: str, entry: int) -> None:
        super().__init__(f"step {step!r} failed: {failure.summary()}")
        self.failure = failure
        self.step = step
        self.entry = entry

    @property
    def kind(self) -> str:
        """The class of the failure: transient, fatal, timed_out …"""
        return str(self.failure.kind)

    @property
    def message(self) -> str:
        """The message of the error that the step raised last."""
        return self.failure.message


class ChildFailed(StepFailed):
    """A child ended without a result: it failed, was cancelled, or its id was taken. `child` is its id.

    `failure.cause` is the child's own failure; `kind` is its class, "cancelled" for a cancelled child.
    """

    def __init__(self, failure: Failure, *, child: str, step: str, entry: int) -> None:
        super().__init__(failure, step=step, entry=entry)
        self.args = (failure.message,)
        self.child = child


class WaitTimedOut(HoldfastError, TimeoutError):
    """`ctx.wait_for(..., timeout=)` ended without the signal. Recorded, so a replay raises it again.

    `entry` is the position of the record; a retry of a run that ended by it waits anew.
    """

    def __init__(self, message: str, *, entry: int) -> None:
        super().__init__(message)
        self.entry = entry


class ApprovalExpired(WaitTimedOut):
    """`ctx.approval(..., expires=)` ended without an answer. Recorded, so a replay raises it again.

    `entry` is the position of the entry that asked; a retry of a run that ended by it asks anew.
    """


class TransientError(Exception):
    """Raise it (or a subclass) to say: try again. `retry_after_s` overrides the backoff when it is longer."""

    def __init__(self, *args: object, retry_after_s: float | None = None) -> None:
        super().__init__(*args)
        self.retry_after_s = retry_after_s


class FatalError(Exception):
    """Raise it (or a subclass) to say: never try again."""


class CheckpointError(HoldfastError):
    """A checkpoint cannot be used: it is corrupt, or its state does not fit the type that `restore` was given."""


class RetriesExhausted(HoldfastError):
    """Every permitted try failed. `failure` is the last one."""

    def __init__(self, message: str, failure: Failure) -> None:
        super().__init__(message)
        self.failure = failure


class JournalMismatch(HoldfastError):
    """The code asked for something else than what is recorded next. The run is held; both sides are named."""


class ProtocolError(HoldfastError):
    """The other side of the socket between a worker and the process of a run sent what it cannot have meant."""


class WorkerStuck(HoldfastError):
    """A worker must be replaced: code of a run does not listen and cannot be killed inside this process."""


class Unwind(BaseException):
    """Leaves an attempt whose ending is already decided. Never an error: let it pass.

    It derives from BaseException so that `except Exception` in agent code does not swallow it, and it does not
    decide anything by itself: the attempt's own record says how it ended.
    """


class Parked(Unwind):
    """The run waits and is unloaded; `finally` blocks run now, the code is entered again later."""


class Cancelled(Unwind):
    """The run was cancelled."""


class Fenced(Unwind):
    """Another attempt owns the run now; nothing this one does is recorded."""
