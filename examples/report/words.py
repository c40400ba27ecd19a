"""Figures and dates as a person reads them. Pure."""

from __future__ import annotations

import math
from datetime import date, datetime

from examples.report.model import Period

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
EACH: dict[Period, str] = {"day": "daily", "week": "weekly", "month": "monthly"}
SCALES = ((1e12, "tn"), (1e9, "bn"), (1e6, "m"), (1e3, "k"))
NARROW = "\u202f"  # a narrow space that does not break: between a figure and a unit that is a word


def figure(value: float, unit: str = "") -> str:
    """Three figures that count: `1.24m`, `38.2`, with the sign of money before and any other unit behind."""
    size = abs(value)
    for scale, name in SCALES:
        if size >= scale * 0.9995:
            return with_unit(f"{counting(value / scale)}{name}", unit)
    return with_unit(signed(f"{value:.0f}") if value == round(value) else counting(value), unit)


def round_figure(value: float, unit: str = "") -> str:
    """A round value without noughts that say nothing: `1.5m`, for an axis."""
    size = abs(value)
    scale, name = next(((scale, name) for scale, name in SCALES if size >= scale * 0.9995), (1.0, ""))
    text = counting(value / scale)
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return with_unit(f"{text}{name}", unit)


def counting(value: float) -> str:
    value = float(f"{value:.3g}")
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value)) + 1e-9))
    return signed(f"{value:,.{min(digits, 6)}f}")


def with_unit(text: str, unit: str) -> str:
    if not unit:
        return text
    if unit not in "€$£¥":
        return f"{text}{NARROW}{unit}"
    return f"−{unit}{text[1:]}" if text.startswith("−") else f"{unit}{text}"


def exactly(value: float, unit: str = "") -> str:
    """All of it: `1,240,312.50`."""
    text = f"{value:,.2f}"
    return with_unit(signed(text.removesuffix(".00")), unit)


def signed(text: str) -> str:
    return text.replace("-", "−")


def percent(share: float, digits: int | None = None) -> str:
    """A share: two figures that count, never 0 % for something."""
    value = share * 100
    if digits is None:
        size = abs(value)
        if 0 < size < 0.0095:
            return "under 0.01%"
        digits = 0 if size >= 9.95 or size == 0 else 1 if size >= 0.095 else 2
    return signed(f"{value:.{digits}f}%")


def part(share: float) -> str:
    """A part of the whole, to a tenth of a percent: nothing but the whole is 100%."""
    if share == 1:
        return "100%"
    return "over 99.9%" if share >= 0.9995 else percent(share, 1)


def change(share: float) -> str:
    """A share with its sign."""
    return ("+" if share > 0 else "") + percent(share)


def many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def day(text: str) -> str:
    """`4 Mar 2024`, of a date or a time in ISO form."""
    when = datetime.fromisoformat(text)
    return f"{when.day} {MONTHS[when.month - 1]} {when.year}"


def period(start: str, kind: Period) -> str:
    """`the week of 4 Mar 2024`."""
    when = date.fromisoformat(start)
    if kind == "month":
        return f"{MONTHS[when.month - 1]} {when.year}"
    return f"the week of {day(start)}" if kind == "week" else day(start)


def span(first: str, last: str) -> str:
    """`between 2 Jan 2023 and 29 Dec 2024`, or `on 2 Jan 2023`."""
    return f"on {day(first)}" if day(first) == day(last) else f"between {day(first)} and {day(last)}"


def short(text: str) -> str:
    """A cell for a table: a hash is known by its beginning."""
    return f"{text[:12]}…" if len(text) > 24 and text.isalnum() else text


def size(count: int) -> str:
    """Bytes."""
    for scale, name in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")):
        if count >= scale:
            return f"{count / scale:.1f}{NARROW}{name}"
    return f"{count}{NARROW}B"


def label(column: str) -> str:
    """A column's name as a heading."""
    return column.replace("_", " ")


def title(column: str) -> str:
    text = label(column)
    return text[:1].upper() + text[1:]
