"""What can be done to a tree of processes by signals alone: stop it, stop it by turns, make it nice, end it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final, TypeAlias

from holdfast.errors import Refused
from holdfast.throttle.processes import Process, signal_one

Members: TypeAlias = Callable[[], list[Process]]

PERIOD_S: Final = 0.1
"""One turn of running and standing still, as long as the kernel's own quota period."""

SHORTEST_S: Final = 0.01
"""A shorter turn could not be told from none: the kernel counts in hundredths of a second."""

LONGEST_S: Final = 0.05
"""How long a tree may run before its use is looked at: on all cores it uses that many times as much."""

NICENESS: Final = 10
"""Against niceness 0 it leaves a tenth of a core, where somebody wants the rest."""

_ROUND_S: Final = 0.005


class Stopper:
    """Stops all of a tree but those who are spared, and lets go on only what it stopped itself."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._stopped: dict[int, Process] = {}
        self._spared: frozenset[int] | None = None
        self._between_turns = False
        self._lock = threading.RLock()

    def freeze(self, spare: Collection[int]) -> None:
        """Stop them until `thaw`. Raises Refused when one belongs to somebody else."""
        with self._lock:
            self._spared = frozenset(spare)
            self._stop(self._spared)

    def thaw(self) -> None:
        """Let them go on, unless it is not their turn."""
        with self._lock:
            self._spared = None
            if not self._between_turns:
                self._go_on(frozenset())

    def turn_ends(self) -> None:
        """All stand still until the next turn."""
        with self._lock:
            self._between_turns = True
            self._stop(frozenset())

    def turn_begins(self) -> None:
        """All go on but what is frozen."""
        with self._lock:
            self._between_turns = False
            stay = frozenset[int]() if self._spared is None else frozenset(self._stopped) - self._spared
            self._go_on(stay)

    def _stop(self, spared: Collection[int]) -> None:
        while True:  # what is started while the others are being stopped is found by the next look
            fresh = [
                one
                for one in self._members()
                if not one.ended and not one.stopped and one.pid not in spared and self._is_new(one)
            ]
            if not fresh:
                return
            for one in fresh:
                try:
                    signal_one(one, signal.SIGSTOP)
                except PermissionError as error:
                    raise Refused(
                        f"process {one.pid} belongs to another user: it cannot be stopped"
                    ) from error
                self._stopped[one.pid] = one

    def _is_new(self, one: Process) -> bool:
        known = self._stopped.get(one.pid)
        return known is None or known.started != one.started

    def _go_on(self, stay: Collection[int]) -> None:
        for one in list(self._stopped.values()):
            if one.pid not in stay:
                with suppress(PermissionError):
                    signal_one(one, signal.SIGCONT)
                del self._stopped[one.pid]


class DutyCycle:
    """Holds a tree to so many cores by stopping it in turns: used time is paid off by standing still."""

    def __init__(self, stopper: Stopper, used_us: Callable[[], int], cores: float) -> None:
        self._stopper = stopper
        self._used_us = used_us
        self._cores = cores
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="holdfast duty cycle", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop taking turns; what stands still goes on."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        turn_s = min(LONGEST_S, max(SHORTEST_S, PERIOD_S * self._cores))
        began_s, began_us = time.monotonic(), self._used_us()
        try:
            while not self._ended.wait(turn_s):
                used_s = (self._used_us() - began_us) / 1e6
                paid_s = (time.monotonic() - began_s) * self._cores
                if used_s > paid_s:
                    self._stopper.turn_ends()
                    self._ended.wait((used_s - paid_s) / self._cores)
                    self._stopper.turn_begins()
                elif paid_s - used_s > PERIOD_S * self._cores:
                    began_s += (
                        paid_s - used_s
                    ) / self._cores - PERIOD_S  # idling saves up one period, no more
        except Refused:
            pass  # it belongs to another user by now: who measures it sees that it is not held
        finally:
            self._stopper.turn_begins()


def make_nice(members: Members, nice: int) -> None:
    """Give them this niceness; those that may not go back, or belong to somebody else, keep theirs."""
    for one in members():
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, one.pid, nice)


def end_all(members: Members, timeout_s: float) -> tuple[int, ...]:
    """Kill until nobody is left; who is left after `timeout_s` (he hangs in the kernel, or is not ours to kill).

    Each round stops everybody first: what stands still forks no further.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        alive = [one for one in members() if not one.ended]
        if not alive:
            return ()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for one in alive:
                with suppress(PermissionError):
                    signal_one(one, number)
        if time.monotonic() > deadline_s:
            return tuple(one.pid for one in members() if not one.ended)
        time.sleep(_ROUND_S)
