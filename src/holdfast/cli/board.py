"""The board of `top`: which runs it shows, in which order, which one is meant, and what a key does to it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

from msgspec import Struct

from holdfast.client import ResourcesView, RunView
from holdfast.model import HostStall, Reason, RunState

KEPT_S: Final = 10.0
"""For so long a run that has ended stays on the board: long enough to be seen."""
PAGE: Final = 10


class HostView(Struct, frozen=True, kw_only=True):
    """The machine that `top` is called on. `load` is per core; `stalled`: percent of the last 10 s in which tasks
    waited for CPU, memory and disks, None where the kernel does not tell."""

    cores: int
    load: float
    memory_mb: float
    memory_free_mb: float
    stalled: HostStall | None


class Totals(Struct, frozen=True, kw_only=True):
    """What all runs on the board use together, and how many there are in each state."""

    running: int
    waiting: int
    queued: int
    cpu_percent: float
    memory_mb: float
    processes: int
    usd: float


class Snapshot(Struct, frozen=True, kw_only=True):
    """One look: what `top --json` prints. `more`: there are more runs than are looked at."""

    at: datetime
    totals: Totals
    host: HostView
    runs: tuple[RunView, ...]
    more: bool


def totals_of(runs: Sequence[RunView], workers: Mapping[str, ResourcesView]) -> Totals:
    """Runs that are measured alone count by themselves, the rest of a worker once, whatever it executes."""
    counts = {state: sum(run.state is state for run in runs) for state in RunState}
    own = [run for run in runs if run.resources is not None and not run.resources.shared]
    cpu, memory, processes = 0.0, 0.0, 0
    beside: dict[str, list[float]] = {}
    for run in own:
        assert run.resources is not None, "they were chosen by it"
        cpu += run.resources.cpu_percent
        memory += run.resources.memory_mb
        processes += run.resources.processes
        apart = beside.setdefault("" if run.worker is None else run.worker.name, [0.0, 0.0, 0])
        for n, figure in enumerate(
            (run.resources.cpu_percent, run.resources.memory_mb, run.resources.processes)
        ):
            apart[n] += figure
    for name, whole in workers.items():
        apart = beside.get(name, [0.0, 0.0, 0])
        cpu += max(0.0, whole.cpu_percent - apart[0])
        memory += max(0.0, whole.memory_mb - apart[1])
        processes += max(0, whole.processes - int(apart[2]))
    usd = sum(unit.used for run in runs if run.budget for unit in run.budget.units if unit.unit == "usd")
    return Totals(
        running=counts[RunState.RUNNING],
        waiting=counts[RunState.WAITING],
        queued=counts[RunState.QUEUED],
        cpu_percent=round(cpu, 1),
        memory_mb=round(memory, 1),
        processes=processes,
        usd=usd,
    )


# --- orders -----------------------------------------------------------------------------------------------------


def _own(run: RunView) -> ResourcesView | None:
    return None if run.resources is None or run.resources.shared else run.resources


def _cpu(run: RunView) -> float:
    own = _own(run)
    return -1.0 if own is None else own.cpu_percent


def _memory(run: RunView) -> float:
    own = _own(run)
    return -1.0 if own is None else own.memory_mb


def _silent(run: RunView) -> float:
    return -1.0 if run.clocks is None else run.clocks.silent_s


def share_spent(run: RunView) -> float:
    """How much of the tightest of its limits a run has used, -1 without one."""
    units = () if run.budget is None else run.budget.units
    return max((unit.used / unit.limit for unit in units if unit.limit), default=-1.0)


def _newest(run: RunView) -> float:
    return run.created_at.timestamp()


ORDERS: Final[Mapping[str, Callable[[RunView], float]]] = {
    "cpu": _cpu,
    "memory": _memory,
    "silent": _silent,
    "spent": share_spent,
    "newest": _newest,
}
"""By what the board is sorted, the most first; equals by their age, the newest first."""


# --- the board --------------------------------------------------------------------------------------------------


class Act(StrEnum):
    """What a key asks for, of the run that is meant."""

    PAUSE = "pause"
    THROTTLE = "throttle"
    KILL = "kill"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Order:
    """An act and the run that it is for, named while the key was pressed."""

    act: Act
    run: str
    off: bool = False


@dataclass(slots=True)
class Board:
    """What is on the screen. `press` takes a key and gives what is to be done about a run, if anything."""

    sort: str = "cpu"
    filter: str = ""
    runs: tuple[RunView, ...] = ()
    selected: str | None = None
    mode: Literal["table", "filter", "help", "ask"] = "table"
    message: str = ""
    asked: Order | None = None
    over: bool = False
    _shown: list[RunView] | None = None
    _ended: dict[str, tuple[datetime, RunView]] = field(default_factory=dict[str, "tuple[datetime, RunView]"])

    def take(self, snapshot: Snapshot, ended: Sequence[RunView]) -> None:
        """A new look, and the runs of the one before that have ended since."""
        for run in ended:
            self._ended[run.id] = snapshot.at, run
        there = {run.id for run in snapshot.runs}
        last = snapshot.at - timedelta(seconds=KEPT_S)
        self._ended = {
            key: (at, run) for key, (at, run) in self._ended.items() if at > last and key not in there
        }
        self.runs = (*snapshot.runs, *(run for _, run in self._ended.values()))
        self._settle()

    @property
    def unfinished(self) -> frozenset[str]:
        """The runs on the board that had not ended."""
        return frozenset(run.id for run in self.runs if not run.state.final)

    def shown(self) -> list[RunView]:
        """The runs that fit the filter, in order; those that have ended last."""
        if self._shown is None:
            order, wanted = ORDERS[self.sort], self.filter.casefold()
            fit = [run for run in self.runs if wanted in _text(run)] if wanted else self.runs
            self._shown = sorted(fit, key=lambda run: (run.state.final, -order(run), -_newest(run)))
        return self._shown

    def press(self, key: str) -> Order | None:
        """Do what a key means."""
        self._shown = None
        match self.mode:
            case "filter":
                self._type(key)
            case "ask":
                return self._answer(key)
            case "help":
                self.mode = "table"
            case "table":
                return self._press(key)
        return None

    def _press(self, key: str) -> Order | None:
        self.message = ""
        if key in _MOVES:
            self._move(_MOVES[key])
        elif key in ("q", "Q"):
            self.over = True
        elif key == "?":
            self.mode = "help"
        elif key == "/":
            self.mode = "filter"
        elif key == "escape":
            self.filter = ""
            self._settle()
        elif key == "s":
            names = list(ORDERS)
            self.sort = names[(names.index(self.sort) + 1) % len(names)]
            self._shown = None
            self.message = f"sorted by {self.sort}"
        elif key in _ACTS:
            return self._act(_ACTS[key])
        return None

    def _act(self, act: Act) -> Order | None:
        run = self.meant()
        if run is None:
            self.message = "no run is selected"
            return None
        off = run.throttled if act is Act.THROTTLE else run.reason is Reason.PAUSED
        order = Order(act, run.id, off)
        if act in (Act.PAUSE, Act.THROTTLE):
            return order
        self.mode, self.asked = "ask", order
        return None

    def _answer(self, key: str) -> Order | None:
        order, self.asked, self.mode = self.asked, None, "table"
        if key in ("y", "Y"):
            return order
        self.message = "nothing was done"
        return None

    def question(self) -> str:
        """What is asked before something is ended."""
        if self.asked is None:
            return ""
        what = (
            "kill its processes: it goes on from its checkpoint"
            if self.asked.act is Act.KILL
            else "cancel it: nothing more of it is recorded"
        )
        return f"{self.asked.run}: {what}?  y / n"

    def _type(self, key: str) -> None:
        if key == "enter":
            self.mode = "table"
        elif key == "escape":
            self.mode, self.filter = "table", ""
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1:
            self.filter += key
        self._settle()

    def _move(self, by: int) -> None:
        shown = [run.id for run in self.shown()]
        if shown:
            at = shown.index(self.selected) if self.selected in shown else 0
            self.selected = shown[min(len(shown) - 1, max(0, at + by))]

    def meant(self) -> RunView | None:
        """The run that is selected."""
        return next((run for run in self.shown() if run.id == self.selected), None)

    def _settle(self) -> None:
        """The selection stays on its run; when that is gone it is on the first."""
        self._shown = None
        shown = self.shown()
        if self.selected not in {run.id for run in shown}:
            self.selected = shown[0].id if shown else None


_MOVES: Final = {
    "up": -1, "k": -1, "down": 1, "j": 1, "page up": -PAGE, "page down": PAGE,
    "home": -(10**6), "g": -(10**6), "end": 10**6, "G": 10**6,
}  # fmt: skip
_ACTS: Final = {"p": Act.PAUSE, "t": Act.THROTTLE, "x": Act.KILL, "c": Act.CANCEL}


def _text(run: RunView) -> str:
    parts = (
        run.id,
        run.agent,
        run.state,
        run.reason,
        run.step,
        None if run.worker is None else run.worker.name,
    )
    return "\n".join(part for part in parts if part).casefold()
