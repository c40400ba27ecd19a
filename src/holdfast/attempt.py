"""One attempt of a run, from claim to settlement: open → call → judge → settle.

The attempt's own record decides how it ended, whatever exception arrives or is swallowed: agent code may catch an
Unwind, wrap it in a group, or return in its face.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from holdfast import codec
from holdfast.agents import Agent
from holdfast.capture import LogLine, current_log_sink, tell_dropped
from holdfast.context import Context
from holdfast.ending import Ending, Lost
from holdfast.errors import FatalError, HoldfastError, StepFailed, Unwind, WaitTimedOut
from holdfast.execution import Execution
from holdfast.failures import failure_of, recorded_failures, refused, user_frames
from holdfast.model import (
    Beside,
    Claim,
    Failed,
    Failure,
    FailureKind,
    Hold,
    NewCheckpoint,
    Note,
    Outcome,
    Reason,
    Release,
    Retry,
    Succeeded,
)
from holdfast.port import Port
from holdfast.recording import Recording
from holdfast.rules import retry as retry_rules
from holdfast.rules.journal import Cursor
from holdfast.threads import ThreadCall

current_run: ContextVar[str | None] = ContextVar("holdfast_run", default=None)
"""The id of the run whose code runs now."""


class AttemptPort(Port, Protocol):
    """The port with the one door that only the attempt itself uses."""

    async def settle(
        self, outcome: Outcome, checkpoint: NewCheckpoint | None, beside: tuple[Beside, ...] = ()
    ) -> bool:
        """Make the end of the attempt durable, with what is beside it; False when it was fenced out."""
        ...


class Attempt:
    """One worker's tenure of a run. `execute` is the whole road; the other methods reach in from outside."""

    def __init__(
        self,
        claim: Claim,
        agent: Agent[Any, Any],
        port: AttemptPort,
        chance: Callable[[], float],
        *,
        recording: Recording | None = None,
    ) -> None:
        """`recording` replaces the one that records: a rehearsal has one that only answers."""
        self.claim = claim
        self.settled = False
        self._agent = agent
        self._port = port
        self._chance = chance
        self._recording = recording or Recording(port, Cursor(claim.journal))
        self._execution = Execution(port, self._recording, chance, agent.prices)
        self._task: asyncio.Task[object] | None = None

    @property
    def stray_threads(self) -> list[ThreadCall]:
        """Threads of sync steps that were left behind and still run."""
        return [call for call in self._execution.stray if call.alive]

    @property
    def stuck(self) -> bool:
        """Whether it ended because a sync step outlived its timeout and the grace: it may not be tried again here."""
        ending = self._recording.end.decided
        return isinstance(ending, Release) and ending.reason is Reason.STUCK

    @property
    def running(self) -> bool:
        """Whether agent code still runs."""
        return self._task is not None and not self._task.done()

    @property
    def ending(self) -> Ending | None:
        """How it ended, or ends; None while nothing is decided."""
        return self._recording.end.decided

    async def execute(self) -> None:
        """Open, call, judge, settle."""
        opened = self._open()
        ending = self._judge(await self._call(opened)) if isinstance(opened, tuple) else opened
        await self.settle(ending)

    def interrupt(self, ending: Ending) -> None:
        """End the attempt now: decide how, and cancel what the code awaits. Repeat it for code that swallows it."""
        self._recording.end.decide(ending)
        for task in (*self._execution.background, self._task):
            if task is not None and not task.done():
                task.cancel()

    def kill(self) -> bool:
        """End code that does not listen: false, for inside this process it can only be asked."""
        return False

    kill_as_asked = kill

    def hold(self, held: bool) -> bool:
        """Hold its processes back: false, for it has none of its own."""
        return False

    async def settle(self, ending: Ending) -> None:
        """Make the ending durable, once; a lost run settles nothing."""
        if self.settled:
            return
        self.settled = True
        self._recording.end.decide(ending)
        if not isinstance(ending, Lost):
            keep_state = isinstance(ending, Failed | Retry | Hold)
            # Code that does not fit the journal, or has none, gives nothing up.
            beside = () if isinstance(ending, Hold) else self._recording.scopes.cancellations()
            state = self._recording.unsaved if keep_state else None
            if not await self._port.settle(ending, state, (*beside, *self._execution.rest())):
                self._recording.end.decide(Lost(cancelled=False, message="its end could not be recorded"))

    # --- the stages -----------------------------------------------------------------------------------------

    def _open(self) -> tuple[object, ...] | Ending:
        """Decode the input, or say why the attempt cannot begin."""
        journal = self.claim.journal
        if journal.lost:
            bad = ", ".join(str(n) for n in journal.corrupt)
            message = (
                f"no checkpoint is good (corrupt: {bad}), and the journal does not reach back to the start"
            )
            failure = Failure(kind=FailureKind.CHECKPOINT, type="CheckpointError", message=message)
            return Hold(reason=Reason.CHECKPOINT_LOST, failure=failure)
        try:
            return codec.decode_input(self._agent.fn, self.claim.input)
        except HoldfastError as error:
            return Failed(failure=refused(error))

    async def _call(self, args: tuple[object, ...]) -> object:
        """Call the agent in a task of its own; return what it returned, or the exception it raised."""
        context = Context(self._port, self._agent, self._recording, self._execution)
        scene = contextvars.copy_context()
        scene.run(current_run.set, self.claim.run.id)
        scene.run(current_log_sink.set, self._log)
        coroutine = _staying(self._agent.fn, context, args)
        self._task = asyncio.get_running_loop().create_task(
            coroutine, name=f"run {self.claim.run.id}", context=scene
        )
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task.add_done_callback(partial(_read, over))
        if self._recording.end.decided is not None:
            self._task.cancel()
        try:
            await over  # asyncio.wait does the same, at three times the cost
        except asyncio.CancelledError:  # nobody waits for the code any more; it must record nothing
            self.interrupt(Lost(cancelled=False, message="the worker has gone"))
            raise
        for task in self._execution.background:  # nobody awaits them any more
            task.cancel()
        tell_dropped(self._log)
        return _result(self._task)

    def _judge(self, result: object) -> Ending:
        """How the attempt ends: by its own record first, then by what the agent returned or raised."""
        recording = self._recording
        if recording.end.decided is None and not isinstance(result, BaseException):
            result = self._finished(result)
        if recording.end.decided is not None:
            return recording.end.decided
        if isinstance(result, BaseException):
            return self._failed(result)
        assert isinstance(result, Succeeded)
        return result

    def _finished(self, result: object) -> object:
        """The agent returned: nothing may be left over, and its result must be recordable."""
        try:
            self._recording.finish()
            return Succeeded(
                result=codec.Shape.of(self._agent.fn, f"the result of agent {self._agent.name!r}").recode(
                    result
                )[0]
            )
        except (HoldfastError, Unwind) as error:
            return error

    def _failed(self, error: BaseException) -> Ending:
        """Another attempt by the agent's policy, or the end. A step's failure had its retries already."""
        failures = recorded_failures(error)
        failure = self._failure(error, failures)
        if not failures:
            tries = self.claim.run.failures + 1
            delay_s = retry_rules.next_delay_s(self._agent.retry, failure, tries, self._chance())
            if delay_s is not None:
                return Retry(failure=failure, delay_us=round(delay_s * 1e6))
            if tries > 1:
                failure = retry_rules.exhausted(f"run {self.claim.run.id}", failure, tries)
        return Failed(failure=failure)

    def _failure(self, error: BaseException, failures: tuple[StepFailed | WaitTimedOut, ...]) -> Failure:
        entries = tuple(failed.entry for failed in failures if failed.entry)
        if isinstance(error, StepFailed):
            return replace(error.failure, entries=entries)
        if isinstance(error, asyncio.CancelledError):
            message = "the agent raised CancelledError, though nobody cancelled it"
            return Failure(
                kind=FailureKind.FATAL, type="CancelledError", message=message, frames=user_frames(error)
            )
        return replace(failure_of(error, self._agent.retry), entries=entries)

    def _log(self, line: LogLine) -> None:
        """A log line of the run's code; those of a replay were recorded the first time."""
        if not self._recording.silent:
            shown = {"level": line.level, "logger": line.logger, "message": line.message, "at_us": line.at_us}
            self._port.note(Note("log", codec.encode(shown, what="a log line")))


async def _staying(
    fn: Callable[..., Awaitable[object]], context: Context, args: tuple[object, ...]
) -> object:
    """What the agent returns. Its sys.exit() ends the run, not the process with everybody's runs in it."""
    try:
        return await fn(context, *args)
    except SystemExit as error:
        raise FatalError(f"the agent called sys.exit({error.code!r}): return, or raise an error") from error


def _result(task: asyncio.Task[object]) -> object:
    if task.cancelled():
        return asyncio.CancelledError()
    return task.exception() or task.result()


def _read(over: asyncio.Future[None], task: asyncio.Task[object]) -> None:
    """The code has ended. Take note of an error that nobody may be left to read."""
    if not over.done():
        over.set_result(None)
    if not task.cancelled():
        task.exception()
