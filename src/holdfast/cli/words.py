"""Plain words for figures: durations, ages, ETAs, sizes, times. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from holdfast.client import BudgetUnitView, ProgressView
from holdfast.rules.clocks import Sign

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400


SIGNS: Final[Mapping[Sign, str]] = {
    Sign.LOST: "its worker lost it: another one takes it over",
    Sign.WORKING: "it works",
    Sign.BUSY: "it records nothing, but computes",
    Sign.IDLE: "it records nothing and uses no CPU: it waits for something outside, or hangs",
    Sign.SILENT: "it records nothing; whether it computes cannot be told beside the other runs of its worker",
}
"""Hung or working?"""


def duration(length_s: float) -> str:
    """`40ms`, `1.4s`, `12s`, `3m 05s`, `2h 10m`, `4d 3h`."""
    if length_s < 0:
        return "0s"
    if length_s < 0.1:
        return f"{round(length_s * 1000)}ms"
    if length_s < 10:
        return f"{length_s:.1f}s"
    whole = round(length_s)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m {whole % _MINUTE:02d}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h {whole % _HOUR // _MINUTE:02d}m"
    return f"{whole // _DAY}d {whole % _DAY // _HOUR}h"


def age(then: datetime, now: datetime) -> str:
    """How long ago, in its largest unit: `5s`, `3m`, `2h`, `4d`."""
    whole = max(0, round((now - then).total_seconds()))
    for length, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if whole >= length:
            return f"{whole // length}{unit}"
    return f"{whole}s"


def eta(low_s: float | None, high_s: float | None) -> str:
    """`about 2–3m left`, or nothing when it is not known."""
    if low_s is None or high_s is None:
        return ""
    if high_s < 1:
        return "about to end"
    low, high = rough(low_s), rough(high_s)
    return f"about {high} left" if low == high else f"{low} to {high} left"


def rough(length_s: float) -> str:
    """One unit, no more precise than an estimate deserves."""
    if length_s < 90:
        return f"{round(length_s)}s"
    if length_s < 90 * _MINUTE:
        return f"{round(length_s / _MINUTE)}m"
    if length_s < 36 * _HOUR:
        return f"{length_s / _HOUR:.1f}h".replace(".0h", "h")
    return f"{round(length_s / _DAY)}d"


def number(count_of: int, noun: str) -> str:
    """`1 attempt`, `2 attempts`."""
    return f"{count_of:,} {noun}{'' if count_of == 1 else 's'}"


def count(value: float) -> str:
    """A number of progress: whole ones without a point."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def progress(view: ProgressView | None) -> str:
    """`12/40 30%`, `12`, or nothing."""
    if view is None:
        return ""
    if view.total is None:
        return count(view.current)
    percent = "" if view.percent is None else f" {view.percent:.0f}%"
    return f"{count(view.current)}/{count(view.total)}{percent}"


def size(count_bytes: float) -> str:
    """`812 B`, `3.1 KB`, `20 MB`."""
    for unit in ("B", "KB", "MB", "GB"):
        if count_bytes < 1000 or unit == "GB":
            return (
                f"{count_bytes:.0f} {unit}"
                if count_bytes >= 20 or unit == "B"
                else f"{count_bytes:.1f} {unit}"
            )
        count_bytes /= 1000
    raise AssertionError("the last unit returns")


def rfc3339(moment: datetime) -> str:
    """UTC with Z, in microseconds, as JSON has it."""
    return moment.isoformat().replace("+00:00", "Z")


def clock(moment: datetime) -> str:
    """To the second, for people; UTC says so."""
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def until(moment: datetime, now: datetime) -> str:
    """`in 12s`, or `now`."""
    left: timedelta = moment - now
    return f"in {duration(left.total_seconds())}" if left.total_seconds() > 0 else "now"


def one_line(text: str, longest: int = 120) -> str:
    """The first line, cut to a length."""
    first = text.strip().splitlines()[0] if text.strip() else ""
    return first if len(first) <= longest else first[: longest - 1] + "…"


def spent(view: BudgetUnitView) -> str:
    """`usd: $1.20 of $5.00, $0.30 reserved, $3.50 left`; without a limit what is used alone."""
    text = f"{view.unit}: {amount(view.unit, view.used)}"
    if view.limit is not None:
        text += f" of {amount(view.unit, view.limit)}"
    if view.reserved:
        text += f", {amount(view.unit, view.reserved)} reserved"
    return text if view.remaining is None else f"{text}, {amount(view.unit, view.remaining)} left"


def amount(unit: str, used: float) -> str:
    """`$1.20`, `2h 10m`, `1,200`: so much of a budget's unit."""
    match unit:
        case "usd":
            return f"${used:,.4f}" if used < 1 else f"${used:,.2f}"
        case "working_s":
            return duration(used)
        case _:
            return f"{used:,.0f}"
