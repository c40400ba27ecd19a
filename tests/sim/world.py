"""The simulated world: one store, workers, controllers and clients over it, and the faults that befall them.

Faults stop at some moment; then every run must come to an end within a bound of virtual time.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import holdfast.controller
import holdfast.heart
from holdfast import Concurrency, Done, NotDone
from holdfast.client import Client, RunHandle
from holdfast.client.view import ApprovalView, RunView
from holdfast.clock import Pace
from holdfast.controller import Controller
from holdfast.errors import HoldfastError, Refused, StoreError, StoreUnavailable, WorkerStuck
from holdfast.heart import Heart
from holdfast.model import Change, Claim, Created, Run, RunFilter, RunState, Sample
from holdfast.rules.lease import LEASE_S
from holdfast.store.sqlite import SQLiteStore
from holdfast.testing import blank
from holdfast.testing.loop import Process, VirtualClock, VirtualLoop, current_process
from holdfast.worker import Worker
from tests.sim import agents, timetable
from tests.sim.agents import AGENTS, CHILDREN, Life, Line
from tests.sim.laws import LawBroken, Laws

PACE: Final = Pace(tick_s=4.0, ask_s=8.0, poll_s=20.0)
CONTROL: Final = {"SWEEP_S": 5.0, "FIRE_S": 5.0}
"""How often the simulated workers and controllers look, in virtual seconds: 5 to 50 times slower than real ones, so
that a simulated hour is cheap, and news arrive late. No promise may depend on it."""
LEASE_US: Final = LEASE_S * 1_000_000
LIVENESS_S: Final = 5_400.0
"""Within this after the last fault every run has ended."""
SETTLED_US: Final = 60_000_000
"""Within this a schedule is met when nothing fails: two looks, and a slow store."""
WRITES: Final = frozenset({
    "create_run", "update_run", "delete_run", "claim", "commit", "add_signal", "answer_approval", "register_worker",
    "retire_worker", "mark_draining", "sweep", "limit_queue", "prune",
    "take_turns", "hold_back", "begin_content", "add_chunk", "seal_content", "sweep_artifacts",
}) | timetable.OPERATIONS  # fmt: skip


@dataclass(frozen=True)
class Weather:
    """How bad it is, drawn from the seed."""

    workers: int
    controllers: int
    runs: int
    trouble_s: float
    mean_between_faults_s: float
    latency_s: float
    locks: bool
    jumps: bool
    limit_all: int | None
    limit_narrow: int | None
    schedules: bool
    limits: bool  # rates and concurrency keys

    @classmethod
    def of(cls, chance: random.Random) -> Weather:
        return cls(
            workers=chance.randint(3, 5),
            controllers=chance.randint(1, 2),
            runs=chance.randint(4, 7),
            trouble_s=chance.uniform(60, 300),
            mean_between_faults_s=chance.choice([6, 12, 25]),
            latency_s=chance.choice([0.001, 0.02, 0.2]),
            locks=chance.random() < 0.25,
            jumps=chance.random() < 0.4,
            limit_all=chance.choice([None, None, 2, 4]),
            limit_narrow=chance.choice([None, 1, 2]),
            schedules=chance.random() < 0.5,
            limits=chance.random() < 0.6,
        )


class SimStore:
    """A process's own handle on the store: the real one, behind latency and faults."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self._inner = SQLiteStore(world.path, clock=world.clock, inline=True)
        self.severed = False
        self.lock_paths: list[str] = []
        self.worker: int | None = None

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def lock_folder(self) -> Path | None:
        return self._inner.lock_folder if self._world.weather.locks else None

    @property
    def workspace_folder(self) -> Path | None:
        return self._inner.workspace_folder

    async def __aenter__(self) -> Self:
        await self._inner.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sever()

    def sever(self) -> None:
        """The process is gone, and its handle with it."""
        if not self.severed:
            self.severed = True
            self._inner._engine._open = False
            self._inner._engine._disconnect()

    async def wait_for_news(self, timeout_s: float) -> None:
        await asyncio.sleep(timeout_s * self._world.chance.random())

    def renew_lease(self, worker: int, lease_us: int, sample: Sample | None) -> bool:
        self._check()
        fault = self._world.draw_fault("renew_lease")
        if fault == "before":
            raise StoreUnavailable("the store does not answer")
        if fault == "late":
            self._later(lambda: self._inner.renew_lease(worker, lease_us, sample), "renew_lease")
        renewed = self._inner.renew_lease(worker, lease_us, sample)
        self._world.committed(self._process, "renew_lease", (worker,), renewed)
        if fault == "after":
            raise StoreUnavailable("nobody knows whether the lease was renewed")
        return renewed

    def commit_now(self, changes: Sequence[Change]) -> None:
        """There is latency: nothing happens at once."""

    def commit_soon(self, change: Change, answered: Callable[..., None]) -> bool:
        """Everything comes through `commit`."""
        return False

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._inner, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            return await self._operate(name, inner, arguments, options)

        setattr(self, name, call)
        return call

    async def _operate(
        self, name: str, inner: Callable[..., Awaitable[Any]], arguments: Any, options: Any
    ) -> Any:
        world = self._world
        self._check()
        await asyncio.sleep(world.latency_s())
        self._check()
        if name == "register_worker" and arguments[0].lock_path is not None:
            self.lock_paths.append(arguments[0].lock_path)
        fault = world.draw_fault(name)
        if fault == "before":
            raise StoreUnavailable("the store does not answer")
        if fault == "late":
            # What the position guards may land late, when the writer is trying again already.
            late = [change for change in arguments[0] if change.entries]
            self._later(lambda: self._inner._engine._commit(late), name, (late,))
        try:
            answer = await inner(*arguments, **options)
        except HoldfastError:
            world.committed(self._process, name, arguments, None)
            raise
        if name in WRITES:
            world.committed(self._process, name, arguments, answer)
        if name == "register_worker":
            self.worker = answer
        await asyncio.sleep(world.latency_s())
        self._check()
        if fault == "after":
            raise StoreUnavailable("nobody knows what became of it")
        return answer

    def finish_renewal(self) -> None:
        """The process was stopped in the midst of renewing its lease, and now goes on."""
        if self.worker is not None and not self.severed:
            renewed = self._inner.renew_lease(self.worker, LEASE_US, None)
            self._world.committed(self._process, "renew_lease", (self.worker,), renewed)

    def _later(self, deed: Callable[[], Any], name: str, arguments: Any = ()) -> NoReturn:
        """The deed is done, but long after its caller was told that it failed."""

        def do() -> None:
            if not self.severed:
                self._world.committed(self._process, name, arguments, deed())

        world = self._world
        seconds = world.chance.choice([0.01, 0.1, 1.0] if name == "commit" else [1.0, 40.0])
        world.loop.call_later(seconds, do, context=world.loop.outside())
        raise StoreUnavailable("the store does not answer, and does it all the same")

    def _check(self) -> None:
        if self.severed:
            raise StoreUnavailable("this process is gone")


class SimHeart:
    """The real heart, beating in a simulated thread: it stops with its process, but not with a blocked event loop."""

    def __init__(self, world: World, store: SimStore, key: int, on_lost: Callable[[], None]) -> None:
        self._world = world
        self._heart = Heart(
            store, key, clock=world.clock, on_lost=on_lost, end_process=_never, chance=world.chance.random
        )
        self._process = Process(f"heart {key}", current_process.get())

    @property
    def trusted(self) -> bool:
        return self._heart.trusted

    @property
    def sample(self) -> Sample | None:
        return self._heart.sample

    def start(self) -> None:
        self._world.loop.spawn(self._process, self._beat())

    def stop(self) -> None:
        self._heart.stop()

    def beat(self) -> None:
        self._heart.beat()

    def take_warning(self) -> str | None:
        return self._heart.take_warning()

    async def _beat(self) -> None:
        while not self._heart._stopped.is_set():
            pause_s = self._heart.tick()
            await asyncio.sleep(4.0 if pause_s == 1.0 else pause_s)
        self._world.loop.bury(self._process)


def _never(code: int) -> None:
    raise LawBroken(f"a heart ended its process with {code}")


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.loop = VirtualLoop(f"{seed} order")
        self.clock = VirtualClock(self.loop)
        self.path = blank.lay(folder / "sim.db")
        self.chance = random.Random(f"{seed} chance")
        self.faults = random.Random(f"{seed} faults")
        self.limits = random.Random(f"{seed} limits")
        self.weather = Weather.of(random.Random(f"{seed} weather"))
        self._roles = random.Random(f"{seed} roles")
        self.calm = False
        self.closing = False
        self.trace = hashlib.sha256()
        self.story: list[str] | None = None
        self.counts: dict[str, int] = {}
        self.plays: dict[str, list[Line]] = {}
        self.effects: dict[tuple[str, str], str] = {}
        self._laws: Laws | None = None
        self._timetable: timetable.TimetableLaws | None = None
        self._kept = asyncio.Event()
        self._schedules = timetable.schedules(random.Random(f"{seed} schedules"))
        self._marks = 0
        self._bad_until = 0.0
        self._slow_until = 0.0
        self._most_ahead_us = 0
        self._crews: dict[str, Crew] = {}

    # --- the stage of the agents ----------------------------------------------------------------------------

    @property
    def laws(self) -> Laws:
        assert self._laws is not None
        return self._laws

    def mark(self, tag: str) -> str:
        self._marks += 1
        return f"<{tag}|{self._marks}>"

    def entered(self, life: Life) -> None:
        self._holds(lambda: self.laws.entered(life))

    def started(self, life: Life, tag: str) -> None:
        self.note(f"{life.run} executes {tag} in attempt {life.token}")
        self._holds(lambda: self.laws.started(life, tag))

    def begun(self, life: Life, tag: str) -> None:
        self._holds(lambda: self.laws.begun(life, tag))

    def happened(self, life: Life, tag: str) -> str:
        """An effect: the world remembers the first."""
        self.note(f"{life.run} does {tag} in attempt {life.token}")
        return self.effects.setdefault((life.run, tag), self.mark(tag))

    def undone(self, run: str, tag: str) -> None:
        """Somebody is about to say that nothing was done: the body may begin once more."""
        self.laws.by_id[run].words[tag] += 1

    def found(self, run: str, tag: str) -> str | None:
        """What an effect left; whoever finds nothing says so."""
        what = self.effects.get((run, tag))
        if what is None:
            self.undone(run, tag)
        return what

    def began(self, life: Life, tag: str) -> None:
        quick = self.loop.time() > max(self._slow_until, self._bad_until) + 20
        in_time = quick and self.weather.latency_s <= 0.02
        self._holds(lambda: self.laws.limit_laws.began(life.key, tag, in_time=in_time))

    def saw(self, life: Life, tag: str, what: str) -> None:
        self.note(f"{life.run} sees {what} in attempt {life.token}")
        self._holds(lambda: self.laws.saw(life, tag, what))

    def supposed(self, life: Life, tag: str, what: str, *, recorded: str | None = None) -> None:
        life.supposed.append((tag, what, recorded))

    def awoke(self, life: Life, tag: str) -> None:
        self._holds(lambda: self.laws.awoke(life, tag))

    # --- what happens, and whether it may --------------------------------------------------------------------

    def note(self, what: str) -> None:
        """A line of the trace."""
        line = f"{self.loop.time():.6f} {current_process.get(self.loop.world).name}: {what}"
        self.trace.update(line.encode())
        if self.story is not None:
            self.story.append(line)

    def committed(self, process: Process, operation: str, arguments: Any, answer: object) -> None:
        def check() -> None:
            if self.laws.check(operation, arguments, answer):
                self.note(f"{operation} {_told(answer)}")
                if self._timetable is not None and operation in timetable.OPERATIONS:
                    self._timetable.check()
                    self.count(operation)

        self._holds(check)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _holds(self, check: Callable[[], None]) -> None:
        """Whatever the code around it would do with the exception, it ends the simulation."""
        try:
            check()
        except AssertionError as error:
            self.note(f"BROKEN {error}")
            self.loop.failure = self.loop.failure or error

    def latency_s(self) -> float:
        slow = 40.0 if self.loop.time() < self._slow_until else 1.0
        return self.chance.expovariate(1 / (self.weather.latency_s * slow))

    def draw_fault(self, operation: str) -> str | None:
        """What becomes of an operation: None, an error before it or after it, or that it is done late."""
        if self.calm:
            return None
        odds = 0.5 if self.loop.time() < self._bad_until else 0.015
        drawn = self.chance.random()
        if drawn >= odds:
            return None
        self.count("store errors")
        if operation in ("commit", "renew_lease") and drawn < odds / 4:
            return "late"
        return "before" if drawn < odds / 2 else "after"

    # --- running it -----------------------------------------------------------------------------------------

    def run(self) -> None:
        """From the first start to the last end. Raises LawBroken."""
        asyncio.set_event_loop(self.loop)
        control = {name: getattr(holdfast.controller, name) for name in CONTROL}
        logs = logging.getLogger("holdfast")
        level, errors = logs.level, _Errors(self)
        logs.addHandler(errors)
        logs.setLevel(logging.ERROR)
        stage = agents.stage.set(self)
        try:
            vars(holdfast.controller).update(CONTROL)
            self.loop.run_until_complete(self._run())
        finally:
            self._clean_up()
            agents.stage.reset(stage)
            vars(holdfast.controller).update(control)
            logs.setLevel(level)
            logs.removeHandler(errors)

    async def _run(self) -> None:
        async with SQLiteStore(self.path, clock=self.clock, inline=True) as quiet:
            self._laws = Laws(self.path, self.clock)
            weather = self.weather
            for name, limit in (("*", weather.limit_all), ("narrow", weather.limit_narrow)):
                if limit is not None:
                    await quiet.limit_queue(name, limit)
                    self.laws.limits[name] = limit
            for number in range(weather.workers):
                self._crew(f"worker {number}", self._work)
            for number in range(weather.controllers):
                self._crew(f"controller {number}", self._control)
            if weather.schedules:
                self._timetable = timetable.TimetableLaws(self.path, self.clock)
                self._crew("timetable", self._keep)
            self._crew("client", self._steer)
            await self._trouble()
            await self._heal(quiet)
            self.laws.check_repeats()
            if self._timetable is not None:
                self._timetable.check()

    def _crew(self, name: str, body: Callable[[SimStore], Coroutine[Any, Any, None]]) -> None:
        crew = self._crews[name] = Crew(self, name, body)
        crew.start()

    def _clean_up(self) -> None:
        """End what is left, without letting it touch the store any more."""
        self.closing = True
        for crew in self._crews.values():
            crew.sever()
        self.loop.exhume()
        while left := asyncio.all_tasks(self.loop):
            self.loop.failure = None
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(5))
        for laws in (self._laws, self._timetable):
            if laws is not None:
                laws.close()
        asyncio.set_event_loop(None)
        self.loop.close()

    # --- the processes --------------------------------------------------------------------------------------

    async def _work(self, store: SimStore) -> None:
        name = current_process.get().name
        worker = Worker(
            store,  # type: ignore[arg-type]
            [*AGENTS, timetable.chime, timetable.echo],
            capacity=self.chance.randint(1, 3),
            name=name,
            clock=self.clock,
            pace=PACE,
            chance=self.chance.random,
            heart=lambda key, on_lost: SimHeart(self, store, key, on_lost),
        )
        self._crews[name].worker = worker
        await worker.run()

    async def _control(self, store: SimStore) -> None:
        await Controller(store, chance=self.chance.random).run()  # type: ignore[arg-type]

    async def _keep(self, store: SimStore) -> None:
        """The one who adds schedules and steers them."""
        client = Client(store)  # type: ignore[arg-type]
        await timetable.keep(client, self._schedules, self.faults, lambda: self.calm, self.surely)
        self._kept.set()
        await asyncio.sleep(100 * LIVENESS_S)

    async def _steer(self, store: SimStore) -> None:
        """The client: starts runs, and does to them what people do."""
        client = Client(store)  # type: ignore[arg-type]
        started: list[RunHandle[list[str]]] = []
        chance = self.faults
        for number in range(self.weather.runs):
            await asyncio.sleep(chance.uniform(0, 10))
            agent = chance.choice([agents.play, agents.play, agents.hurried])
            setup, plan = write_play(chance, groups=self.seed >= GROUPS_FROM)
            for line in (*setup, *plan):  # a chance of its own: the other lines are those of the seed
                if self.seed >= GROUPS_FROM and line.kind in ("step", "named") and self._roles.random() < 0.6:
                    line.kind, line.seconds = self._roles.choice(["effect", "verified"]), 8.0
            lane = self._limit([*setup, *plan])
            run_id = f"run-{number}"
            self.plays[run_id] = [*setup, *plan]
            priority, delay = chance.randint(-5, 5), chance.choice([0, 0, 20])
            handle = await self.surely(
                lambda a=agent, s=setup, p=plan, i=run_id, o=priority, d=delay, c=lane: client.start(  # type: ignore[misc]
                    a, s, p, id=i, priority=o, delay=d, concurrency=c
                )
            )
            started.append(handle)
        while not self.calm:
            await asyncio.sleep(chance.expovariate(1 / 8))
            handle: RunHandle[Any] = chance.choice(started)
            if chance.random() < 0.2:
                kin = await self.surely(lambda i=handle.id: store.list_children([i], 100))  # type: ignore[misc]
                handle = client.handle(agents.errand, chance.choice(kin).run.id) if kin else handle
            await self._poke(handle)
        await asyncio.sleep(100 * LIVENESS_S)  # it stays, and does nothing more

    def _limit(self, lines: list[Line]) -> Concurrency | None:
        """Put some of the lines under a rate, and perhaps the run under a key: drawn apart, so that seeds stay."""
        if not self.weather.limits:
            return None
        for line in lines:
            if line.kind in ("step", "named") and self.limits.random() < 0.7:
                line.kind = "paced"
        return self.limits.choice(
            [None, Concurrency("a"), Concurrency("a"), Concurrency("a", 2), Concurrency("b", 2)]
        )

    async def _poke(self, handle: RunHandle[list[str]]) -> None:
        deeds = [
            handle.pause,
            handle.resume,
            handle.resume,
            handle.retry,
            handle.retry,
            lambda: self.settle(handle),
            *[self.news(handle)] * 5,
            *[self.answer(handle)] * 3,
        ]
        self.count("deeds")
        try:
            if self.faults.random() < 0.03:
                cancelled = await self.surely(handle.cancel)
                self._holds(lambda: self._is_cancelled(cancelled))
            else:
                await self.surely(self.faults.choice(deeds))
        except Refused:
            pass  # people ask for what cannot be, too

    @staticmethod
    def _is_cancelled(run: RunView) -> None:
        if run.state != "cancelled":
            raise LawBroken(f"run {run.id} was cancelled, and is {run.state}")

    def news(self, handle: RunHandle[list[str]]) -> Callable[[], Awaitable[Any]]:
        """Send a signal, once however often it is tried."""
        mark = self.mark("news")
        return lambda: handle.signal("news", mark, dedup=mark)

    async def settle(self, handle: RunHandle[list[str]]) -> None:
        """Say what became of the effect that the run is held for."""
        failure = (await handle.detail()).failure
        for effect in await handle.effects():
            if failure is not None and effect.n in failure.entries and effect.state == "unknown":
                what = self.found(handle.id, effect.name)
                self.count("verdicts")
                await handle.settle_effect(effect.n, Done(what) if what is not None else NotDone())

    def answer(self, handle: RunHandle[list[str]]) -> Callable[[], Awaitable[Any]]:
        """Answer a question of the run, also one that is over. What was taken is what was said."""
        comment, drawn = self.mark("answer"), self.faults.random()

        async def give() -> None:
            asked = await handle.approvals()
            if not asked:
                return
            view = asked[int(drawn * len(asked))]
            choice = "yes" if drawn * 7 % 1 < 0.5 else "no"
            answered = await handle.approve(choice, question=view, by="someone", comment=comment)
            self.count("answers")
            self._holds(lambda: self._is_answered(answered, choice))

        return give

    @staticmethod
    def _is_answered(view: ApprovalView, choice: str) -> None:
        if view.choice != choice:
            raise LawBroken(f"question {view.n} of {view.run} took {choice!r}, and has {view.choice!r}")

    async def surely(self, deed: Callable[[], Awaitable[Any]]) -> Any:
        """Do it until the store answers."""
        while True:
            try:
                return await deed()
            except StoreUnavailable:
                await asyncio.sleep(1.0)

    # --- the faults -----------------------------------------------------------------------------------------

    async def _trouble(self) -> None:
        chance, weather = self.faults, self.weather
        faults = [
            self._crash,
            self._crash,
            self._stop,
            self._block,
            self._drain,
            self._bad_store,
            self._slow_store,
        ]
        if weather.jumps:
            faults.append(self._jump)
        while self.loop.time() < weather.trouble_s:
            await asyncio.sleep(chance.expovariate(1 / weather.mean_between_faults_s))
            chance.choice(faults)()

    def _any_crew(self) -> Crew:
        return self.faults.choice(list(self._crews.values())[:-1])

    def _crash(self) -> None:
        crew = self._any_crew()
        self._fault("crash", crew.name)
        crew.crash(back_after_s=self.faults.choice([0.1, 5, 40]))

    def _stop(self) -> None:
        crew = self._any_crew()
        self._fault("stop", crew.name)
        crew.stop(self.faults.choice([5, 26, 31, 60, 120]))

    def _block(self) -> None:
        crew = self._any_crew()
        self._fault("block", crew.name)
        crew.block(self.faults.choice([5, 40]))

    def _drain(self) -> None:
        crew = self._any_crew()
        self._fault("drain", crew.name)
        crew.drain()

    def _bad_store(self) -> None:
        self._fault("bad store", "")
        self._bad_until = self.loop.time() + self.faults.choice([1, 10, 40])

    def _slow_store(self) -> None:
        self._fault("slow store", "")
        self._slow_until = self.loop.time() + self.faults.choice([10, 40])

    def _jump(self) -> None:
        self._fault("jump", "")
        self.clock.jump(self.faults.choice([-3_600, -60, 60, 3_600]))
        self._most_ahead_us = max(self._most_ahead_us, self.clock.ahead_us)

    def _fault(self, what: str, whom: str) -> None:
        self.count(what)
        self.note(f"FAULT {what} {whom}")

    # --- afterwards -----------------------------------------------------------------------------------------

    async def _heal(self, quiet: SQLiteStore) -> None:
        """No more faults; people do what runs wait for. Every run ends in time."""
        self.note("CALM")
        self.calm = True
        self._bad_until = self._slow_until = 0.0
        self.clock.ahead_us = self._most_ahead_us  # times stored while the clock was ahead come true
        for crew in self._crews.values():
            crew.resume()
        client, ends_at = Client(quiet), self.loop.time() + LIVENESS_S
        if self._timetable is not None:
            await self._end_schedules(client)
        while True:
            await asyncio.sleep(15)
            runs = await quiet.list_runs(RunFilter(limit=1_000))
            left = [run for run in runs if not self._is_over(run)]
            if not left and sum(run.id in self.plays for run in runs) == self.weather.runs:
                break
            if self.loop.time() > ends_at:
                stuck = ", ".join(f"{run.id} {run.state} ({run.reason})" for run in left)
                raise LawBroken(f"not over {LIVENESS_S} s after the last fault: {stuck or 'the client'}")
            for run in left:
                await self._help(run, client.handle(agents.play, run.id))
        for run in runs:
            if run.state is RunState.SUCCEEDED and run.id in self.plays:
                tags = [line.tag for line in self.plays[run.id] if line.kind != "checkpoint"]
                self.laws.check_result(run.id, tags, await client.handle(agents.play, run.id).result())

    async def _end_schedules(self, client: Client) -> None:
        """Whatever befell them, schedules that are not paused meet their times; then they come to rest."""
        await self._kept.wait()  # a deed of its keeper's may be under way
        for schedule in self._schedules:
            await client.schedules.resume(schedule.name)
        await asyncio.sleep(120)
        now_us = self.clock.wall_us()
        for found in await client.store.list_schedules():
            if found.wake_us is not None and found.wake_us < now_us - SETTLED_US:
                raise LawBroken(f"schedule {found.name} was to be met {now_us - found.wake_us} µs ago")
            await client.schedules.pause(found.name)
        self.committed(self.loop.world, "pause_schedule", (), None)

    def _is_over(self, run: Run) -> bool:
        if run.state is RunState.FAILED:
            assert run.failure is not None
            return run.failure.type == "DeadlinePassed"
        return run.state.final

    async def _answer_all(self, handle: RunHandle[list[str]]) -> None:
        for view in await handle.approvals():
            if view.status == "open":
                await handle.approve("yes", question=view, by="helper", comment=self.mark("answer"))

    async def _help(self, run: Run, handle: RunHandle[list[str]]) -> None:
        deed: Callable[[], Awaitable[Any]] | None = None
        if run.state is RunState.FAILED or run.reason == "poison":
            deed = handle.retry
        elif run.reason in ("paused", "parked"):
            deed = handle.resume
        elif run.reason == "effect_unknown":
            deed = lambda: self.settle(handle)
        elif run.reason == "signal":
            deed = self.news(handle)
        elif run.reason == "approval":
            deed = partial(self._answer_all, handle)
        if deed is None:
            return
        try:
            await deed()
        except Refused:
            pass  # it moved on meanwhile
        finally:
            self.committed(self.loop.world, "update_run", (), None)


class Crew:
    """A process that is started again whenever it ends: what a supervisor does. Its names repeat."""

    def __init__(
        self, world: World, name: str, body: Callable[[SimStore], Coroutine[Any, Any, None]]
    ) -> None:
        self.name = name
        self.worker: Worker | None = None
        self._world = world
        self._body = body
        self._process = Process(name)
        self._stores: list[SimStore] = []

    def start(self) -> None:
        """Begin a new process of this name."""
        self._process = Process(self.name)
        self._world.loop.spawn(self._process, self._live(self._process))

    async def _live(self, process: Process) -> None:
        store = SimStore(self._world, process)
        self._stores.append(store)
        try:
            async with store:
                await self._body(store)
        except (StoreError, WorkerStuck, BaseExceptionGroup) as error:
            self._world.note(f"ended: {error}")
            if not self._world.closing and not _excused(error):
                self._world.loop.failure = self._world.loop.failure or error
        if not self._world.closing:
            self._world.loop.bury(process)
            self.worker = None
            self._start_after(self._world.faults.choice([0.1, 10]))

    def _start_after(self, seconds: float) -> None:
        self._world.loop.call_later(seconds, self.start, context=self._world.loop.outside())

    def crash(self, back_after_s: float) -> None:
        """kill -9: nothing of it runs again, and the kernel frees its locks."""
        if self._process.killed or self._process not in self._world.loop.processes:
            return  # it is down already
        self._process.killed = True
        self._world.loop.bury(self._process)
        self.sever()
        self._start_after(back_after_s)

    def stop(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        process = self._process
        process.stopped = True
        if self._world.faults.random() < 0.3 and self._stores:
            self._world.loop.call_later(
                seconds, self._stores[-1].finish_renewal, context=self._world.loop.outside()
            )
        self._world.loop.call_later(
            seconds, setattr, process, "stopped", False, context=self._world.loop.outside()
        )

    def block(self, seconds: float) -> None:
        """Code that holds the event loop: the heart, a thread, beats on."""
        process = self._process
        process.blocked = True
        self._world.loop.call_later(
            seconds, setattr, process, "blocked", False, context=self._world.loop.outside()
        )

    def drain(self) -> None:
        """SIGTERM."""
        if self.worker is not None:
            self.worker.drain()

    def resume(self) -> None:
        """End a stop or a block."""
        self._process.stopped = self._process.blocked = False

    def sever(self) -> None:
        """What is left of its processes touches the store no more, and holds no lock."""
        paths = {path for store in self._stores for path in store.lock_paths}
        for store in self._stores:
            store.sever()
        self._stores.clear()
        for lock in list(holdfast.heart._locks) if paths else ():
            if str(lock.path) in paths:
                lock.forget()


def _excused(error: BaseException) -> bool:
    """Whether a process may end by it: its store failed it, or its code did not listen."""
    if isinstance(error, BaseExceptionGroup):
        return all(_excused(one) for one in error.exceptions)
    return isinstance(error, StoreError | WorkerStuck)


def _told(answer: object) -> str:
    """An answer of the store, for the trace: without what differs between two runs of one seed."""
    match answer:
        case list():
            return " ".join(_told(one) for one in answer)
        case Run():
            return f"{answer.id} is {answer.state} ({answer.reason}) {answer.token}/{answer.position}/{answer.event_no}"
        case Claim(run=run) | Created(run=run):
            return _told(run)
        case _:
            return str(answer)


LINES: Final = (
    "step", "step", "step", "named", "once", "flaky", "fatal", "fragile", "hasty", "hasty", "sleep", "signal",
    "impatient", "chance", "stumble", "checkpoint", "checkpoint", "checkpoint", "approval", "approval", "brief",
    *CHILDREN,
)  # fmt: skip


GROUPS: Final = ("map", "map with failures", "hasty map", "race", "branches")
GROUPS_FROM: Final = 500
"""Plays of earlier seeds have no groups and no effects, so that those which failed once still are what they were."""


def write_play(chance: random.Random, *, groups: bool) -> tuple[list[Line], list[Line]]:
    """A setup and a plan."""
    lines = LINES + 2 * GROUPS if groups else LINES
    setup = [
        Line(chance.choice(LINES[:8]), f"setup-{n}", chance.uniform(0, 8))
        for n in range(chance.randint(0, 2))
    ]
    plan = [
        Line(chance.choice(lines), f"line-{n}", round(chance.choice([0.0, 0.5, 2.0, 6.0, 20.0]), 3))
        for n in range(chance.randint(3, 14))
    ]
    return setup, plan


class _Errors(logging.Handler):
    """An error that the engine logs is one that it did not expect."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        failure = LawBroken(f"the engine logged: {record.getMessage()}")
        failure.__cause__ = record.exc_info[1] if record.exc_info else None
        self._world.loop.failure = self._world.loop.failure or failure
