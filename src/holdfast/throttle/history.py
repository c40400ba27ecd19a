"""The history of one run: its whole life in a bounded number of samples, finer while it is young."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Self, TypeVar

from holdfast.model import TreeSample

MOST_SAMPLES: Final = 512
"""As many points as a chart is wide; an hour at a point each 7 to 14 s, 40 KB for a run."""

Number = TypeVar("Number", int, float)


class History:
    """Keeps samples of about equal length; when there is no room, two become one, and all later ones are as long.

    Nothing is lost that matters: CPU time and bytes add up, peaks of memory and processes stay. The samples cover the
    time since the first without a gap, and there are never more than `most` (at least 2; 0: none are kept).
    """

    __slots__ = ("_most", "_open", "_samples", "_span_us")

    def __init__(self, most: int = MOST_SAMPLES) -> None:
        self._most = max(2, most) if most else 0
        self._samples: list[TreeSample] = []
        self._span_us = 0
        self._open: TreeSample | None = None

    @classmethod
    def after(cls, past: Iterable[TreeSample]) -> Self:
        """One that goes on after these, as fine as they are. Where they are of another attempt, a gap lies between:
        two samples around it may become one, which then stands for as long as both."""
        history = cls()
        for sample in past:
            history.add(sample)
        lengths = sorted(one.span_us for one in history._samples)
        if len(lengths) >= history._most // 4:  # a history that was halved before
            history._span_us = lengths[len(lengths) // 2] * 3 // 4
        return history

    def add(self, sample: TreeSample) -> None:
        """Take the next sample, later than all before."""
        if not self._most:
            return
        joined = sample if self._open is None else join(self._open, sample)
        if joined.span_us < self._span_us:
            self._open = joined
            return
        self._open = None
        self._samples.append(joined)
        if len(self._samples) >= self._most:
            self._halve()

    def samples(self) -> tuple[TreeSample, ...]:
        """All of it, oldest first, the one that is being made at the end."""
        return (*self._samples, *([] if self._open is None else [self._open]))

    def _halve(self) -> None:
        pairs = zip(self._samples[::2], self._samples[1::2], strict=False)
        halved = [join(one, other) for one, other in pairs]
        self._open = self._samples[-1] if len(self._samples) % 2 else None
        self._samples = halved
        # Most samples are about as long as each other; the first may have been a long gap.
        lengths = sorted(one.span_us for one in halved)
        self._span_us = lengths[len(lengths) // 2]


def join(one: TreeSample, other: TreeSample) -> TreeSample:
    """Two samples that follow each other as one."""
    span_us = one.span_us + other.span_us
    busy = one.cpu_percent * one.span_us + other.cpu_percent * other.span_us
    return TreeSample(
        at_us=other.at_us,
        span_us=span_us,
        cpu_percent=busy / span_us if span_us else other.cpu_percent,
        memory_bytes=max(one.memory_bytes, other.memory_bytes),
        processes=max(one.processes, other.processes),
        read_bytes=_sum(one.read_bytes, other.read_bytes),
        written_bytes=_sum(one.written_bytes, other.written_bytes),
        workspace_bytes=_most(one.workspace_bytes, other.workspace_bytes),
        workspace_at_least=one.workspace_at_least or other.workspace_at_least,
        disk_free_bytes=_least(one.disk_free_bytes, other.disk_free_bytes),
        memory_stall=_most(one.memory_stall, other.memory_stall),
        oom_kills=max(one.oom_kills, other.oom_kills),
        loop_lag_s=_most(one.loop_lag_s, other.loop_lag_s),
        host=other.host if other.host is not None else one.host,
    )


def _sum(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


def _most(one: Number | None, other: Number | None) -> Number | None:
    return other if one is None else one if other is None else max(one, other)


def _least(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)
