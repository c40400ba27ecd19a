"""Which samples of a run are worth storing, and for how long the newest one speaks for it.

Every figure of a store costs a write that others wait for. So the newest sample is stored when it tells something new,
and the whole history the more rarely, the longer it is.
"""

from __future__ import annotations

from typing import Final

from holdfast.model import TreeSample

STORE_US: Final = 2_000_000
"""Samples of all runs of a worker are stored together, about so often: as often as a person looks at a table."""
AGAIN_US: Final = 30_000_000
"""One that tells nothing new is stored again after this, as a sign that somebody looks."""
SPEAKS_US: Final = 75_000_000
"""A sample that is older says nothing of its run any more: two rounds of `AGAIN_US` were missed."""
LEAST_US: Final = 30_000_000
MOST_US: Final = 600_000_000
SHARE: Final = 32
"""The history is stored when a thirty-second of it is new: a dead worker takes along about a column of a chart."""

_CPU_POINTS: Final = 1.0
_MIB: Final = 1024 * 1024
_SMALL_SHARE: Final = 0.02


def worth_storing(before: TreeSample | None, sample: TreeSample) -> bool:
    """Whether the sample says something that the stored one does not, to somebody who looks at a table of runs."""
    if before is None or sample.at_us - before.at_us >= AGAIN_US:
        return True
    return (
        _moved(before.cpu_percent, sample.cpu_percent, _CPU_POINTS)
        or _moved(before.memory_bytes, sample.memory_bytes, _MIB)
        or before.processes != sample.processes
        or before.oom_kills != sample.oom_kills
        or _moved(before.workspace_bytes or 0, sample.workspace_bytes or 0, _MIB)
    )


def _moved(before: float, after: float, least: float) -> bool:
    return abs(after - before) >= max(least, _SMALL_SHARE * before)


def history_due(began_us: int, stored_us: int, now_us: int) -> bool:
    """Whether a history that began then is to be stored, when it was stored last at `stored_us`."""
    return now_us - stored_us >= min(MOST_US, max(LEAST_US, (now_us - began_us) // SHARE))


def speaks(age_us: int) -> bool:
    """Whether a sample of this age still tells what the run does."""
    return age_us < SPEAKS_US
