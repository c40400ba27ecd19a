"""One trial of an agent: real workers on a real store, in virtual time, with what a plan makes befall them.

Laws of this file:
1. A crash is a death: nothing of that process runs again, no `finally`, no `except`, and its store is gone from under
   it. The next process knows only what is durable.
2. Each Change of an attempt is a transaction of its own here, so that every prefix of the journal is a place to crash;
   so is every transaction of an upload.
3. Time passes only while nothing can be done; a poll of the engine costs nothing, because news come exactly.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, NoReturn, Self, TypeVar, TypeVarTuple, cast

from holdfast import threads
from holdfast.agents import Agent, AnyAgent, Every
from holdfast.client import Client, RunHandle, RunView, StepView
from holdfast.clock import Pace
from holdfast.controller import Controller
from holdfast.errors import RunCancelled, RunFailed, StoreUnavailable, WorkerStuck
from holdfast.model import (
    Change,
    Committed,
    Content,
    Entry,
    Reason,
    RefusedChange,
    Run,
    RunFilter,
    RunState,
    Sample,
)
from holdfast.model.runs import HELD_REASONS
from holdfast.rules import waits
from holdfast.store.protocol import Store
from holdfast.store.sqlite import SQLiteStore
from holdfast.store.sqlite.connection import Connection
from holdfast.testing import blank
from holdfast.testing.loop import Process, VirtualClock, VirtualLoop
from holdfast.testing.plan import Crash, Plan
from holdfast.timelimit import TimeLimit
from holdfast.worker import Worker

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
A = TypeVar("A")
Outside = Callable[[RunHandle[R]], Awaitable[object]]

PACE: Final = Pace(tick_s=900.0, ask_s=10.0, poll_s=43_200.0)
"""Virtual seconds: every look costs real time, and news come without looking."""
LEASE: Final = "3650d"
"""No worker here dies without our knowing it."""
BACK_AFTER_S: Final = 1.0
"""How soon the supervisor starts a process again."""
SWEEP_S: Final = 43_200.0
LATENCY_S: Final = 0.02
"""How long the store takes at most, in a shuffled trial."""
THREADS_MS: Final = 10_000
"""How long a thread of a dead process is waited for; while it works, virtual milliseconds are real ones."""
CLEAN_UP_ROUNDS: Final = 20
_READS: Final = ("get_", "list_", "read_", "find_", "count_", "load_", "asks", "now")
_HOPELESS: Final = frozenset({Reason.MISMATCH, Reason.POISON, Reason.CHECKPOINT_LOST, Reason.DISK})
_UNFINISHED: Final = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.WAITING})


class NotOver(AssertionError):
    """The run did not come to an end, and nothing will bring it to one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Generic[R]):
    """What two trials are compared by: the error or the value, the value as it is recorded, and the journal."""

    error: Exception | None
    value: R | None
    payload: bytes | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial(Generic[R]):
    """What became of a run in virtual time. `took` is how long it was under way by its own clock, `commits` how many
    times something of it became durable, `steps` what is recorded."""

    plan: str
    run: RunView
    steps: tuple[StepView, ...]
    took: timedelta
    commits: int
    ended: Ended[R] = field(repr=False)

    @property
    def result(self) -> R:
        """What the agent returned. Raises RunFailed, RunCancelled, or NotOver that says what the run waits for."""
        if self.ended.error is not None:
            raise self.ended.error
        return cast("R", self.ended.value)


class StageStore:
    """A process's own handle on the store; through it the process dies when the plan says so."""

    def __init__(self, stage: Stage[Any], process: Process, crash: Crash | None) -> None:
        self._stage = stage
        self._process = process
        self._crash = crash
        self._inner = SQLiteStore(stage.path, clock=stage.clock, inline=True)
        self._seen = 0
        self._commits = 0
        self._severed = False
        self.worker: int | None = None

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def lock_folder(self) -> None:
        """A death is told to the store, as the kernel would tell it by a lock."""
        return None

    async def open(self) -> None:
        await self._inner.open()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.sever()

    async def sever(self) -> None:
        """The process is gone, and its handle with it."""
        self._severed = True
        await self._inner.close()

    async def wait_for_news(self, timeout_s: float) -> None:
        """Return when another commit is there, or a run falls due."""
        due_s = await self._stage.until_due_s()
        await self._stage.news(self._seen, min(timeout_s, due_s))
        self._seen = self._stage.version

    def renew_lease(self, worker: int, lease_us: int, sample: Sample | None) -> bool:
        return self._inner.renew_lease(worker, lease_us, sample)

    def commit_now(self, changes: Sequence[Change]) -> None:
        """Everything goes through `commit`."""

    async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        answers: list[Committed | RefusedChange] = []
        for change in changes:
            try:
                answers += await self._commit(change)
            except Exception as error:
                if not answers:
                    raise
                raise StoreUnavailable("a part of it is recorded") from error  # the writer looks, and goes on
        return answers

    async def _commit(self, change: Change) -> list[Committed | RefusedChange]:
        counts = bool(change.entries or change.checkpoint is not None or change.outcome is not None)
        answers = await self._transaction(lambda: self._inner.commit([change]), counts=counts)
        self._stage.tell(all_of_it=change.outcome is not None or bool(change.beside))
        await self._stage.delay()
        return answers

    async def begin_content(self) -> int:
        return await self._transaction(self._inner.begin_content)

    async def add_chunk(self, upload: int, n: int, chunk: bytes) -> None:
        await self._transaction(lambda: self._inner.add_chunk(upload, n, chunk))

    async def seal_content(self, upload: int, content_id: str, size_bytes: int) -> Content:
        return await self._transaction(lambda: self._inner.seal_content(upload, content_id, size_bytes))

    async def _transaction(self, do: Callable[[], Awaitable[A]], *, counts: bool = True) -> A:
        """One place to crash, unless it does not count: before it is durable, or right after."""
        await self._stage.delay()
        await self._check()
        self._commits += counts
        here = self._crash if counts and self._crash and self._crash.at == self._commits else None
        if here is not None and not here.after:
            await self._die()
        answer = await do()
        self._stage.commits += counts
        if here is not None:
            await self._die()
        return answer

    async def _die(self) -> NoReturn:
        await self._stage.kill(self._process, self)
        await asyncio.get_running_loop().create_future()
        raise AssertionError("the dead do not come back")

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the store has
        inner = getattr(self._inner, name)
        if not inspect.iscoroutinefunction(inner):
            return inner

        async def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            await self._check()
            answer = await inner(*arguments, **options)
            if name == "register_worker":
                self.worker = answer
            if not name.startswith(_READS) and (answer or answer is None):  # else it found nothing to do
                self._stage.tell(all_of_it=True)
            return answer

        setattr(self, name, call)
        return call

    async def _check(self) -> None:
        """Whoever is dead reaches the store no more, and hears nothing of it either."""
        if self._severed:
            await asyncio.get_running_loop().create_future()


class StageHeart:
    """A worker's heart where no lease ends: it does nothing."""

    trusted = True
    sample: Sample | None = None

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def beat(self) -> None: ...

    def take_warning(self) -> None: ...


class Stage(Generic[R]):
    """Everything of one trial: `play` it, then `close` it."""

    def __init__(
        self, agent: Agent[*tuple[Any, ...], R], plan: Plan, others: Sequence[AnyAgent], within_s: float
    ) -> None:
        memory = Path("/dev/shm")  # noqa: S108 - where the machine has it, nothing waits for a disk
        self._folder = tempfile.mkdtemp(prefix="holdfast-", dir=memory if memory.is_dir() else None)
        self.path = blank.lay(Path(self._folder) / "trial.db")
        self.loop = VirtualLoop(f"order {plan.seed}", shuffled=plan.seed is not None)
        self.clock = VirtualClock(self.loop)
        self.version = 0
        self.commits = 0
        self._agent = _saving(agent, plan)
        self._others = others
        self._plan = plan
        self._within_s = within_s
        self._chance = random.Random(f"chance {plan.seed}")
        self._news = asyncio.Event()
        self._sweep_now = asyncio.Event()
        self._begun = 0
        self._closing = False
        self._stores: list[StageStore] = []
        self._quiet = SQLiteStore(self.path, clock=self.clock, inline=True)
        self._outside: asyncio.Task[None] | None = None

    # --- the whole road -------------------------------------------------------------------------------------

    def play(self, args: tuple[object, ...], outside: Outside[R] | None) -> Trial[R]:
        """Run the agent to its end, or to where nothing moves any more."""
        return self.loop.run_until_complete(self._play(args, outside))

    def close(self) -> None:
        """End what is left, the dead included: now their `finally` blocks run, and reach no store."""
        self._closing = True
        self.loop.failure = None
        self.loop.set_exception_handler(lambda loop, told: None)
        self.loop.run_until_complete(self._sever_all())
        self.loop.exhume()
        for _ in range(CLEAN_UP_ROUNDS):
            left = asyncio.all_tasks(self.loop)
            if not left:
                break
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(1))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _sever_all(self) -> None:
        for store in self._stores:
            await store.sever()
        await self._quiet.close()

    async def _play(self, args: tuple[object, ...], outside: Outside[R] | None) -> Trial[R]:
        await self._quiet.open()
        client = Client(self._quiet)
        handle = await client.start(self._agent, *args, id=self._agent.name)
        self._begin()
        keeping = self.loop.create_task(self._keep())
        if outside is not None:
            process = Process("outside")
            self._outside = self._spawn(process, self._be_outside(process, outside, handle.id))
        try:
            async with asyncio.timeout(self._within_s):
                why = await self._until_over(handle.id)
        except TimeoutError:
            why = f"it is not over after {timedelta(seconds=self._within_s)} of its own time"
        keeping.cancel()
        return await self._trial(handle, why)

    async def _trial(self, handle: RunHandle[R], why: str) -> Trial[R]:
        run = await self._quiet.get_run(handle.id)
        value: R | None = None
        error: Exception | None = None
        try:
            value = await handle.result() if run.state.final else None
        except (RunFailed, RunCancelled) as ended:
            error = ended
        if not run.state.final:
            error = NotOver(f"run {run.id} is {run.state}{f' ({run.reason})' if run.reason else ''}: {why}")
        return Trial(
            plan=str(self._plan),
            run=await handle.status(),
            steps=tuple(await handle.steps()),
            took=timedelta(microseconds=round(self.loop.time() * 1e6)),
            commits=self.commits,
            ended=Ended(
                error=error,
                value=value,
                payload=run.result,
                entries=tuple(await self._quiet.read_entries(handle.id)),
            ),
        )

    # --- processes ------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Start the worker's next process."""
        crashes = self._plan.crashes
        crash = crashes[self._begun] if self._begun < len(crashes) else None
        self._begun += 1
        process = Process(f"process {self._begun}")
        self._spawn(process, self._work(process, crash))

    def _spawn(self, process: Process, body: Any) -> asyncio.Task[None]:  # noqa: ANN401
        return self.loop.spawn(process, self._guarded(body))

    async def _guarded(self, body: Awaitable[None]) -> None:
        try:
            await body
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - it belongs to who plays
            if not self._closing:
                self.loop.failure = self.loop.failure or error

    async def _work(self, process: Process, crash: Crash | None) -> None:
        store = StageStore(self, process, crash)
        self._stores.append(store)
        async with store:
            worker = Worker(
                cast("Store", store),
                [self._agent, *self._others],
                capacity=1_000,
                name=process.name,
                clock=self.clock,
                pace=PACE,
                lease=LEASE,
                chance=self._chance.random,
                heart=lambda key, on_lost: StageHeart(),
            )
            try:
                await worker.run()
            except WorkerStuck:
                self.loop.create_task(self._begin_again(store), context=self.loop.outside())

    async def kill(self, process: Process, store: StageStore) -> None:
        """kill -9: nothing of it runs again."""
        process.killed = True
        self.loop.bury(process)
        await store.sever()
        self.loop.create_task(self._begin_again(store), context=self.loop.outside())

    async def _begin_again(self, store: StageStore) -> None:
        for _ in range(THREADS_MS):  # a thread cannot be killed: its body ends first, and nobody hears of it
            if threads.busy():
                await asyncio.sleep(0.001)
        if store.worker is not None:
            await self._quiet.retire_worker(store.worker, counted=True)
        if self._plan.corrupt and self._begun == 1:
            corrupt_newest(self.path)
        await asyncio.sleep(BACK_AFTER_S)
        self._begin()

    async def _be_outside(self, process: Process, outside: Outside[R], run_id: str) -> None:
        store = StageStore(self, process, None)
        self._stores.append(store)
        async with store:
            await outside(Client(cast("Store", store)).handle(self._agent, run_id))
        self.tell()

    async def _keep(self) -> None:
        """What a controller does, at the times when there is something to do."""
        store = StageStore(self, self.loop.world, None)
        self._stores.append(store)
        await store.open()
        controller = Controller(cast("Store", store), retention=None, chance=self._chance.random)
        while True:
            self._sweep_now.clear()
            await controller.round()
            deadlines = [run.deadline_at_us for run in await self._unfinished() if run.deadline_at_us]
            left_s = (min(deadlines) - self.clock.wall_us()) / 1e6 if deadlines else SWEEP_S
            try:
                async with asyncio.timeout(min(SWEEP_S, max(0.001, left_s))):
                    await self._sweep_now.wait()
            except TimeoutError:
                pass

    # --- time and news --------------------------------------------------------------------------------------

    def tell(self, *, all_of_it: bool = False) -> None:
        """Something changed; `all_of_it`: maybe more than a run's own journal."""
        self.version += 1
        news, self._news = self._news, asyncio.Event()
        news.set()
        if all_of_it:
            self._sweep_now.set()

    async def news(self, seen: int, timeout_s: float) -> None:
        """Return when something changed since then, or after the time-out."""
        if self.version == seen:
            ends_at = self.loop.time() + timeout_s
            with suppress(TimeoutError), TimeLimit(lambda: ends_at):
                await self._news.wait()

    async def delay(self) -> None:
        """In a shuffled trial the store takes its time."""
        if self._plan.seed is not None:
            await asyncio.sleep(LATENCY_S * self._chance.random())

    async def until_due_s(self) -> float:
        """How long until the next run can be claimed."""
        now_us = self.clock.wall_us()
        due = [run.available_at_us for run in await self._unfinished() if run.available_at_us is not None]
        return (min((at for at in due if at > now_us), default=now_us + 10**12) - now_us + 2) / 1e6

    async def _unfinished(self) -> list[Run]:
        return await self._quiet.list_runs(RunFilter(states=_UNFINISHED, limit=10_000))

    async def _until_over(self, run_id: str) -> str:
        """Wait for the end of the run, and say why when there will be none."""
        while True:
            seen = self.version
            run = await self._quiet.get_run(run_id)
            if run.state.final:
                return ""
            why = await self._why_never(run)
            if why:
                return why
            await self.news(seen, SWEEP_S)

    async def _why_never(self, run: Run) -> str:
        if run.reason in _HOPELESS:
            return _told_held(run)
        if self._outside is not None and not self._outside.done():
            return ""
        if run.reason in HELD_REASONS:
            return _told_held(run)
        for each in await self._unfinished():
            if each.state is not RunState.WAITING or each.available_at_us is not None or each.deadline_at_us:
                return ""
        names = waits.names(run.wait_name)
        if run.reason is Reason.APPROVAL:
            return "it asks a person, and nobody answers: give `outside=` an async function that calls handle.approve"
        if names:
            waited = " or ".join(map(repr, names))
            return f"it waits for the signal {waited}, and nobody sends it: give `outside=` an async function that does"
        return "it waits, and nobody does anything about it: give `outside=` an async function that does"


def _told_held(run: Run) -> str:
    mismatch = run.mismatch
    if mismatch is None:
        return run.failure.message if run.failure is not None else "it is held"
    return f"{mismatch.message}; recorded next: entry {mismatch.entry}"


def _saving(agent: Agent[*tuple[Any, ...], R], plan: Plan) -> Agent[*tuple[Any, ...], R]:
    match plan.save:
        case "always":
            return replace(agent, checkpoint=Every(0))
        case "never":
            return replace(agent, checkpoint=Every(steps=1_000_000_000))
        case None:
            return agent


def corrupt_newest(path: Path) -> None:
    """Flip a bit in the newest checkpoint of every run in the file."""
    connection = Connection(path)
    try:
        newest = connection.rows(
            "SELECT run, n, state FROM checkpoints WHERE (run, n) IN (SELECT run, max(n) FROM checkpoints GROUP BY run)"
        )
        with connection.transaction():
            for run, n, state in newest:
                damaged = bytearray(state)
                damaged[len(damaged) // 2] ^= 1
                connection.run(
                    "UPDATE checkpoints SET state = ? WHERE run = ? AND n = ?", (bytes(damaged), run, n)
                )
    finally:
        connection.close()
