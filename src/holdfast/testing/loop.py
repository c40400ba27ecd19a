"""Virtual time and a seeded order: several simulated processes on one event loop, none of them ever waiting.

Laws of this file:
1. Within a process callbacks run in the order in which they were scheduled, as asyncio promises; between processes
   the seed decides who is next, after every single callback. In a shuffled loop it decides between tasks, too, of
   whose order asyncio promises nothing.
2. Time moves only when nobody can run, and then to the next timer. While a thread or a child process works it goes
   at its usual pace: what is real takes real time.
3. A process that is killed or stopped runs nothing: no `finally`, no `except`. What became due meanwhile is kept,
   and runs when the process is continued.
"""

# ruff: noqa: ANN401 - what asyncio keeps to itself has no declared types

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, TypeVarTuple

from holdfast import threads

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
Handle: TypeAlias = Any
"""An asyncio.Handle, of which the loop needs more than is declared."""

BOOTED_US: Final = 1_000_000_000
WALL_US: Final = 1_700_000_000_000_000
QUIET_S: Final = 1.0
"""How long open connections may be silent, in real seconds, before time moves on without them."""
PACE_S: Final = 0.05
"""How long one look at what works outside may take."""
LOOK_EVERY: Final = 64
"""Callbacks between two looks at files: who is always busy must hear of them, too."""


class Process:
    """What the operating system would kill or stop as a whole. A thread of it is a process with a parent."""

    def __init__(self, name: str, parent: Process | None = None) -> None:
        self.name = name
        self.parent = parent
        self.blocked = False  # code holds its event loop; its threads go on
        self.stopped = False
        self.killed = False
        self.ready: deque[Handle] = deque()

    @property
    def frozen(self) -> bool:
        """Whether nothing of it runs, threads included."""
        return self.stopped or self.killed or (self.parent is not None and self.parent.frozen)

    @property
    def runs(self) -> bool:
        """Whether its callbacks are executed now. Asked of each busy process before every callback."""
        parent = self.parent
        return not (self.blocked or self.stopped or self.killed or (parent is not None and parent.frozen))


current_process: ContextVar[Process] = ContextVar("sim_process")


class _Ready:
    """Takes the place of a loop's queue of callbacks: each goes to the queue of its process."""

    def __init__(self, world: Process) -> None:
        self._world = world
        self.busy: list[Process] = []  # those that have something to run, in the order in which they got it

    def append(self, handle: Handle) -> None:
        process = handle._context.get(current_process, self._world)
        if not process.ready:
            self.busy.append(process)
        process.ready.append(handle)

    def take(self, process: Process, draw: Callable[[], float] | None) -> Handle:
        """The next callback of the process; with `draw`, one of those whose turn it could be."""
        ready = process.ready
        if draw is None or len(ready) == 1:
            handle = ready.popleft()
        else:
            movable = _movable(ready)
            at = movable[int(draw() * len(movable))]
            handle = ready[at]
            del ready[at]
        if not ready:
            self.busy.remove(process)
        return handle

    def clear(self) -> None:
        for process in self.busy:
            process.ready.clear()
        self.busy.clear()

    def __len__(self) -> int:
        return len(self.busy)


def _movable(ready: deque[Handle]) -> list[int]:
    """Which of the callbacks may be next: the turn of any task, and the first of all others."""
    found: list[int] = []
    others = False
    for number, handle in enumerate(ready):
        if isinstance(getattr(handle._callback, "__self__", None), asyncio.Task):
            found.append(number)
        elif not others:
            others = True
            found.append(number)
    return found


class _Task(asyncio.Task[Any]):
    """Sets of tasks are iterated by hash; an address would make the order differ from process to process."""

    def __init__(self, coroutine: Any, *, loop: VirtualLoop, **options: Any) -> None:
        self._number = loop.next_number()
        super().__init__(coroutine, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[Any]):
    def __init__(self, *, loop: VirtualLoop) -> None:
        self._number = loop.next_number()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while nobody has anything to do. One seed is one order of everything."""

    _ready: Any
    _scheduled: list[Any]
    _selector: Any
    _timer_cancelled_count: int
    if TYPE_CHECKING:

        def _write_to_self(self) -> None: ...

        def _process_events(self, event_list: object) -> None: ...

    def __init__(self, seed: str, *, shuffled: bool = False) -> None:
        super().__init__()
        self.world = Process("world")
        self.processes = [self.world]
        self.buried: list[Process] = []
        self.failure: BaseException | None = None
        self.callbacks = 0
        self._ready = _Ready(self.world)
        self._random = random.Random(seed).random
        self._draw = self._random if shuffled else None
        self._now = 0.0
        self._numbers = 0
        self._from_threads: deque[Handle] = deque()
        self._thread_calls = 0
        self._children: list[asyncio.SubprocessTransport] = []
        self.set_task_factory(self._new_task)

    def _new_task(self, _: object, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        return _Task(coroutine, loop=self, **options)

    def time(self) -> float:
        return self._now

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self)

    def spawn(self, process: Process, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a process, or another task of it."""
        if process not in self.processes:
            self.processes.append(process)
        context = contextvars.copy_context()
        context.run(current_process.set, process)
        return self.create_task(coroutine, name=process.name, context=context)

    def bury(self, process: Process) -> None:
        """A process ended, or was killed, and its threads with it: the order of the others needs it no more."""
        self.buried += [one for one in self.processes if process in (one, one.parent)]
        self.processes[:] = [one for one in self.processes if process not in (one, one.parent)]

    def exhume(self) -> None:
        """Let everything run again, so that it can be cleaned up."""
        self.processes += self.buried
        for process in self.processes:
            process.blocked = process.stopped = process.killed = False

    def outside(self) -> contextvars.Context:
        """The context of what happens to processes, rather than in them."""
        context = contextvars.copy_context()
        context.run(current_process.set, self.world)
        return context

    # --- what is real -----------------------------------------------------------------------------------------

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._from_threads.append(handle)  # queues are touched by the loop's thread alone
        self._write_to_self()
        return handle

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], R], *args: *Ts
    ) -> asyncio.Future[R]:
        future = super().run_in_executor(executor, func, *args)
        self._thread_calls += 1
        future.add_done_callback(self._thread_ended, context=self.outside())
        return future

    def _thread_ended(self, _: object) -> None:
        self._thread_calls -= 1

    async def shutdown_default_executor(self, *args: Any) -> None:
        self._thread_calls += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._thread_calls -= 1

    async def subprocess_exec(self, *args: Any, **options: Any) -> Any:
        started = await super().subprocess_exec(*args, **options)
        self._children.append(started[0])
        return started

    async def subprocess_shell(self, *args: Any, **options: Any) -> Any:
        started = await super().subprocess_shell(*args, **options)
        self._children.append(started[0])
        return started

    @property
    def _works_outside(self) -> bool:
        """Whether a thread or a child process is at work whose end this loop will hear of."""
        if self._thread_calls or threads.busy():
            return True
        self._children[:] = [child for child in self._children if child.get_returncode() is None]
        return bool(self._children)

    @property
    def _files(self) -> int:
        return len(self._selector.get_map()) - 1  # one is the loop's own

    def _look(self, timeout_s: float) -> bool:
        """Hear of files and threads, and say whether anything came."""
        events: list[Any] = self._selector.select(timeout_s) if timeout_s or self._files else []
        came = bool(events or self._from_threads)
        self._process_events(events)
        while self._from_threads:
            self._ready.append(self._from_threads.popleft())
        return came

    # --- what asyncio asks of a loop ------------------------------------------------------------------------

    def _run_once(self) -> None:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if self._from_threads or (self.callbacks % LOOK_EVERY == 0 and self._files):
            self._look(0)
        if self._scheduled and self._scheduled[0]._when <= self._now:
            self._take_due()
        awake = [process for process in self._ready.busy if process.runs]
        if awake:
            process = awake[int(self._random() * len(awake))] if len(awake) > 1 else awake[0]
            handle = self._ready.take(process, self._draw)
            self.callbacks += 1
            if not handle._cancelled:
                handle._run()
        else:
            self._pass_time()

    def _pass_time(self) -> None:
        """Nobody can run: on to the next timer, unless something comes from outside first."""
        next_s: float | None = max(0.0, self._scheduled[0]._when - self._now) if self._scheduled else None
        if self._works_outside:
            began_s = time.monotonic()
            if not self._look(PACE_S if next_s is None else min(PACE_S, next_s)):
                passed_s = time.monotonic() - began_s
                self._now += passed_s if next_s is None else min(passed_s, next_s)
        elif self._from_threads or (next_s != 0 and self._files and self._look(QUIET_S)):
            return  # it came while we looked elsewhere
        elif next_s is None:
            raise RuntimeError(
                "nothing is ready and nothing is scheduled: the simulation would wait for ever"
            )
        else:
            self._now += next_s

    def _take_due(self) -> None:
        scheduled = self._scheduled
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= self._now):
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if handle._cancelled:
                self._timer_cancelled_count -= 1
            else:
                self._ready.append(handle)


class VirtualClock:
    """The machine's clocks: both run with the loop; the wall clock jumps, the time since boot never does."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.ahead_us = 0
        self.jumped = False

    def jump(self, seconds: int) -> None:
        """Somebody sets the wall clock."""
        self.ahead_us += seconds * 1_000_000
        self.jumped = True

    def wall_us(self) -> int:
        return WALL_US + self.ahead_us + round(self._loop.time() * 1e6)

    def boot_us(self) -> int:
        return BOOTED_US + round(self._loop.time() * 1e6)

    def boot_id(self) -> str:
        return "this boot"
