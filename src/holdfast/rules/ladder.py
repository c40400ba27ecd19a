"""The ladder: from what a run's processes use to what is done about it, one rung at a time, and back.

Laws of this file:
1. A threshold is crossed by three samples in a row, and its level left only when the figure has stayed a fifth below it
   for ten seconds: one spike does nothing, and nothing flaps.
2. A run goes up one rung at a time, each kept for a while to show its effect; a warning goes no higher than a smaller
   weight. What is no better after that is slowed, frozen, parked, killed, in this order.
3. A figure that is back below its threshold takes a run no higher. What was done is undone when the level is left, the
   last thing first; a run that was parked or killed begins at the foot.
4. Being busy is no fault: the CPU alone freezes, parks or kills nobody.
5. A limit that only we watch is a limit: past it, the rung at the top is taken at once.
6. A rung that no mechanism here can act on is passed over, never waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from math import inf
from typing import Final

import msgspec

from holdfast.model import Level, Metric, TreeSample
from holdfast.rules.limits import Limits
from holdfast.rules.pressure import RANKS, Bounds, Thresholds, past

SAMPLES_TO_ENTER: Final = 3
"""At one a second: a compiler's spike passes, a leak does not."""

LEAVE_SHARE: Final = 0.2
"""A level is left below 80 % of its threshold: more than a figure wavers when its owner is being held back."""

LEAVE_US: Final = 10_000_000
"""Ten seconds below: as long as the kernel's shortest average of pressure."""

PATIENCE_US: Final = 5_000_000
"""How long a rung may show its effect before the next: some quota periods, one garbage collection."""

GRACE_US: Final = 30_000_000
"""How long a run that was asked to park may take to come to a safe point, as long as a drain."""


class Rung(IntEnum):
    """What is done about a run, gentlest first."""

    EVENT = 1  # it is told to whoever watches
    HINT = 2  # the run is told: it may do less at a time
    WEIGHT = 3  # it stands back where others want the CPU
    QUOTA = 4  # its CPU is capped, its memory reclaimed early
    FREEZE = 5  # what it started stands still
    PARK = 6  # it ends at its next safe point, and waits
    KILL = 7  # all its processes end; it goes on from its checkpoint


TOP: Final = {
    Metric.CPU: Rung.QUOTA,
    Metric.MEMORY: Rung.KILL,
    Metric.MEMORY_STALL: Rung.PARK,
    Metric.PROCESSES: Rung.KILL,
    Metric.WORKSPACE: Rung.HINT,
    Metric.DISK_FREE: Rung.PARK,
}
"""The highest rung that a figure can lead to. The machine's own disk may be full because of somebody else: that and
mere slowness are no reasons to kill. Files do not go away while their owner stands still: of a workspace, short of its
limit, the run is told."""

_FALLING: Final = frozenset({Metric.DISK_FREE})
_AT_ONCE: Final = frozenset({Rung.EVENT, Rung.HINT})
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """What is judged, and what can be done. `bounds` are (warning, critical) of each metric; `walls` are limits that
    nothing but this ladder enforces; `can` the rungs that have a mechanism here."""

    bounds: Mapping[Metric, Bounds]
    walls: Mapping[Metric, float]
    can: frozenset[Rung] = frozenset(Rung)

    @classmethod
    def of(
        cls,
        limits: Limits,
        thresholds: Thresholds,
        *,
        watched: frozenset[str] = frozenset(),
        can: frozenset[Rung] = frozenset(Rung),
    ) -> Ladder:
        """The ladder of a run with these limits; `watched` names those of them that no kernel mechanism holds."""
        return cls(bounds=_bounds(limits, thresholds), walls=_walls(limits, watched), can=can)


def _bounds(limits: Limits, thresholds: Thresholds) -> dict[Metric, Bounds]:
    """The thresholds that are given. A limit of the run brings its own, at 70 and 85 % of it: the stricter count."""
    memory_mb, processes = thresholds.memory_mb, thresholds.processes
    bounds: dict[Metric, Bounds] = {}
    if thresholds.memory_stall is not None:
        bounds[Metric.MEMORY_STALL] = thresholds.memory_stall
    if thresholds.cpu_percent is not None:
        bounds[Metric.CPU] = thresholds.cpu_percent
    if thresholds.disk_mb is not None:
        bounds[Metric.DISK_FREE] = _scaled(thresholds.disk_mb)
    sets: tuple[tuple[Metric, Bounds | None, int | None], ...] = (
        (Metric.MEMORY, None if memory_mb is None else _scaled(memory_mb), limits.memory_bytes),
        (Metric.PROCESSES, processes, limits.processes),
        (Metric.WORKSPACE, None, limits.disk_bytes),
    )
    for metric, given, limit in sets:
        own = None if limit is None else (limit * 0.70, limit * 0.85)
        stricter = min((one for one in (given, own) if one is not None), default=None)
        if stricter is not None:
            bounds[metric] = stricter
    return bounds


def _scaled(bounds: Bounds) -> Bounds:
    return (bounds[0] * _MIB, bounds[1] * _MIB)


def _walls(limits: Limits, watched: frozenset[str]) -> dict[Metric, float]:
    known = (
        ("memory", Metric.MEMORY, limits.memory_bytes),
        ("processes", Metric.PROCESSES, limits.processes),
        ("disk", Metric.WORKSPACE, limits.disk_bytes),
    )
    return {metric: wall for name, metric, wall in known if wall is not None and name in watched}


@dataclass(frozen=True, slots=True)
class Edge:
    """One threshold: whether its level holds, how many samples in a row were past it, since when none was near it."""

    held: bool = False
    in_a_row: int = 0
    clear_since_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calm:
    """Under all of these figures (for free space: over it) a sample takes nobody up who stands at the foot: it need not
    be judged further. As nearly always, and a hundred runs are judged each second."""

    cpu_percent: float = inf
    memory_bytes: float = inf
    memory_stall: float = inf
    processes: float = inf
    workspace_bytes: float = inf
    disk_free_bytes: float = -inf

    @classmethod
    def of(cls, ladder: Ladder) -> Calm:
        """What is calm on this ladder."""
        bounds = {metric: bounds[0] for metric, bounds in ladder.bounds.items()}
        for metric, wall in ladder.walls.items():
            bounds[metric] = min(wall, bounds.get(metric, inf))
        return _calm(frozenset(bounds.items()))

    def holds(self, sample: TreeSample) -> bool:
        """Whether it is so. What was not measured is calm."""
        return (
            sample.memory_bytes < self.memory_bytes
            and sample.cpu_percent < self.cpu_percent
            and sample.processes < self.processes
            and (sample.memory_stall is None or sample.memory_stall < self.memory_stall)
            and (sample.workspace_bytes is None or sample.workspace_bytes < self.workspace_bytes)
            and (sample.disk_free_bytes is None or sample.disk_free_bytes > self.disk_free_bytes)
        )


_FIELDS: Final = {
    Metric.CPU: "cpu_percent",
    Metric.MEMORY: "memory_bytes",
    Metric.MEMORY_STALL: "memory_stall",
    Metric.PROCESSES: "processes",
    Metric.WORKSPACE: "workspace_bytes",
    Metric.DISK_FREE: "disk_free_bytes",
}


@lru_cache(maxsize=256)
def _calm(bounds: frozenset[tuple[Metric, float]]) -> Calm:
    """One for all runs with the same bounds, so that it is near when the next of them is judged."""
    return Calm(**{_FIELDS[metric]: bound for metric, bound in bounds})


def figures(sample: TreeSample) -> dict[Metric, float]:
    """A sample as the ladder reads it: what was not measured is not there."""
    read = ((metric, getattr(sample, field)) for metric, field in _FIELDS.items())
    return {metric: figure for metric, figure in read if figure is not None}


_CLEAR: Final = (Edge(), Edge())


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a run stands: its edges by metric (warning, critical), the highest rung taken, and since when."""

    edges: Mapping[Metric, tuple[Edge, Edge]]
    rung: int = 0
    since_us: int = 0

    @classmethod
    def at_the_foot(cls) -> Stand:
        """A run of which nothing is known."""
        return cls(edges={})

    @property
    def low(self) -> bool:
        """Whether it is as at the foot: no edge is near, no rung taken."""
        return not self.edges and not self.rung

    def level(self, metric: Metric) -> Level:
        """The level of one metric."""
        warning, critical = self.edges.get(metric, _CLEAR)
        return Level.CRITICAL if critical.held else Level.WARNING if warning.held else Level.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A rung to take, or to take back (`taken=False`), and why: a figure and the threshold that it crossed (taken back:
    the last of them). `wall`: it is a limit, not a threshold."""

    rung: Rung
    taken: bool
    metric: Metric | None = None
    value: float = 0.0
    bound: float = 0.0
    wall: bool = False


class Look(msgspec.Struct, frozen=True, gc=False):
    """What one sample came to: the new stand, the worst level, whose fault it is, and what to do, in this order."""

    stand: Stand
    level: Level
    metrics: tuple[Metric, ...]
    moves: tuple[Move, ...]


def climb(ladder: Ladder, stand: Stand, figures: Mapping[Metric, float], now_us: int) -> Look:
    """Judge one sample, taken at `now_us` since boot. A metric without a figure stays as it was."""
    edges = dict(stand.edges)
    for metric, bounds in ladder.bounds.items():
        if metric in figures:
            warning, critical = edges.pop(metric, _CLEAR)
            falling = metric in _FALLING
            warning = _moved(warning, figures[metric], bounds[0], now_us, falling=falling)
            critical = _moved(critical, figures[metric], bounds[1], now_us, falling=falling)
            if (warning, critical) != _CLEAR:
                edges[metric] = (warning, critical)
    stand = Stand(edges, stand.rung, stand.since_us)
    levels = {metric: stand.level(metric) for metric in ladder.bounds}
    worst = max(levels.values(), key=RANKS.__getitem__, default=Level.OK)
    guilty = tuple(metric for metric, level in levels.items() if level is worst and worst is not Level.OK)
    stand, moves = _moves(ladder, stand, figures, levels, now_us)
    return Look(stand, worst, guilty, moves)


def _moved(edge: Edge, value: float, bound: float, now_us: int, *, falling: bool) -> Edge:
    if not edge.held:
        in_a_row = edge.in_a_row + 1 if past(value, bound, falling=falling) else 0
        return Edge(held=in_a_row >= SAMPLES_TO_ENTER, in_a_row=in_a_row)
    # For what falls, a fifth less than the threshold is a quarter more of the space.
    ease = LEAVE_SHARE / (1 - LEAVE_SHARE) if falling else LEAVE_SHARE
    if past(value, bound, falling=falling, ease=ease):
        return Edge(held=True)
    since_us = now_us if edge.clear_since_us is None else edge.clear_since_us
    return Edge() if now_us - since_us >= LEAVE_US else Edge(held=True, clear_since_us=since_us)


def _moves(
    ladder: Ladder, stand: Stand, figures: Mapping[Metric, float], levels: Mapping[Metric, Level], now_us: int
) -> tuple[Stand, tuple[Move, ...]]:
    for metric, wall in ladder.walls.items():
        size = figures.get(metric, 0.0)
        if size > wall and Rung.KILL in ladder.can:
            if stand.rung == Rung.KILL:
                return stand, ()
            hit = Move(rung=Rung.KILL, taken=True, metric=metric, value=size, bound=wall, wall=True)
            return replace(stand, rung=int(Rung.KILL), since_us=now_us), (hit,)
    ceilings = {metric: _ceiling(metric, level) for metric, level in levels.items() if level is not Level.OK}
    if not ceilings or max(ceilings.values()) < stand.rung:
        return _down(ladder, stand, max(ceilings.values(), default=0), now_us)
    metric = max(ceilings, key=ceilings.__getitem__)
    which = RANKS[levels[metric]] - 1
    bound, value = ladder.bounds[metric][which], figures.get(metric)
    above = value is not None and past(value, bound, falling=metric in _FALLING)
    # Nobody stays frozen for a figure that hovers: it cannot get better by itself any more.
    hovers = stand.rung >= Rung.FREEZE and stand.edges[metric][which].clear_since_us is None
    if value is None or not (above or hovers):
        return stand, ()
    cause = Move(rung=Rung.EVENT, taken=True, metric=metric, value=value, bound=bound)
    return _up(ladder, stand, ceilings[metric], cause, now_us)


def _ceiling(metric: Metric, level: Level) -> int:
    return min(TOP[metric], Rung.WEIGHT) if level is Level.WARNING else TOP[metric]


def _up(
    ladder: Ladder, stand: Stand, ceiling: int, cause: Move, now_us: int
) -> tuple[Stand, tuple[Move, ...]]:
    """Telling costs nothing and is done at once; of what is felt, one rung at a time."""
    taken: list[Move] = []
    for rung in Rung:
        if not stand.rung < rung <= ceiling or rung not in ladder.can:
            continue
        if rung not in _AT_ONCE:
            patience_us = GRACE_US if stand.rung == Rung.PARK else PATIENCE_US
            if stand.rung and now_us - stand.since_us < patience_us:
                break
        stand = replace(stand, rung=int(rung), since_us=now_us)
        taken.append(replace(cause, rung=rung))
    return stand, tuple(taken)


def _down(ladder: Ladder, stand: Stand, ceiling: int, now_us: int) -> tuple[Stand, tuple[Move, ...]]:
    back = [rung for rung in reversed(Rung) if ceiling < rung <= stand.rung and rung in ladder.can]
    stand = replace(stand, rung=ceiling, since_us=now_us)
    return stand, tuple(Move(rung=rung, taken=False) for rung in back)
