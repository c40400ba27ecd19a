"""The watch over one group: samples it, keeps its history, judges it by the ladder, and does what a group can do.

What only the run's own side can do (tell it, park it, go on from its checkpoint) is answered, not done.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from holdfast.clock import Clock, SystemClock
from holdfast.errors import Refused
from holdfast.model import HostStall, Level, Metric, TreeSample, Usage
from holdfast.rules.ladder import Calm, Ladder, Move, Rung, Stand, climb, figures
from holdfast.rules.limits import Limits
from holdfast.rules.pressure import Thresholds
from holdfast.throttle.abilities import Abilities
from holdfast.throttle.apart import Apart
from holdfast.throttle.group import Group
from holdfast.throttle.history import MOST_SAMPLES, History
from holdfast.throttle.space import Space

log = logging.getLogger(__name__)

LESS_WEIGHT: Final = 0.1
"""A tenth of the CPU that it would have had, where somebody else wants it: as niceness 10 gives."""

BRAKE_SHARE: Final = 0.9
"""Memory is reclaimed from here on, below the limit at which the kernel kills."""

_OK: Final = Level.OK  # Python 3.11 looks for the members of an enum, each time


@cache
def _system_clock() -> SystemClock:
    """One for all: each of them reads the name of the boot."""
    return SystemClock()


class Gauge:
    """Samples one group, as often as it is called: once a second is meant. Costs some microseconds in control groups, a
    millisecond for each fifty processes elsewhere. Call it from one thread.

    A `workspace` is measured on the spot, and whoever calls waits for its disk; one that is `Apart`, by a `Surveyor`.
    """

    __slots__ = ("_at_us", "_before", "_clock", "_group", "_limit", "_space", "history")

    def __init__(
        self,
        group: Group,
        *,
        workspace: Path | Apart | None = None,
        history: int = MOST_SAMPLES,
        clock: Clock | None = None,
    ) -> None:
        self._group = group
        self._clock = clock or _system_clock()
        self._space = Space(workspace) if isinstance(workspace, Path) else workspace
        self._limit = group.limits.disk_bytes
        self.history = History(history)
        self._before = Usage(cpu_us=0, memory_bytes=0, processes=0)
        self._at_us = self._clock.boot_us()

    def measure(self, workspace: Apart) -> None:
        """From the next sample on: the size of this folder, too."""
        self._space = workspace

    def sample(self, host: HostStall | None = None) -> TreeSample:
        """Measure now, and keep it in the history. `host` is what `Host.stall` said, if it was asked."""
        usage, now_us = self._group.usage(), self._clock.boot_us()
        before, space = self._before, self._space
        span_us, used_us = now_us - self._at_us, usage.cpu_us - before.cpu_us
        read, written = usage.read_bytes, usage.written_bytes
        if read == before.read_bytes and written == before.written_bytes and read is not None:
            read = written = 0  # as nearly always: they are counted anew now and then
        else:
            read, written = _since(before.read_bytes, read), _since(before.written_bytes, written)
        sample = TreeSample(
            at_us=now_us,
            span_us=span_us if span_us > 0 else 1,
            cpu_percent=100.0 * used_us / span_us if used_us > 0 and span_us > 0 else 0.0,
            memory_bytes=usage.memory_bytes,
            processes=usage.processes,
            read_bytes=read,
            written_bytes=written,
            workspace_bytes=None if space is None else space.size(usage.written_bytes or 0, self._limit),
            disk_free_bytes=None if space is None else space.free(),
            workspace_at_least=space is not None and space.at_least,
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

    __slots__ = (
        "_abilities", "_at_the_foot", "_calm", "_group", "_held", "_ladder", "_oom_kills", "_quota",
        "_refused", "_spare", "_stand", "_taken", "_wanted", "gauge",
    )  # fmt: skip

    def __init__(
        self,
        group: Group,
        abilities: Abilities,
        thresholds: Thresholds,
        *,
        workspace: Path | Apart | None = None,
        spare: Collection[int] = (),
        history: int = MOST_SAMPLES,
        clock: Clock | None = None,
    ) -> None:
        self.gauge = Gauge(group, workspace=workspace, history=history, clock=clock)
        self._group = group
        self._spare = frozenset(spare)
        self._abilities = abilities
        self._stand, self._at_the_foot = Stand.at_the_foot(), True
        self.judge(thresholds)
        self._taken: set[Rung] = set()
        self._wanted = self._held = self._refused = False
        self._oom_kills = 0

    def judge(self, thresholds: Thresholds) -> None:
        """From the next look on, judge by these. Callable from any thread."""
        limits, can = self._group.limits, self._abilities.can
        self._ladder = Ladder.of(limits, thresholds, watched=self._abilities.watched, can=can)
        self._calm = Calm.of(self._ladder)
        self._quota = quota_cores(thresholds, limits)

    def hold(self, held: bool) -> None:
        """From the next look on, hold the group back as on the rungs of weight and quota, whatever the ladder does, or
        let it go again. Callable from any thread."""
        self._wanted = held

    def look(self, host: HostStall | None = None) -> Seen:
        """See the class."""
        sample = self.gauge.sample(host)
        nothing_is_due = self._at_the_foot and self._held is self._wanted and not self._refused
        if nothing_is_due and sample.oom_kills == self._oom_kills and self._calm.holds(sample):
            return Seen(sample, _OK, (), ())
        return self._judged(sample)

    def _judged(self, sample: TreeSample) -> Seen:
        look = climb(self._ladder, self._stand, figures(sample), sample.at_us)
        survivors: tuple[int, ...] = ()
        for move in look.moves:
            survivors += self._do(move)
        if self._held is not self._wanted or self._refused:  # the half of it may be done
            self._try_to_hold(self._wanted)
        self._stand = look.stand  # not before: a move that is refused is tried again
        oom = sample.oom_kills > self._oom_kills
        self._oom_kills = max(self._oom_kills, sample.oom_kills)
        self._at_the_foot = look.stand.low
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
