"""What agent code holds: steps, checkpoints, waits, progress, and time and chance that replay the same.

Laws:
1. The synchronous part of a call takes its identity and opens it; it is open until its outcome is delivered.
2. Every call that code goes past leaves an entry: a result, a failure, or "abandoned".
3. What a step returns is always the decoded recording, the first time too.
4. Once the ending of the attempt is decided, every call raises an Unwind, and nothing more is recorded.
"""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, TypeVarTuple, Unpack, cast, overload

from holdfast import codec, workspace
from holdfast.agents import Agent, AnyAgent
from holdfast.approvals import APPROVE_OR_REJECT, Approval, Approvals, Choice, question_of
from holdfast.artifacts import Artifacts, source_of
from holdfast.calls import Body, Step, StepOptions, check_options, plain_step, spec_of, step_of
from holdfast.children import ChildHandle, ChildOptions, Children
from holdfast.duration import Duration, micros
from holdfast.errors import CheckpointError, NotSerializable, StepFailed, UsageError
from holdfast.execution import Execution
from holdfast.groups import DEFAULT_LIMIT, Groups, keys_of
from holdfast.model import Artifact, EntryKind
from holdfast.port import Port
from holdfast.recording import Recording, current_scope
from holdfast.rules.artifacts import check_name
from holdfast.rules.progress import reported
from holdfast.rules.waits import check_signal
from holdfast.waits import Waits

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
T = TypeVar("T")


class Context:
    """The one object agent code holds. Made by the attempt; its first argument to the agent."""

    __slots__ = (
        "_agent",
        "_approvals",
        "_artifacts",
        "_chance",
        "_children",
        "_execution",
        "_groups",
        "_port",
        "_recording",
        "_restored",
        "_waits",
    )

    def __init__(
        self, port: Port, agent: Agent[Any, Any], recording: Recording, execution: Execution
    ) -> None:
        self._port = port
        self._agent = agent
        self._recording = recording
        self._execution = execution
        self._artifacts = Artifacts(port, recording, execution)
        self._groups = Groups(recording)
        self._waits = Waits(port, recording)
        self._approvals = Approvals(port, recording, self._waits)
        self._children = Children(port, recording, self._waits)
        self._restored = False
        self._chance: dict[str, tuple[tuple[int, str, int], random.Random]] = {}

    # --- who am I -------------------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self._port.run.id

    @property
    def attempt(self) -> int:
        """Which attempt of the run this is, from 1. It differs between replays: never decide by it."""
        return self._port.run.attempts

    @property
    def workspace(self) -> Path:
        """The run's own folder, made when it is first asked for (0700), the same for every attempt: what is written
        there survives a crash of the code, and is removed with the run. A child has its own.

        It is a folder of one machine, and what is in it is not recorded: a step that was under way at a crash has left
        its files half written, and another machine begins with an empty one. What was promised to somebody belongs
        into a checkpoint or an artifact. Give steps names, not whole paths: arguments are checked on replay, and a
        store may move. Raises UsageError when the store keeps none, TransientError when it cannot be made.
        """
        return workspace.made(self._port.workspace)

    # --- steps ----------------------------------------------------------------------------------------------

    @overload
    def step(
        self,
        fn: Callable[[*Ts], Awaitable[R]],
        *args: *Ts,
        key: str | None = None,
        **options: Unpack[StepOptions],
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def step(
        self,
        fn: Callable[[*Ts], R],
        *args: *Ts,
        key: str | None = None,
        **options: Unpack[StepOptions],
    ) -> Coroutine[Any, Any, R]: ...

    def step(
        self,
        fn: Callable[..., object],
        *args: object,
        key: str | None = None,
        **options: Unpack[StepOptions],
    ) -> Coroutine[Any, Any, Any]:
        """Execute `fn(*args)` once and record its outcome; a resumed run gets the recorded one back at once.

        `fn` is async, or sync (then it runs in a thread). Returns the result, decoded into the return annotation of
        `fn` (none: JSON types), when it is durable. `name` is the function's name unless given; `key` tells calls
        of one name apart and replaces their number; `timeout` is per try; `retry` replaces the agent's policy;
        `version` and the arguments are checked on replay unless `check=False`; each try waits for its turn under
        `rate`, which all workers share (a run that waits long is unloaded). Under a budget, `cost` is what each try
        may use up at most, reserved before it begins and settled by `step_context.used` or the usage that the result
        carries. A `tool` is counted as one and watched for loops (`ctx.nudge`), unless it is a `poll`.

        The body may run again after a crash, so it must be repeatable; with `effect="once"` it never does blindly:
        when nobody knows whether it happened, `verify(*args)` says so (Done, NotDone, GivenUp), else a person is
        asked, and it is tried again only after a TransientError, which says that nothing was done. Raises StepFailed,
        live and replayed alike; NotSerializable shows as a fatal StepFailed; UsageError when the call breaks a rule.
        """
        if options:
            check_options("ctx.step", options)
            return self._take(step_of(fn, **options), args, key)
        return self._take(plain_step(fn), args, key)

    def _take(self, step: Step, args: tuple[object, ...], key: str | None) -> Coroutine[Any, Any, Any]:
        fingerprint = codec.fingerprint(args, step.version) if step.check else b""
        call = self._recording.begin(EntryKind.STEP, step.name, key, fingerprint)
        call.args = args
        return call.start(self._execution.step(call, step.body, step.retry or self._agent.retry))

    @overload
    def once(self, key: str, fn: Callable[[*Ts], Awaitable[R]], *args: *Ts) -> Coroutine[Any, Any, R]: ...

    @overload
    def once(self, key: str, fn: Callable[[*Ts], R], *args: *Ts) -> Coroutine[Any, Any, R]: ...

    def once(self, key: str, fn: Callable[..., object], *args: object) -> Coroutine[Any, Any, Any]:
        """Execute `fn(*args)` once in the life of the run and remember its result under `key`.

        Unlike a step it stands outside scopes, order and segments: it may move, and is found again after any
        checkpoint (one indexed read). At most 10,000 per run; two callers of one key share one execution. The body
        may run again after a crash between it and its record.
        """
        spec = spec_of(fn)
        return self._execution.once(key, Body(fn, spec.shape, spec.is_async), args, self._agent.retry)

    @property
    def nudge(self) -> str | None:
        """What to tell the model when its newest tool calls go round in a loop (or it says the same again and again);
        None while they do not. The same on every replay; a loop that goes on parks the run, for the reason `loop`."""
        return self._execution.loops.nudge

    # --- concurrency ----------------------------------------------------------------------------------------

    @overload
    def map(
        self,
        fn: Agent[T, R],
        items: Iterable[T],
        *,
        key: Callable[[T], object] | None = None,
        limit: int = DEFAULT_LIMIT,
        return_failures: Literal[False] = False,
    ) -> Coroutine[Any, Any, list[R]]: ...

    @overload
    def map(
        self,
        fn: Agent[T, R],
        items: Iterable[T],
        *,
        key: Callable[[T], object] | None = None,
        limit: int = DEFAULT_LIMIT,
        return_failures: Literal[True],
    ) -> Coroutine[Any, Any, list[R | StepFailed]]: ...

    @overload
    def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T],
        *,
        key: Callable[[T], object] | None = None,
        limit: int = DEFAULT_LIMIT,
        return_failures: Literal[False] = False,
        **options: Unpack[StepOptions],
    ) -> Coroutine[Any, Any, list[R]]: ...

    @overload
    def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T],
        *,
        key: Callable[[T], object] | None = None,
        limit: int = DEFAULT_LIMIT,
        return_failures: Literal[True],
        **options: Unpack[StepOptions],
    ) -> Coroutine[Any, Any, list[R | StepFailed]]: ...

    @overload
    def map(
        self,
        fn: Callable[[T], R],
        items: Iterable[T],
        *,
        key: Callable[[T], object] | None = None,
        limit: int = DEFAULT_LIMIT,
        return_failures: Literal[False] = False,
        **options: Unpack[StepOptions],
    ) -> Coroutine[Any, Any, list[R]]: ...

    @overload
    def map(
        self,
        fn: Callable[[T], R],
        items: Iterable[T],
        *,
        key: Callable[[T], object] | None = None,
        limit: int = DEFAULT_LIMIT,
        return_failures: Literal[True],
        **options: Unpack[StepOptions],
    ) -> Coroutine[Any, Any, list[R | StepFailed]]: ...

    def map(
        self,
        fn: Callable[[Any], object] | Agent[Any, Any],
        items: Iterable[Any],
        *,
        key: Callable[[Any], object] | None = None,
        limit: int = DEFAULT_LIMIT,
        return_failures: bool = False,
        **options: Unpack[StepOptions],
    ) -> Coroutine[Any, Any, list[Any]]:
        """A step `fn(item)` for each item, at most `limit` at a time; the results in the order of the items. Of an
        agent: a `ctx.call` for each.

        `key` names an item, so that a resume finds its outcome wherever it stands (none: its number in the list);
        the other options are those of a step. The first StepFailed ends the others and is raised, unless
        `return_failures` puts failures among the results. A resume does only what is not recorded. A recorded key
        that the items lack holds the run: it is a mismatch.
        """
        if limit < 1:
            raise UsageError(f"the limit of ctx.map must be 1 or more, not {limit}")
        things = list(items)
        check_options("ctx.map", options)
        step: Step | None = None
        if not isinstance(fn, Agent):
            step = step_of(fn, **options)
            named = step.name
        elif options:
            raise UsageError(f"ctx.map of agent {fn.name!r} takes no options of steps: {', '.join(options)}")
        else:
            named = fn.name
        call = self._groups.open(f"map {named}", None)

        def body(number: int) -> Coroutine[Any, Any, Any]:
            if step is not None:
                return self._take(step, (things[number],), None)
            return self._children.call(cast("AnyAgent", fn), (things[number],), None, {})

        keys = keys_of(things, key)
        calls = 1 if step is not None else 2  # its start, and its end
        return call.start(self._groups.map(call, keys, body, limit, return_failures, calls))

    def race(
        self, bodies: Mapping[str, Callable[[], Awaitable[R]]], *, name: str = "race", key: str | None = None
    ) -> Coroutine[Any, Any, tuple[str, R]]:
        """Run async functions of ctx calls beside each other; the key and the result of the first that returns.

        The winner is recorded, decoded into its return annotation, and the others are cancelled; a resume does not
        enter them again. A body that raises StepFailed is out; when all are, the last failure is raised.
        """
        if not bodies:
            raise UsageError("ctx.race needs at least one body: {'name': function, ...}")
        shapes = {one: spec_of(body).shape for one, body in bodies.items()}
        call = self._groups.open(name, key)
        return call.start(self._groups.race(call, bodies, shapes))

    def branch(self, key: str) -> AbstractAsyncContextManager[None]:
        """`async with ctx.branch(key):` a scope of its own for the calls inside, in a task of the code's own making.

        For code with several ctx calls per branch, under an asyncio.TaskGroup. The key is unique in its scope until
        the next checkpoint. Inside, await only ctx calls where you can: what else is awaited is not recorded.
        """
        return self._groups.branch(key)

    # --- children -------------------------------------------------------------------------------------------

    def call(
        self,
        agent: Agent[*Ts, R],
        *args: *Ts,
        key: str | None = None,
        **options: Unpack[ChildOptions],
    ) -> Coroutine[Any, Any, R]:
        """Start a run of `agent` as a child of this one and return its result, decoded into its return type.

        The child is queued in the transaction that records its start, exactly once; whatever worker serves its agent
        executes it, and this run is unloaded meanwhile. Raises ChildFailed when it fails, is cancelled, or its `id` is
        taken, live and replayed alike. A call that the code cancels (a lost race, a timeout) cancels the child, and so
        does the end of this run unless `on_parent_end="leave"`.
        """
        return cast("Coroutine[Any, Any, R]", self._children.call(agent, args, key, options))

    def start(
        self,
        agent: Agent[*Ts, R],
        *args: *Ts,
        key: str | None = None,
        **options: Unpack[ChildOptions],
    ) -> Coroutine[Any, Any, ChildHandle[R]]:
        """Start a run of `agent` as a child of this one and go on; `await handle.result()` waits for it.

        Options as for `ctx.call`. A handle that must outlive a checkpoint is kept in the state by its `id`.
        """
        return self._children.start(agent, args, key, options)

    def child(self, agent: Agent[*Ts, R], id: str) -> ChildHandle[R]:
        """The handle on a child that this run started before, by its id; asks nothing of the store."""
        return self._children.handle(cast("AnyAgent", agent), id)

    # --- state ----------------------------------------------------------------------------------------------

    def restore(self, kind: type[T], default: T | None = None) -> T:
        """Return the state of the newest good checkpoint, or `default` (or `kind()`) when there is none.

        The line between setup and segments: calls above it are recorded for the run's whole life, and every resume
        continues from here. Call it once, at the root. Raises CheckpointError when the stored state does not fit
        `kind` (the state is kept: fix the type, then `holdfast retry`), UsageError when called twice or in a branch.
        """
        recording = self._recording
        recording.at_root("restore")
        if self._restored:
            raise UsageError("ctx.restore was called twice; there is one line between setup and segments")
        recording.enter_segments()
        self._restored = True
        checkpoint = self._port.journal.checkpoint
        if checkpoint is not None and checkpoint.state is not None:
            return _state(checkpoint.state, checkpoint.n, kind)
        if default is not None:
            return default
        try:
            return kind()
        except TypeError as error:
            raise UsageError(
                f"there is no checkpoint yet and {kind.__name__}() needs arguments: "
                f"give the state to begin with, ctx.restore({kind.__name__}, default=…)"
            ) from error

    def checkpoint(
        self, state: object, force: bool = False, name: str | None = None
    ) -> Coroutine[Any, Any, None]:
        """A safe point: the state is encoded now and saved when due, when `force`d or `name`d, or when asked to end.

        When it is not saved nothing is lost, for the steps since the last one are recorded; saving only makes a
        resume quicker and the journal shorter. The newest `keep` checkpoints stay, and every named one. A pause, a
        drain and a park end the attempt here. Raises UsageError without a `restore` before it, in a branch, or with
        a call open; NotSerializable when `state` cannot be recorded.
        """
        self._recording.at_root("checkpoint")
        if not self._restored:
            raise UsageError(
                "ctx.checkpoint without ctx.restore before it: nothing would read it. "
                "Begin with `s = ctx.restore(State)`"
            )
        data = codec.encode(state, what="the state given to ctx.checkpoint")
        return self._recording.checkpoint(data, force, name, self._agent.checkpoint, self._agent.keep)

    # --- waits ----------------------------------------------------------------------------------------------

    def sleep(self, duration: Duration, *, key: str | None = None) -> Coroutine[Any, Any, None]:
        """Sleep durably: the wake time is recorded, and a run that sleeps longer than a second is unloaded."""
        call = self._recording.begin(EntryKind.TIMER, "sleep", key, b"")
        return call.start(self._waits.sleep(call, micros(duration)))

    @overload
    def wait_for(
        self, signal: str, *, timeout: Duration | None = None, key: str | None = None
    ) -> Coroutine[Any, Any, object]: ...

    @overload
    def wait_for(
        self, signal: str, kind: type[T], *, timeout: Duration | None = None, key: str | None = None
    ) -> Coroutine[Any, Any, T]: ...

    def wait_for(
        self,
        signal: str,
        kind: type[object] | None = None,
        *,
        timeout: Duration | None = None,
        key: str | None = None,
    ) -> Coroutine[Any, Any, object]:
        """Wait for a signal of this name and return what was sent with it, decoded into `kind`.

        Signals sent earlier count; each is consumed once, oldest first. A run that waits is unloaded. Raises
        WaitTimedOut after `timeout`, counted from the first call; that too is recorded.
        """
        check_signal(signal)
        until = None if timeout is None else micros(timeout)
        call = self._waits.open(signal, key, timed=until is not None)
        return call.start(self._waits.wait_for(call, until or 0, kind))

    @overload
    def approval(
        self,
        question: str,
        *,
        expires: Duration | None = None,
        default: Literal["approve", "reject"] | None = None,
        escalate: Duration | None = None,
        escalate_to: str | None = None,
        context: object = None,
        key: str | None = None,
    ) -> Coroutine[Any, Any, Approval[Literal["approve", "reject"]]]: ...

    @overload
    def approval(
        self,
        question: str,
        options: Sequence[Choice],
        *,
        expires: Duration | None = None,
        default: Choice | None = None,
        escalate: Duration | None = None,
        escalate_to: str | None = None,
        context: object = None,
        key: str | None = None,
    ) -> Coroutine[Any, Any, Approval[Choice]]: ...

    def approval(
        self,
        question: str,
        options: Sequence[str] = APPROVE_OR_REJECT,
        *,
        expires: Duration | None = None,
        default: str | None = None,
        escalate: Duration | None = None,
        escalate_to: str | None = None,
        context: object = None,
        key: str | None = None,
    ) -> Coroutine[Any, Any, Approval[Any]]:
        """Ask a person, and wait for the option that they choose; the run is unloaded meanwhile.

        `context` is shown beside the question: JSON, at most 64 KiB. An answer binds to the question, its options and
        its context: changed code that asks something else does not get it. After `expires` the `default` counts, and
        without one ApprovalExpired is raised; that is recorded, too. After `escalate` the question is shown as overdue,
        to `escalate_to`. Both are counted from the asking on.
        """
        asked = question_of(
            question,
            options,
            context,
            default=default,
            expires=expires,
            escalate=escalate,
            escalate_to=escalate_to,
        )
        asking, call = self._approvals.open(asked, key)
        return call.start(self._approvals.approval(call, asking, asked))

    # --- artifacts ------------------------------------------------------------------------------------------

    def artifact(
        self, name: str, content: bytes | str | os.PathLike[str], *, key: str | None = None
    ) -> Coroutine[Any, Any, Artifact]:
        """Keep bytes, or the file at a path, for as long as the run is kept; return what it is known by.

        The content is read once, in chunks, and stored by its hash: the same content takes its place once, whatever
        runs made it. `name` is a label, never a path. A replay answers from the entry and reads nothing: the content is
        not compared with the recorded one. Raises StepFailed, after the agent's retries, when the file is not there,
        is none, or does not stand still while it is read.
        """
        source = source_of(content)
        call = self._recording.begin(EntryKind.ARTIFACT, check_name(name), key, b"")
        return call.start(self._artifacts.keep(call, name, source, self._agent.retry))

    # --- progress -------------------------------------------------------------------------------------------

    def progress(
        self, current: float, total: float | None = None, description: str = "", phase: str | None = None
    ) -> None:
        """Say how far the run is. `total` may be 0 (nothing to do) or None (unknown). Safe from any thread, silent
        while replaying; of several within 50 ms the newest wins."""
        report = reported("ctx.progress", current, total, description, phase)
        if not self._recording.silent:
            self._port.report(report)

    @property
    def pressure(self) -> str:
        """How near the run is to its limits, or its worker to those of the machine: "ok", "warning" or "critical". At a
        warning do less at a time. It is what is seen now, not what was seen the first time: decide nothing by it that
        a replay has to decide the same."""
        return self._port.pressure.value

    # --- time and chance ------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The time of the last outcome delivered in this scope (before any: of the run's start), in UTC. The same
        on every replay."""
        return datetime.fromtimestamp(self._recording.scopes.now_us(current_scope.get()) / 1e6, UTC)

    @property
    def random(self) -> random.Random:
        """Chance, seeded by the run and this moment in it: the same on every replay."""
        moment = self._recording.scopes.moment(current_scope.get())
        scope = moment[1]
        kept = self._chance.get(scope)
        if kept is None or kept[0] != moment:
            kept = (moment, random.Random(f"{self.run_id}/{moment}"))
            self._chance[scope] = kept
        return kept[1]

    def uuid(self) -> uuid.UUID:
        """A random UUID, the same on every replay."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4)


def _state(data: bytes, n: int, kind: type[T]) -> T:
    try:
        return _decoded(data, kind, f"the state of checkpoint {n}")
    except NotSerializable as error:
        raise CheckpointError(
            f"the state of checkpoint {n} does not fit {kind.__name__}: {error}. The state is kept: make the type "
            "accept it (defaults for new fields), then `holdfast retry`"
        ) from error


def _decoded(data: bytes, kind: type[T] | None, what: str) -> T:
    return cast("T", codec.decode(data, kind, what=what))
