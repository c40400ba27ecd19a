"""Percent, the time left as an honest range, and when a report of progress is worth recording.

Laws of this file:
1. No figure is better than a wrong one: an unknown total has no percent, and a rate that nothing supports no ETA.
2. The time left is a range, rounded outward; the less is done, the wider.
3. The newest report wins; only the start of its phase is carried over.
"""

from __future__ import annotations

import math
from typing import Final

from msgspec.structs import replace

from holdfast.errors import UsageError
from holdfast.model import Progress

MAX_RECORDED_A_SECOND: Final = 20
"""More than an eye can follow, and a loop that reports a million times costs twenty rows a second."""

DESCRIPTION_LONGEST: Final = 1000
PHASE_LONGEST: Final = 200
"""Characters: a line of a screen shows less."""

_INTERVAL_US: Final = 1_000_000 // MAX_RECORDED_A_SECOND
_MIN_EVIDENCE_S: Final = 1.0  # a rate measured over less is the noise of starting up
_LONGEST_S: Final = 10 * 365 * 86_400.0  # what takes longer has no ETA


def reported(what: str, current: object, total: object, description: object, phase: object) -> Progress:
    """The report as it is recorded: finite figures, words that can be stored. `what` names the call in errors.

    Raises UsageError for what is no finite number.
    """
    return Progress(
        current=_figure(what, "current", current),
        total=None if total is None else _figure(what, "total", total),
        description=_cleaned(description)[:DESCRIPTION_LONGEST],
        phase=None if phase is None else _cleaned(phase)[:PHASE_LONGEST],
    )


def _figure(what: str, which: str, figure: object) -> float:
    try:
        real = math.nan if isinstance(figure, str | bytes) else float(figure)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        real = math.nan
    if not math.isfinite(real):
        raise UsageError(f"the {which} of {what} must be a finite number, not {repr(figure)[:80]}")
    return figure if isinstance(figure, int) and abs(figure) < 2**53 else real


def _cleaned(text: object) -> str:
    return str(text).encode("utf-8", "replace").decode()


def percent(progress: Progress) -> float | None:
    """How much is done, 0 to 100; None when the total is unknown. A total of 0: nothing to do, so all is done."""
    total = progress.total
    if total is None or not math.isfinite(total) or not math.isfinite(progress.current):
        return None
    if total <= 0:
        return 100.0
    return min(100.0, max(0.0, progress.current / total * 100.0))


def eta(progress: Progress, now_us: int) -> tuple[float, float] | None:
    """(low, high): seconds left, or None when nothing supports a figure.

    From the mean rate of the phase so far. The range narrows as the share that is done grows, and widens again while
    no report comes: what has not moved for a minute may well take another one.
    """
    done_percent = percent(progress)
    if done_percent is None:
        return None
    if done_percent >= 100.0:
        return (0.0, 0.0)
    worked_s = (progress.updated_at_us - progress.started_at_us) / 1_000_000
    if progress.started_at_us == 0 or worked_s < _MIN_EVIDENCE_S or done_percent <= 0.0:
        return None
    silent_s = max(0.0, (now_us - progress.updated_at_us) / 1_000_000)
    share = done_percent / 100.0
    left_s = worked_s * (1 - share) / share
    spread = 0.1 + 0.5 * (1 - share)
    low_s = max(0.0, left_s / (1 + spread) - silent_s)
    high_s = max(left_s * (1 + 2 * spread) - silent_s, silent_s, low_s)
    if high_s > _LONGEST_S:
        return None
    low_grain_s, high_grain_s = _grain_s(low_s), _grain_s(high_s)
    return (math.floor(low_s / low_grain_s) * low_grain_s, math.ceil(high_s / high_grain_s) * high_grain_s)


def _grain_s(value_s: float) -> float:
    return next(grain_s for below_s, grain_s in _GRAINS if value_s < below_s)


# As coarse as a person would say it.
_GRAINS: Final = (
    (10.0, 1.0),
    (60.0, 5.0),
    (600.0, 30.0),
    (3_600.0, 60.0),
    (36_000.0, 600.0),
    (math.inf, 3_600.0),
)


def worth_recording(last_at_us: int | None, now_us: int) -> bool:
    """Whether a report is due: none was recorded yet, the last one is long enough ago, or the clock went back."""
    return last_at_us is None or now_us < last_at_us or now_us - last_at_us >= _INTERVAL_US


def merge(old: Progress | None, new: Progress, now_us: int) -> Progress:
    """`new` as of now. The phase's start is kept unless the phase is another one or the count went back."""
    same = old is not None and old.phase == new.phase and new.current >= old.current and old.started_at_us > 0
    started_at_us = old.started_at_us if old is not None and same else now_us
    return replace(new, started_at_us=started_at_us, updated_at_us=now_us)
