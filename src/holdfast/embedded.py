"""The whole thing in one call: `holdfast.run(agent, *args, id=…)` executes a run here, to its end."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Final, Self, TypeVar, TypeVarTuple

from msgspec.structs import replace

from holdfast import codec
from holdfast.agents import Agent, AnyAgent
from holdfast.client import Client
from holdfast.controller import RETENTION, Controller
from holdfast.duration import Duration
from holdfast.errors import Refused, RunNotFound, UsageError, WorkerStuck
from holdfast.model import HELD_REASONS, Decision, Reason, Run, RunState
from holdfast.references import check_not_importing, reachable
from holdfast.rules import transitions, waits
from holdfast.serving import check_served
from holdfast.settings import find_store
from holdfast.store import open_store
from holdfast.worker import Worker

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run(
    agent: Agent[*Ts, R],
    *args: *Ts,
    id: str | None = None,
    store: str | None = None,
    agents: Sequence[AnyAgent] = (),
) -> R:
    """Execute a run of `agent` in this process and return its result; blocks, and stays through sleeps and backoffs.

    With the `id` of an unfinished run it goes on with that run, with the code at hand; of a succeeded one it returns
    the result at once. `store` is a URL or a path; without it the store is found as the shell finds it. Ctrl-C parks
    the run: the same call with the same id goes on.

    The children that it starts are executed here too. Their agents are found where the code of `agent` can name them,
    in its module for instance; `agents` adds others. A child that outlives the run is left to other workers.

    Raises RunFailed, RunCancelled, Conflict (the id belongs to another agent or input), WorkerStuck (the agent's code
    does not end when it is told to), and Refused when the run waits for a person or signal, or when a run of the same
    agent and input is unfinished and no id says which is meant.
    """
    check_not_importing()
    if _in_a_loop():
        raise UsageError(
            "holdfast.run blocks, and an event loop is running here: use `async with Worker(store, [agent]):"
            " result = await (await Client(store).start(agent, ...)).result()`"
        )
    runner = asyncio.Runner()
    try:
        result = runner.run(_run(agent, args, id, store, agents))
    except WorkerStuck:
        raise  # closing the loop would wait for the code that does not end
    except BaseException:
        runner.close()
        raise
    runner.close()
    return result


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _run(
    agent: Agent[*Ts, R],
    args: tuple[*Ts],
    run_id: str | None,
    given: str | None,
    others: Sequence[AnyAgent],
) -> R:
    payload = codec.input_json(agent.fn, args)
    async with open_store(find_store(given).url) as store:
        client = Client(store)
        served = reachable([agent, *others])
        check_served(served)  # before there is a run that nobody can execute
        prepared = await prepare(client, agent, payload, run_id)
        if not prepared.state.final:
            worker = Worker(store, served, only=prepared.id)
            with Stopping(worker) as stopping:
                await execute(client, worker)
            ended = await store.get_run(prepared.id)
            if stopping.signal is not None and not ended.state.final:
                raise KeyboardInterrupt(f"run {ended.id} is kept: the same call with id={ended.id!r} goes on")
            if not ended.state.final:
                raise Refused(await _waits(client, ended))
        return await client.handle(agent, prepared.id).result()


async def prepare(client: Client, agent: AnyAgent, payload: bytes | None, run_id: str | None) -> Run:
    """The run to execute here: a new one, or the one that has this id, ready to be claimed by id.

    `payload` None means: the input of the run that is there, or none for a new one. Raises Conflict, and Refused for
    an unfinished twin without an id, for another version, and for a run that a live worker executes.
    """
    if payload is None:
        payload = await _known_input(client, agent, run_id)
    if run_id is None:
        await _refuse_twin(client, agent, payload)
    created = await client.create(agent, payload, id=run_id, claimable=False)
    found = created.run
    if not created.existed or found.state.final:
        return found
    if found.version != agent.version and found.version not in agent.continues:
        raise Refused(
            f"run {found.id} belongs to version {found.version!r} of agent {agent.name!r}, and the code at hand is"
            f" version {agent.version!r}: serve that version, or start a run of the new one under another id;"
            f" @agent(version={agent.version!r}, continues=[{found.version!r}]) goes on with it by this code"
        )
    await _refuse_executed(client, found)
    return await client.store.update_run(found.id, _go_on)


async def execute(client: Client, worker: Worker, retention: Duration | None = RETENTION) -> None:
    """Serve until the worker ends, with the sweep of a controller beside it. Raises WorkerStuck."""
    controller = Controller(client.store, retention=retention)
    sweeping = asyncio.create_task(controller.run(), name="controller")
    try:
        await worker.run()
    finally:
        sweeping.cancel()
        await asyncio.wait({sweeping})


class Stopping:
    """Turns signals into an orderly end: the first drains (SIGINT parks the runs), the second stops now, a third
    leaves the process at once, which is safe too: nothing acknowledged is lost."""

    def __init__(
        self, worker: Worker, told: Callable[[int, int], None] | None = None, *, parks: bool = True
    ) -> None:
        self._worker = worker
        self._told = told
        self._parks = parks
        self._count = 0
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        self._loop = asyncio.get_running_loop()
        self.signal: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self._count += 1
        if self.signal is None:
            self.signal = number
            self._worker.drain(Reason.PARKED if self._parks and number == signal.SIGINT else Reason.DRAINED)
        elif self._count == 2:
            self._worker.stop_now()
        else:
            os._exit(128 + self.signal)
        if self._told is not None:
            self._loop.call_soon_threadsafe(self._told, number, self._count)


async def _known_input(client: Client, agent: AnyAgent, run_id: str | None) -> bytes:
    if run_id is not None:
        try:
            return await client.store.get_input(run_id)
        except RunNotFound:
            pass
    return codec.normalise_input(agent.fn, b"{}")


async def _refuse_twin(client: Client, agent: AnyAgent, payload: bytes) -> None:
    found = await client.store.find_runs_with_input(agent.name, payload)
    children = await client.store.parents_of([one.key for one in found])
    twins = [one for one in found if one.key not in children]
    if twins:
        names = ", ".join(f"{one.id} ({one.state})" for one in twins[:5])
        raise Refused(
            f"an unfinished run of agent {agent.name!r} with the same input is there: {names}."
            f" To go on with it: --id {twins[0].id}; to start another one: --id with a new name"
        )


async def _refuse_executed(client: Client, found: Run) -> None:
    if found.state is not RunState.RUNNING:
        return
    for worker in await client.store.list_workers():
        if worker.key == found.worker and worker.alive:
            raise Refused(
                f"run {found.id} is executed by worker {worker.name} (pid {worker.pid} on {worker.host}):"
                f" `holdfast watch {found.id}` follows it"
            )


def _go_on(run: Run, now_us: int) -> Decision:
    """End the waits that the presence of this code ends: a pause, a park, missing code. A run that is being imported
    raises InvalidTransition."""
    transitions.check_whole(run)
    if run.state is RunState.WAITING:
        if run.reason in (Reason.PAUSED, Reason.PARKED):
            return replace(transitions.resume(run, now_us), claimable=False)  # it goes on here
        if run.reason is Reason.NEEDS_CODE:
            return transitions.code_found(run, now_us)
    return Decision(run=replace(run))


async def _waits(client: Client, run: Run) -> str:
    if run.reason is Reason.CHILD:
        return await _waits_for_child(client, run)
    names = " or ".join(repr(name) for name in waits.names(run.wait_name))
    for_what = (
        f"the signal {names}" if run.reason is Reason.SIGNAL else f"someone ({run.reason or run.state})"
    )
    why = f", for {run.failure.summary()}" if run.reason in HELD_REASONS and run.failure is not None else ""
    return f"run {run.id} waits for {for_what}{why}: `holdfast show {run.id}` says how to go on"


async def _waits_for_child(client: Client, run: Run) -> str:
    """Which of those that it waits for, directly or in the end, waits for what."""
    waiting = run
    while waiting.reason is Reason.CHILD:
        child = waits.child_of(waits.names(waiting.wait_name)[0])
        assert child is not None, "it waits for a child"
        waiting = await client.store.get_run(child)
    agent = f"{waiting.agent!r}, version {waiting.version!r}"
    closed = (await (await client.get(waiting.id)).detail()).closed.get(waiting.id)
    if closed is not None:
        code = f"the queue {closed!r} is limited to 0: `holdfast queue {shlex.quote(closed)} --unlimited`"
    elif waiting.reason is Reason.NEEDS_CODE:
        code = f"no worker has its agent {agent}: holdfast.run(…, agents=[…]) brings it along"
    else:
        code = f"`holdfast show {waiting.id}` says how to go on"
    return (
        f"run {run.id} waits for its child {waiting.id}, which is {waiting.state}"
        f"{f' ({waiting.reason})' if waiting.reason else ''}: {code}"
    )
