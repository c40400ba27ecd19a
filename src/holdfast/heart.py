"""The heart: keeps a worker alive in the store from a thread apart from the event loop, and lets go in time.

Laws:
1. The worker lets go before the store does: it trusts a renewal until a margin before its end, counted from before
   the request. Local time can only make it stop earlier.
2. Lost is lost: when trust has run out there is no later renewal, and `on_lost` is called once.
3. The heart beats for a loop that lives. One that does not answer for 5 minutes ends with its process, so that its
   runs come to a worker that moves; a process that was stopped or suspended is not taken for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import random
import secrets
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol
from weakref import WeakSet

from holdfast import stirring
from holdfast.clock import Clock, SystemClock
from holdfast.model import Level, Sample
from holdfast.rules import lease as rules

STALL_WARNING_S: Final = 5
"""A loop that is silent for so long delays every run of its worker noticeably."""

STALL_END_S: Final = 300
"""Longer than any honest pause of a loop; shorter than anybody's patience with a run that does not move."""

STALL_EXIT_CODE: Final = 70
"""EX_SOFTWARE of sysexits.h: an error in the software itself."""

FIGURES_FIRST_S: Final = 2.0
"""Figures go with the renewals, and the first renewal is early for them: the CPU is known from the second sample on."""

FREED_S: Final = 0.02
"""The kernel tells that a file is closed just before it frees its lock."""

_BEAT_S: Final = 1.0
_US: Final = 1_000_000

log = logging.getLogger("holdfast.heart")


class Renews(Protocol):
    """What the heart needs of a store."""

    def renew_lease(self, worker: int, lease_us: int, sample: Sample | None) -> bool:
        """Renew the lease of this generation; False when it is retired. Blocks."""
        ...


class Samples(Protocol):
    """What the heart needs of a monitor."""

    def sample(self) -> Sample:
        """Measure now."""
        ...


class HeartLike(Protocol):
    """What a worker needs of its heart; the simulator brings one without threads."""

    @property
    def trusted(self) -> bool: ...

    @property
    def sample(self) -> Sample | None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def beat(self) -> None: ...

    def take_warning(self) -> str | None: ...


class Heart:
    """Renews one worker's lease, samples what it uses, and watches the event loop that started it.

    Made right after the worker registered, because it counts the first lease from then. `on_lost` is called once,
    from the heart's thread or from `beat`. `on_freed` is called on the loop after a worker let go of its lock in the
    folder `locks`: it died, most likely. `trusted` may be read from anywhere.
    """

    def __init__(
        self,
        store: Renews,
        worker_key: int,
        *,
        lease_s: float = rules.LEASE_S,
        renew_s: float = rules.RENEW_S,
        margin_s: float = rules.MARGIN_S,
        clock: Clock | None = None,
        monitor: Samples | None = None,
        on_lost: Callable[[], None],
        locks: Path | None = None,
        on_freed: Callable[[], None] = lambda: None,
        end_process: Callable[[int], object] = os._exit,
        chance: Callable[[], float] = random.random,  # noqa: TID251 - jitter: the default of what is an argument
    ) -> None:
        self._store = store
        self._key = worker_key
        self._lease_us = round(lease_s * _US)
        self._renew_us = round(renew_s * _US)
        self._margin_us = round(margin_s * _US)
        self._clock = clock or SystemClock()
        self._monitor = monitor
        self._on_lost = on_lost
        self._chance = chance
        now_us = self._clock.boot_us()
        self._trust_until_us = rules.trust_until_us(now_us, self._lease_us, self._margin_us)
        first_us = self._renew_us if monitor is None else min(self._renew_us, round(FIGURES_FIRST_S * _US))
        self._next_renewal_us = now_us + first_us
        self._next_sample_us = now_us
        self._failed_renewals = 0
        self._sample: Sample | None = None
        self._lost = threading.Event()
        self._telling = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._watch = LoopWatch(self._clock, end_process)
        self._locks = None if locks is None else LocksWatch(locks, on_freed)

    @property
    def trusted(self) -> bool:
        """Whether the worker may still act for its runs."""
        return not self._lost.is_set() and self._clock.boot_us() < self._trust_until_us

    @property
    def sample(self) -> Sample | None:
        """The newest sample, if there is a monitor."""
        return self._sample

    def start(self) -> None:
        """Begin to beat. Called in the event loop that is to be watched, or with no loop at all."""
        self._watch.begin()
        if self._locks is not None:
            self._locks.begin()
        self._thread = threading.Thread(target=self._run, name="holdfast-heart", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing; `on_lost` is not called after this. Idempotent; waits for a renewal under way."""
        self._stopped.set()
        if self._locks is not None:
            self._locks.end()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=self._lease_us / _US)

    def beat(self) -> None:
        """The event loop lives: to be called once a second."""
        self._watch.beat()
        self._notice_loss()

    def take_warning(self) -> str | None:
        """What the loop was found to do wrong since the last call, naming the run that held it; once."""
        return self._watch.take_warning()

    def tick(self) -> float:
        """One round: renew and sample what is due, watch the loop. Returns the seconds until the next round."""
        self._watch.look()
        if self._notice_loss():
            return _BEAT_S
        self._measure()
        if self._clock.boot_us() >= self._next_renewal_us:
            self._renew()
            self._notice_loss()
        due_s = (self._next_renewal_us - self._clock.boot_us()) / _US
        return min(_BEAT_S, max(0.01, due_s))

    def _run(self) -> None:
        pause_s = self.tick()
        while not self._stopped.wait(pause_s):
            pause_s = self.tick()

    def _renew(self) -> None:
        sent_us = self._clock.boot_us()
        try:
            renewed = self._store.renew_lease(self._key, self._lease_us, self._sample)
        except Exception as error:  # noqa: BLE001 - whatever it is: trust that runs out is the answer
            self._failed_renewals += 1
            pause_us = rules.renew_after_us(self._lease_us, failed=True)
            pause_us = min(self._renew_us, pause_us * self._failed_renewals)
            self._next_renewal_us = self._clock.boot_us() + round(pause_us * (0.5 + self._chance() / 2))
            log.warning("the lease of worker %d was not renewed: %s", self._key, error)
            return
        self._failed_renewals = 0
        self._next_renewal_us = sent_us + self._renew_us
        if renewed:
            self._trust_until_us = rules.trust_until_us(sent_us, self._lease_us, self._margin_us)
        else:
            self._trust_until_us = 0  # retired by somebody else: nothing is ours any more

    def _measure(self) -> None:
        now_us = self._clock.boot_us()
        if self._monitor is None or now_us < self._next_sample_us:
            return
        self._next_sample_us = now_us + round(0.9 * _BEAT_S * _US)
        level = self._sample.level if self._sample is not None else Level.OK
        try:
            self._sample = self._monitor.sample()
            if self._sample.level is not level:
                self._next_renewal_us = now_us  # a new verdict is told at once
        except Exception as error:  # noqa: BLE001 - figures are worth less than the lease
            log.warning("resources cannot be measured: %s: %s", type(error).__name__, error)

    def _notice_loss(self) -> bool:
        """Whether the lease is lost; the first one to see it tells."""
        if self.trusted or self._stopped.is_set():
            return self._lost.is_set()
        with self._telling:
            if not self._lost.is_set():
                self._lost.set()
                self._on_lost()
        return True


class LoopWatch:
    """Tells from outside whether an event loop still turns, and what holds it when it does not.

    Silence is counted in looks, each for two seconds at most: time in which the whole process stood still (stopped,
    suspended, swapped out) is not the loop's.
    """

    def __init__(self, clock: Clock, end_process: Callable[[int], object]) -> None:
        self._clock = clock
        self._end_process = end_process
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._beats = 0
        self._beats_seen = 0
        self._looked_us = 0
        self._silent_us = 0
        self._warned = False
        self._warning: str | None = None

    def begin(self) -> None:
        """Watch the loop that runs here, if one does."""
        self._looked_us = self._clock.boot_us()
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()

    def beat(self) -> None:
        """The loop turns."""
        self._beats += 1

    def take_warning(self) -> str | None:
        """The newest warning, once."""
        warning, self._warning = self._warning, None
        return warning

    def look(self) -> None:
        """Count the silence; keep a warning from 5 s on, end the process at 300 s."""
        now_us = self._clock.boot_us()
        passed_us = min(now_us - self._looked_us, 2 * round(_BEAT_S * _US))
        self._looked_us = now_us
        if self._loop is None:
            return
        if self._beats != self._beats_seen:
            self._beats_seen, self._silent_us, self._warned = self._beats, 0, False
            return
        self._silent_us += passed_us
        if self._silent_us >= STALL_WARNING_S * _US and not self._warned:
            self._warned = True
            self._warning = f"the event loop has not answered for {STALL_WARNING_S} s: {self._holder()}"
        if self._silent_us >= STALL_END_S * _US:
            self._end()

    def _end(self) -> None:
        message = (
            f"holdfast: the event loop has not answered for {STALL_END_S} s: {self._holder()}. This worker ends now; "
            "its runs go on elsewhere. Move blocking work into a sync step, which runs in a thread of its own.\n"
        )
        sys.stderr.write(message + "".join(self._stack()))
        sys.stderr.flush()
        self._end_process(STALL_EXIT_CODE)

    def _holder(self) -> str:
        """The task on the loop (its name says the run) and the line it is at."""
        task = asyncio.current_task(self._loop)
        who = f"{task.get_name()} holds it" if task is not None else "a callback holds it"
        stack = self._stack()
        where = stack[-1].strip().splitlines()[0].removeprefix("File ") if stack else "an unknown line"
        return f"{who} at {where}"

    def _stack(self) -> list[str]:
        frame = sys._current_frames().get(self._thread_id)  # pyright: ignore[reportPrivateUsage] - documented
        return traceback.format_stack(frame) if frame is not None else []


class LocksWatch:
    """Tells on the loop, a moment after it, that somebody let go of a lock in a folder. A hint: whoever hears nothing
    finds out at the next look."""

    def __init__(self, folder: Path, tell: Callable[[], None]) -> None:
        self._folder = folder
        self._tell = tell
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stirring: stirring.Stirring | None = None

    def begin(self) -> None:
        """Listen, if a loop runs here that can."""
        with contextlib.suppress(RuntimeError, NotImplementedError):
            self._loop = asyncio.get_running_loop()
            self._stirring = stirring.listen(self._folder, stirring.LET_GO)
            if self._stirring is not None:
                self._loop.add_reader(self._stirring.fd, self._heard, self._loop, self._stirring)

    def end(self) -> None:
        """Listen no more. On the loop; idempotent."""
        heard, self._stirring = self._stirring, None
        if self._loop is not None and heard is not None:
            self._loop.remove_reader(heard.fd)
            heard.close()

    def _heard(self, loop: asyncio.AbstractEventLoop, heard: stirring.Stirring) -> None:
        heard.heard()
        loop.call_later(FREED_S, self._tell)


class WorkerLock:
    """A file that this process alone holds locked, until `close` or death: the kernel frees it within milliseconds.

    Others find the worker gone by taking the lock. No child holds it: it closes on exec, and after a fork.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.path: Final = folder / f"worker-{secrets.token_hex(8)}.lock"
        self._file: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _locks.add(self)

    def close(self) -> None:
        """Free the lock and remove its file. Idempotent."""
        if self._file is not None:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            self.forget()

    def forget(self) -> None:
        """Close the file and leave the lock to whoever else has it open: the process that this one was forked from."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


_locks: Final[WeakSet[WorkerLock]] = WeakSet()


def _forget_locks() -> None:
    for lock in list(_locks):
        lock.forget()


os.register_at_fork(after_in_child=_forget_locks)
