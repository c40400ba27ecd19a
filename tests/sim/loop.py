"""Virtual time and a seeded order: several simulated processes on one event loop, none of them ever waiting.

Laws of this file:
1. Within a process callbacks run in the order in which they were scheduled, as asyncio promises; between processes
   the seed decides who is next, after every single callback.
2. Time moves only when nobody can run, and then to the next timer.
3. A process that is killed or stopped runs nothing: no `finally`, no `except`. What became due meanwhile is kept,
   and runs when the process is continued.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections import deque
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

BOOTED_US = 1_000_000_000
WALL_US = 1_700_000_000_000_000


class Process:
    """What the operating system would kill or stop as a whole. A thread of it is a process with a parent."""

    def __init__(self, name: str, parent: Process | None = None) -> None:
        self.name = name
        self.parent = parent
        self.blocked = False  # code holds its event loop; its threads go on
        self.stopped = False
        self.killed = False
        self.ready: deque[asyncio.Handle] = deque()

    @property
    def frozen(self) -> bool:
        """Whether nothing of it runs, threads included."""
        return self.stopped or self.killed or (self.parent is not None and self.parent.frozen)

    @property
    def runs(self) -> bool:
        """Whether its callbacks are executed now."""
        return not (self.blocked or self.frozen)


current_process: ContextVar[Process] = ContextVar("sim_process")


class _Ready:
    """Takes the place of a loop's queue of callbacks: each goes to the queue of its process."""

    def __init__(self, world: Process) -> None:
        self._world = world
        self.busy: list[Process] = []  # those that have something to run, in the order in which they got it

    def append(self, handle: asyncio.Handle) -> None:
        process = handle._context.get(current_process, self._world)
        if not process.ready:
            self.busy.append(process)
        process.ready.append(handle)

    def take(self, process: Process) -> asyncio.Handle:
        handle = process.ready.popleft()
        if not process.ready:
            self.busy.remove(process)
        return handle

    def clear(self) -> None:
        for process in self.busy:
            process.ready.clear()
        self.busy.clear()

    def __len__(self) -> int:
        return len(self.busy)


class _SimTask(asyncio.Task[Any]):
    """Sets of tasks are iterated by hash; an address would make the order differ from process to process."""

    def __init__(self, coroutine: Any, *, loop: SimLoop, **options: Any) -> None:
        self._number = loop.next_number()
        super().__init__(coroutine, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number


class _SimFuture(asyncio.Future[Any]):
    def __init__(self, *, loop: SimLoop) -> None:
        self._number = loop.next_number()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class SimLoop(asyncio.BaseEventLoop):
    """The event loop of a simulation."""

    def __init__(self, seed: str) -> None:
        super().__init__()
        self.world = Process("world")
        self.processes = [self.world]
        self.buried: list[Process] = []
        self.failure: BaseException | None = None
        self.callbacks = 0
        self._ready: Any = _Ready(self.world)
        self._random = random.Random(seed).random
        self._now = 0.0
        self._numbers = 0
        self.set_task_factory(lambda loop, coroutine, **options: _SimTask(coroutine, loop=loop, **options))

    def time(self) -> float:
        return self._now

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def create_future(self) -> asyncio.Future[Any]:
        return _SimFuture(loop=self)

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

    # --- what asyncio asks of a loop ------------------------------------------------------------------------

    def _run_once(self) -> None:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if self._scheduled and self._scheduled[0]._when <= self._now:
            self._take_due()
        awake = [process for process in self._ready.busy if process.runs]
        if awake:
            process = awake[int(self._random() * len(awake))] if len(awake) > 1 else awake[0]
            handle = self._ready.take(process)
            if not handle._cancelled:
                self.callbacks += 1
                handle._run()
        elif self._scheduled:
            self._now = max(self._now, self._scheduled[0]._when)
        else:
            raise RuntimeError(
                "nothing is ready and nothing is scheduled: the simulation would wait for ever"
            )

    def _take_due(self) -> None:
        scheduled = self._scheduled
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= self._now):
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if handle._cancelled:
                self._timer_cancelled_count -= 1
            else:
                self._ready.append(handle)

    def _write_to_self(self) -> None:
        """There is no selector to wake."""

    def _process_events(self, event_list: object) -> None:
        """There are no files."""


class SimClock:
    """The machine's clocks: both run with the loop; the wall clock jumps, the time since boot never does."""

    def __init__(self, loop: SimLoop) -> None:
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
