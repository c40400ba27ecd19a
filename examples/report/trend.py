"""Whether a series rises or falls, and whether its level changed at once. Pure: least squares in plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from examples.report.model import Period, Shift

CLEAR_T = 4.0  # of the slope, in standard errors: fewer than 1 in 10,000 without a trend
SHIFT_T = 6.0  # of the step: it is the best of many places, so more is asked
SHIFT_SHARE = 0.05  # of the level before: a smaller step is nobody's news
EDGE = 6  # periods on each side of a shift: a level is not known by fewer
PERIODS_A_MONTH: dict[Period, float] = {"day": 30.4375, "week": 30.4375 / 7, "month": 1.0}
LONGEST_IN_DAYS, LONGEST_IN_WEEKS = 120, 1_100  # days of data that are shown by day, and by week


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line through a series, with its slope in standard errors."""

    slope: float
    intercept: float
    t: float


def period_of(days: int) -> Period:
    """The period that shows so many days well."""
    if days <= LONGEST_IN_DAYS:
        return "day"
    return "week" if days <= LONGEST_IN_WEEKS else "month"


def line(values: Sequence[float]) -> Line:
    """The straight line with the least squares."""
    n = len(values)
    if n < 3:
        return Line(0.0, math.fsum(values) / n if n else 0.0, 0.0)
    middle, mean = (n - 1) / 2, math.fsum(values) / n
    spread = math.fsum((x - middle) ** 2 for x in range(n))
    slope = math.fsum((x - middle) * (y - mean) for x, y in enumerate(values)) / spread
    intercept = mean - slope * middle
    squares = math.fsum((y - intercept - slope * x) ** 2 for x, y in enumerate(values))
    return Line(slope, intercept, ratio(slope, math.sqrt(squares / (n - 2) / spread)))


def ratio(size: float, error: float) -> float:
    """A size in standard errors; where nothing is left to err, a size is beyond doubt and none is none."""
    if error > abs(size) * 1e-9:
        return size / error
    return math.copysign(math.inf, size) if size else 0.0


def growth(slope: float, values: Sequence[float], period: Period) -> float | None:
    """A slope a month, as a share of the mean."""
    mean = math.fsum(values) / len(values) if values else 0.0
    return slope * PERIODS_A_MONTH[period] / mean if mean else None


def shift(values: Sequence[float], starts: Sequence[str]) -> Shift | None:
    """The place where the level changed at once and stayed, beside a trend; None if there is none that stands out.

    For each place: y = a + b·x + c·[x ≥ place], by least squares. The place with the least squares left is judged by
    its c in standard errors.
    """
    n = len(values)
    if n < 2 * EDGE:
        return None
    fits = ((place, fitted(values, place)) for place in range(EDGE, n - EDGE + 1))
    place, best = min(fits, key=lambda fit: (fit[1].squares, fit[0]))
    if (
        best.before <= 0
        or abs(ratio(best.step, best.error)) < SHIFT_T
        or abs(best.step) < SHIFT_SHARE * best.before
    ):
        return None
    return Shift(
        at=starts[place],
        index=place,
        before=best.before,
        after=best.before + best.step,
        share=best.step / best.before,
        slope=best.slope,
        slope_t=ratio(best.slope, best.slope_error),
    )


@dataclass(frozen=True, slots=True)
class Step:
    """A step at one place beside a common trend, and how much is left unexplained."""

    step: float
    error: float
    before: float  # the level there without the step
    slope: float
    slope_error: float
    squares: float


def fitted(values: Sequence[float], place: int) -> Step:
    """The step at a place beside a common trend, by least squares.

    Both sides are centred, which leaves the slope; the step is what then separates the two means.
    """
    left, right = values[:place], values[place:]
    mean_left, mean_right = math.fsum(left) / len(left), math.fsum(right) / len(right)
    middle_left, middle_right = (place - 1) / 2, place + (len(right) - 1) / 2
    spread = math.fsum((x - middle_left) ** 2 for x in range(place))
    spread += math.fsum((x - middle_right) ** 2 for x in range(place, len(values)))
    together = math.fsum((x - middle_left) * (y - mean_left) for x, y in enumerate(left))
    together += math.fsum((x - middle_right) * (y - mean_right) for x, y in enumerate(right, place))
    slope = together / spread
    step = (mean_right - mean_left) - slope * (middle_right - middle_left)
    squares = math.fsum((y - mean_left - slope * (x - middle_left)) ** 2 for x, y in enumerate(left))
    squares += math.fsum(
        (y - mean_right - slope * (x - middle_right)) ** 2 for x, y in enumerate(right, place)
    )
    variance = squares / max(1, len(values) - 3)
    apart = (middle_right - middle_left) ** 2 / spread
    return Step(
        step=step,
        error=math.sqrt(variance * (1 / len(left) + 1 / len(right) + apart)),
        before=mean_left + slope * (place - middle_left),
        slope=slope,
        slope_error=math.sqrt(variance / spread),
        squares=squares,
    )
