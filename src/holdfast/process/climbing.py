"""What the ladder asks for and a group cannot do by itself: to tell the run, to park it, to begin it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from holdfast.model import Metric, Note
from holdfast.rules.ladder import Move, Rung
from holdfast.rules.limits import Limits
from holdfast.throttle.watch import Seen


class Climbing:
    """The way of one run up its ladder. `note` writes an event of the run, `park` has it end and wait for a person,
    `kill` says why all its processes were ended. `parks` says in words how it is parked."""

    def __init__(
        self,
        limits: Limits,
        *,
        note: Callable[[Note], None],
        park: Callable[[], None],
        kill: Callable[[str], None],
        parks: str = "it is to end at its next safe point, and waits for you then",
    ) -> None:
        self._limits = limits
        self._note = note
        self._park = park
        self._kill = kill
        self._done = {**_DONE, Rung.PARK: parks}

    def seen(self, seen: Seen) -> None:
        """Do what the ladder asks for, where it is not done already."""
        if seen.oom:
            self._warn("oom", "the kernel killed a process of the run at its memory limit")
        for move in seen.moves:
            if move.taken:
                self._climbed(move)

    def _climbed(self, move: Move) -> None:
        what = told(move, self._limits)
        self._warn("limits", f"{what}: {self._done[move.rung]}", rung=move.rung.name.lower())
        if move.rung is Rung.PARK:
            self._park()
        elif move.rung is Rung.KILL:
            self._kill(f"was ended, for {what}")

    def _warn(self, code: str, message: str, **more: str) -> None:
        self._note(Note("warning", msgspec.json.encode({"code": code, "message": message, **more})))


def at_the_limit(limits: Limits) -> str:
    """What is said of a run whose processes the kernel killed at its memory limit."""
    limit = "" if limits.memory_bytes is None else f" of {limits.memory_bytes:,} bytes"
    return f"was killed by the kernel: it was at its memory limit{limit}"


_DONE: Final = {
    Rung.EVENT: "it is told",
    Rung.HINT: "its code is told, ctx.pressure",
    Rung.WEIGHT: "it stands back where others want the CPU",
    Rung.QUOTA: "its CPU is capped, its memory reclaimed early",
    Rung.FREEZE: "what it started stands still",
    Rung.KILL: "it is ended, and goes on from its checkpoint",
}
_BYTES: Final = frozenset({Metric.MEMORY, Metric.WORKSPACE, Metric.DISK_FREE})


def told(move: Move, limits: Limits) -> str:
    """Why a rung was taken, in words."""
    if move.metric is None:
        return "its figures"
    unit = " bytes" if move.metric in _BYTES else "" if move.metric is Metric.PROCESSES else " %"
    of = (
        f", the limit is {limits.memory_bytes:,}"
        if move.metric is Metric.MEMORY and limits.memory_bytes
        else ""
    )
    crossed = "limit" if move.wall else "threshold"
    return f"{move.metric.replace('_', ' ')} at {move.value:,.0f}{unit}, past the {crossed} of {move.bound:,.0f}{of}"
