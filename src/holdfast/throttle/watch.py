"""The watch over one group: samples it, keeps its history, judges it by the ladder, and does what a group can do.

What only the run's own side can do (tell it, park it, go on from its checkpoint) is answered, not done.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec

from holdfast.clock import Clock, SystemClock
from holdfast.errors import Refused
from holdfast.model import HostStall, Level, Metric, TreeSample, Usage
from holdfast.rules.ladder import Ladder, Move, Rung, Stand, climb
from holdfast.rules.limits import Limits
from holdfast.rules.pressure import Thresholds
from holdfast.throttle.abilities import Abilities
from holdfast.throttle.group import Group
from holdfast.throttle.history import MOST_SAMPLES, History
from holdfast.throttle.space import Space

log = logging.getLogger(__name__)

LESS_WEIGHT: Final = 0.1
"""A tenth of the CPU that it would have had, where somebody else wants it: as niceness 10 gives."""

BRAKE_SHARE: Final = 0.9
"""Memory is reclaimed from here on, below the limit at which the kernel kills."""


class Gauge:
    """Samples one group, as often as it is called: once a second is meant. Costs some microseconds in control groups, a
    millisecond for each fifty processes elsewhere. Call it from one thread."""

    def __init__(
        self,
        group: Group,
        *,
        workspace: Path | None = None,
        history: int = MOST_SAMPLES,
        clock: Clock | None = None,
    ) -> None:
        self._group = group
        self._clock = clock or SystemClock()
        self._space = Space(workspace) if workspace is not None else None
        self._limit = group.limits.disk_bytes
        self.history = History(history)
        self._before = Usage(cpu_us=0, memory_bytes=0, processes=0)
        self._at_us = self._clock.boot_us()

    def measure(self, workspace: Path) -> None:
        """From the next sample on: the size of this folder, too."""
        self._space = Space(workspace)

    def sample(self, host: HostStall | None = None) -> TreeSample:
        """Measure now, and keep it in the history. `host` is what `Host.stall` said, if it was asked."""
        usage, now_us = self._group.usage(), self._clock.boot_us()
        span_us = max(1, now_us - self._at_us)
        before, space = self._before, self._space
        sample = TreeSample(
            at_us=now_us,
            span_us=span_us,
            cpu_percent=100.0 * max(0, usage.cpu_us - before.cpu_us) / span_us,
            memory_bytes=usage.memory_bytes,
            processes=usage.processes,
            read_bytes=_since(before.read_bytes, usage.read_bytes),
            written_bytes=_since(before.written_bytes, usage.written_bytes),
            workspace_bytes=None if space is None else space.size(usage.written_bytes or 0, self._limit),
            disk_free_bytes=None if space is None else space.free(),
            memory_stall=usage.memory_stall,
            oom_kills=usage.oom_kills,
            host=host,
        )
        self._before, self._at_us = usage, now_us
        self.history.add(sample)
        return sample


def _since(before: int | None, now: int | None) -> int | None:
    return None if now is None else max(0, now - (before or 0))


class Seen(msgspec.Struct, frozen=True, gc=False):
    """One look of the watch. `moves` are done already where a group can do them (weight, quota, freeze, kill, and their
    being taken back); event, hint and park are the caller's, and after a kill, a new attempt. `oom`: the kernel killed
    a process because the group was at its memory limit, told once and some looks later (`Group.oom_kills` tells at
    once, for when a process has ended). `survivors` of a kill, if there are any."""

    sample: TreeSample
    level: Level
    metrics: tuple[Metric, ...]
    moves: tuple[Move, ...]
    oom: bool = False
    survivors: tuple[int, ...] = ()


class Watch:
    """Looks after one group for the length of an attempt.

    `look` is called about once a second, from one thread: it samples, judges, acts, and answers. `spare` names who goes
    on when the tools are frozen (the agent's own process). Raises Refused when the system does not let it act.
    """

    def __init__(
        self,
        group: Group,
        abilities: Abilities,
        thresholds: Thresholds,
        *,
        workspace: Path | None = None,
        spare: Collection[int] = (),
        history: int = MOST_SAMPLES,
        clock: Clock | None = None,
    ) -> None:
        self.gauge = Gauge(group, workspace=workspace, history=history, clock=clock)
        self._group = group
        self._spare = frozenset(spare)
        self._abilities = abilities
        self._stand = Stand.at_the_foot()
        self.judge(thresholds)
        self._taken: set[Rung] = set()
        self._wanted = self._held = self._refused = False
        self._oom_kills = 0

    def judge(self, thresholds: Thresholds) -> None:
        """From the next look on, judge by these. Callable from any thread."""
        limits, can = self._group.limits, self._abilities.can
        self._ladder = Ladder.of(limits, thresholds, watched=self._abilities.watched, can=can)
        self._quota = quota_cores(thresholds, limits)

    def hold(self, held: bool) -> None:
        """From the next look on, hold the group back as on the rungs of weight and quota, whatever the ladder does, or
        let it go again. Callable from any thread."""
        self._wanted = held

    def look(self, host: HostStall | None = None) -> Seen:
        """See the class."""
        sample = self.gauge.sample(host)
        look = climb(self._ladder, self._stand, figures(sample), sample.at_us)
        survivors: tuple[int, ...] = ()
        for move in look.moves:
            survivors += self._do(move)
        if self._held is not self._wanted or self._refused:  # the half of it may be done
            self._try_to_hold(self._wanted)
        self._stand = look.stand  # not before: a move that is refused is tried again
        oom = sample.oom_kills > self._oom_kills
        self._oom_kills = max(self._oom_kills, sample.oom_kills)
        return Seen(sample, look.level, look.metrics, look.moves, oom, survivors)

    def _do(self, move: Move) -> tuple[int, ...]:
        group = self._group
        if move.rung in (Rung.WEIGHT, Rung.QUOTA):
            self._brake(move.rung, on=move.taken or self._held)
            (self._taken.add if move.taken else self._taken.discard)(move.rung)
        elif move.rung is Rung.FREEZE:
            if move.taken:
                group.freeze(self._spare)
            else:
                group.thaw()
        elif move.rung is Rung.PARK and move.taken:
            group.thaw()  # nobody comes to a safe point while what he waits for stands still
        elif move.rung is Rung.KILL and move.taken:
            return group.kill()
        return ()

    def _try_to_hold(self, held: bool) -> None:
        """What is refused costs no look, and is tried again at the next one."""
        try:
            self._hold(held)
        except Refused as error:
            if not self._refused:
                log.warning("a run cannot be %s: %s", "held back" if held else "let go", error)
            self._refused = True

    def _hold(self, held: bool) -> None:
        for rung in (Rung.WEIGHT, Rung.QUOTA):
            if rung in self._abilities.can:
                self._brake(rung, on=held or rung in self._taken)
        self._held, self._refused = held, False

    def _brake(self, rung: Rung, *, on: bool) -> None:
        group, limits = self._group, self._group.limits
        if rung is Rung.WEIGHT:
            group.set_weight(LESS_WEIGHT if on else 1.0)
        else:
            group.set_cpu(self._quota if on else None)
            brake = None if limits.memory_bytes is None else round(limits.memory_bytes * BRAKE_SHARE)
            group.set_memory_brake(brake if on else None)


def quota_cores(thresholds: Thresholds, limits: Limits) -> float:
    """What a run is held to on the rung of quotas: its critical threshold, so that a busy one stays at it, neither let
    go nor taken higher; without one, half a core."""
    if thresholds.cpu_percent is not None:
        return max(0.01, thresholds.cpu_percent[1] / 100)
    return min(0.5, limits.cpu or (os.cpu_count() or 1) / 2)


def figures(sample: TreeSample) -> dict[Metric, float]:
    """A sample as the ladder reads it: what was not measured is not there."""
    read: dict[Metric, float] = {
        Metric.CPU: sample.cpu_percent,
        Metric.MEMORY: sample.memory_bytes,
        Metric.PROCESSES: sample.processes,
    }
    if sample.memory_stall is not None:
        read[Metric.MEMORY_STALL] = sample.memory_stall
    if sample.workspace_bytes is not None:
        read[Metric.WORKSPACE] = sample.workspace_bytes
    if sample.disk_free_bytes is not None:
        read[Metric.DISK_FREE] = sample.disk_free_bytes
    return read
