"""Children: runs that a run starts, waits for and cancels. A run that waits for a child is unloaded.

A start, an outcome and a cancellation are entries like those of any other call; what happens to the child becomes
durable beside them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final, Generic, Literal, TypedDict, TypeVar, TypeVarTuple, cast

from holdfast import codec
from holdfast.agents import Agent, AnyAgent
from holdfast.duration import Duration, micros
from holdfast.errors import ChildFailed, Conflict, UsageError
from holdfast.failures import decode_failure, encode_failure
from holdfast.lanes import lane_of
from holdfast.model import (
    CancelChild,
    Entry,
    EntryKind,
    EntryStatus,
    Failure,
    FailureKind,
    Identity,
    NewChild,
    NewRun,
    ParentPolicy,
    Park,
    Reason,
    Run,
    RunState,
)
from holdfast.opened import OpenCall, Withdrawal
from holdfast.port import Port
from holdfast.recording import Recording
from holdfast.rules.budget import Budget, check_budget
from holdfast.rules.ids import checked_id, child_id
from holdfast.rules.journal import CALLED
from holdfast.rules.schedule import check_priority
from holdfast.rules.waits import of_child
from holdfast.waits import Waits

Ts = TypeVarTuple("Ts")
R = TypeVar("R")

_POLICIES: Final = ", ".join(repr(str(policy)) for policy in ParentPolicy)


class ChildOptions(TypedDict, total=False):
    """The options that `ctx.call` and `ctx.start` share.

    `id` names the child; without it the id follows from the parent's and the call. `priority` is the parent's unless
    given, `queue` that of the agent. `on_parent_end` says what becomes of it when the parent ends first. `budget` is
    its own, instead of its agent's; what it uses is charged to its parent's, too.
    """

    id: str | None
    priority: int | None
    queue: str | None
    delay: Duration
    on_parent_end: ParentPolicy | Literal["cancel", "leave"]
    budget: Budget | None


class ChildHandle(Generic[R]):
    """A child of this run. Keep its `id` in the state; `ctx.child(agent, id)` gives the handle back."""

    __slots__ = ("_agent", "_children", "id")

    def __init__(self, children: Children, agent: AnyAgent, child: str) -> None:
        self._children = children
        self._agent = agent
        self.id = child

    def __repr__(self) -> str:
        return f"ChildHandle({self.id!r})"

    def result(self) -> Coroutine[Any, Any, R]:
        """Wait until the child has ended and return its result, decoded into the agent's return type.

        Recorded as a step is; a run that waits is unloaded. Raises ChildFailed when the child failed, was cancelled,
        or is no child of this run.
        """
        return cast("Coroutine[Any, Any, R]", self._children.result(self._agent, self.id))

    def cancel(self) -> Coroutine[Any, Any, None]:
        """Cancel the child, unless it has ended; recorded, and done in the transaction of the record."""
        return self._children.cancel(self._agent, self.id)


class Children:
    """What `ctx.call`, `ctx.start` and handles do."""

    __slots__ = ("_port", "_recording", "_waits")

    def __init__(self, port: Port, recording: Recording, waits: Waits) -> None:
        self._port = port
        self._recording = recording
        self._waits = waits

    # --- the synchronous part of each call --------------------------------------------------------------------

    def call(
        self, agent: AnyAgent, args: tuple[object, ...], key: str | None, options: ChildOptions
    ) -> Coroutine[Any, Any, object]:
        """Start a child and wait for its result. A call that the code cancels cancels the child."""
        order = _Order(agent, args, self._port.run, options)
        start = self._recording.identify(EntryKind.CHILD, f"{agent.name}{CALLED}", key)
        start.args_hash = order.fingerprint
        call = self._recording.begin(EntryKind.CHILD, agent.name, key, b"")
        call.first, call.withdraws = start, lambda: Withdrawal(CancelChild(_child_of(start)))
        return call.start(self._call(start, call, order))

    def start(
        self, agent: AnyAgent, args: tuple[object, ...], key: str | None, options: ChildOptions
    ) -> Coroutine[Any, Any, ChildHandle[Any]]:
        """Start a child and go on."""
        order = _Order(agent, args, self._port.run, options)
        call = self._recording.begin(EntryKind.CHILD, f"{agent.name}:start", key, order.fingerprint)
        return call.start(self._start(call, order))

    def handle(self, agent: AnyAgent, child: str) -> ChildHandle[Any]:
        """A handle on a child of this run."""
        return ChildHandle(self, _checked_agent(agent), checked_id(child))

    def result(self, agent: AnyAgent, child: str) -> Coroutine[Any, Any, object]:
        """Wait for the end of a child that was started before."""
        name = f"{agent.name}:result"
        call = self._recording.begin(EntryKind.CHILD, name, None, codec.fingerprint((child,), None))
        return call.start(self._result(call, agent, child))

    def cancel(self, agent: AnyAgent, child: str) -> Coroutine[Any, Any, None]:
        """Cancel a child that was started before."""
        name = f"{agent.name}:cancel"
        call = self._recording.begin(EntryKind.CHILD, name, None, codec.fingerprint((child,), None))
        return call.start(self._cancel(call, child))

    # --- what they await --------------------------------------------------------------------------------------

    async def _call(self, start: OpenCall, call: OpenCall, order: _Order) -> object:
        with call:
            child = await self._started(start, order)
            return await self._outcome(call, order.agent, child)

    async def _start(self, call: OpenCall, order: _Order) -> ChildHandle[Any]:
        with call:
            return ChildHandle(self, order.agent, await self._started(call, order))

    async def _result(self, call: OpenCall, agent: AnyAgent, child: str) -> object:
        with call:
            return await self._outcome(call, agent, child)

    async def _cancel(self, call: OpenCall, child: str) -> None:
        with call:
            if await self._recording.answered(call) is None:
                await self._recording.record(call, EntryStatus.OK, b"null", beside=(CancelChild(child),))
            self._recording.deliver(call)

    async def _started(self, call: OpenCall, order: _Order) -> str:
        """The id of the child, which is there by now."""
        entry = await self._recording.answered(call)
        if entry is None:
            entry = await self._bear(call, order.child(call.identity), named=order.id is not None)
        self._recording.deliver(call)
        if entry.status is EntryStatus.FAILED:
            raise _failed(call, entry, order.id or order.agent.name)
        call.child = _child_of(call)
        return call.child

    async def _bear(self, call: OpenCall, new: NewChild, *, named: bool) -> Entry:
        """Record the start with the child beside it. An id that somebody chose may be taken: that is looked at first,
        for a refused Change takes down what other branches submitted after it."""
        recording, child = self._recording, new.new.id
        try:
            if named:
                await self._unclaimed(call, new)
            payload = codec.encode(child, what="the id of a child")
            call.child = child
            return await recording.record(
                call, EntryStatus.OK, payload, beside=(new,), unseen=(CancelChild(child),)
            )
        except Conflict as error:
            call.child = None
            taken = Failure(kind=FailureKind.FATAL, type="Conflict", message=str(error))
            return await recording.record(call, EntryStatus.FAILED, encode_failure(taken))

    async def _unclaimed(self, call: OpenCall, new: NewChild) -> None:
        try:
            await self._recording.end.guarded(self._port.check_child(new))
        except asyncio.CancelledError:
            self._recording.end.check()
            self._recording.abandon(call)
            raise

    async def _outcome(self, call: OpenCall, agent: AnyAgent, child: str) -> object:
        entry = await self._recording.answered(call)
        if entry is None:
            entry = await self._end_of(call, child)
        self._recording.deliver(call)
        if entry.status is EntryStatus.FAILED:
            raise _failed(call, entry, child)
        return codec.Shape.of(agent.fn, f"the result of agent {agent.name!r}").decode(entry.payload)

    async def _end_of(self, call: OpenCall, child: str) -> Entry:
        """Wait for the child, and record how it ended."""
        recording = self._recording
        while True:
            try:
                seen = await recording.end.guarded(self._port.child(child))
                if seen is not None and not seen.ended:
                    park = Park(reason=Reason.CHILD, wait_name=of_child(child), inbox_seen=seen.inbox_no)
                    await self._waits.stand(call, park, None)
                    continue
            except asyncio.CancelledError:
                recording.end.check()
                recording.abandon(call)
                raise
            if seen is None:
                message = (
                    f"run {self._port.run.id} has no child {child!r}: it was deleted, or is no child of it"
                )
                gone = Failure(kind=FailureKind.FATAL, type="RunNotFound", message=message)
                return await recording.record(call, EntryStatus.FAILED, encode_failure(gone))
            if seen.run.state is RunState.SUCCEEDED:
                payload = seen.run.result if seen.run.result is not None else b"null"
                return await recording.record(call, EntryStatus.OK, payload, signal=seen.signal)
            failure = encode_failure(_failure(seen.run))
            return await recording.record(call, EntryStatus.FAILED, failure, signal=seen.signal)


class _Order:
    """A child as the code asks for it, checked before anything is opened."""

    __slots__ = ("_new", "_policy", "agent", "fingerprint", "id")

    def __init__(self, agent: AnyAgent, args: tuple[object, ...], parent: Run, options: ChildOptions) -> None:
        self.agent = _checked_agent(agent)
        named = options.get("id")
        self.id = None if named is None else checked_id(named)
        priority, delay_us = options.get("priority"), micros(options.get("delay", 0))
        policy = options.get("on_parent_end", ParentPolicy.CANCEL)
        if policy not in tuple(ParentPolicy):
            raise UsageError(f"on_parent_end={policy!r} is no policy: there are {_POLICIES}")
        budget = options.get("budget") or agent.budget
        check_budget(budget, f"the child of {agent.name!r}")
        payload = codec.input_json(agent.fn, args)
        self.fingerprint = codec.fingerprint((agent.name, payload, named), None)
        self._policy = ParentPolicy(policy)
        self._new = NewRun(
            id=self.id or f"{parent.id}\n{parent.created_at_us}",
            agent=agent.name,
            version=agent.version,
            input=payload,
            queue=options.get("queue") or agent.queue,
            priority=parent.priority if priority is None else check_priority(priority),
            delay_us=delay_us,
            deadline_us=agent.deadline_us,
            lane=lane_of(agent, payload),
            budget=None if budget is None else budget.terms,
            needs=tuple(agent.needs),
        )

    def child(self, identity: Identity) -> NewChild:
        """The child. What it is called follows from the parent and the call alone, so that a start whose answer was
        lost, or that is executed again after a retry, meets the child that is there."""
        new = self._new
        if self.id is None:
            parent_id = new.id.partition("\n")[0]
            told = codec.encode([new.id, new.agent, *identity], what="an identity") + new.input
            digest = hashlib.blake2b(told, digest_size=16).hexdigest()
            new = replace(new, id=child_id(parent_id, new.agent, digest))
        return NewChild(new=new, on_parent_end=self._policy)


def _checked_agent(agent: object) -> AnyAgent:
    if not isinstance(agent, Agent):
        raise UsageError(f"a child is a run of an agent; {agent!r} is none: put @agent on the function")
    return cast("AnyAgent", agent)  # type: ignore[redundant-cast]  # of pyright the parameters are unknown


def _child_of(start: OpenCall) -> str:
    """The id of the child that the call started."""
    assert start.entry is not None, "it is recorded"
    return str(codec.decode(start.entry.payload, str, what="the id of a child"))


def _failure(child: Run) -> Failure:
    """How the child ended, as its parent records it. The entries named in it would be those of another journal."""
    if child.state is RunState.CANCELLED:
        message = f"run {child.id} was cancelled"
        cause = Failure(kind=FailureKind.CANCELLED, type="RunCancelled", message=message)
    else:
        assert child.failure is not None, "a run that failed says why"
        cause = replace(child.failure, entries=())
    message = f"child {child.id} failed: {cause.summary()}"
    return Failure(kind=cause.kind, type="ChildFailed", message=message, cause=cause)


def _failed(call: OpenCall, entry: Entry, child: str) -> ChildFailed:
    return ChildFailed(decode_failure(entry.payload), child=child, step=call.name, entry=call.position)
