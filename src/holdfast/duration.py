"""Durations as people write them: seconds, a timedelta, or text such as "90s", "15m", "4h", "1h30m"."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final, TypeAlias

from holdfast.errors import UsageError

Duration: TypeAlias = float | int | timedelta | str

MAX_S: Final = 100 * 365 * 86_400
"""A hundred years: what is longer was meant as "for ever", and would overflow the clock of the store."""

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|[smhdw])")


def seconds(duration: Duration) -> float:
    """Return `duration` in seconds. Raises UsageError when it is negative, over MAX_S, or not understood."""
    value = _seconds(duration)
    if not 0 <= value <= MAX_S:
        raise UsageError(f"a duration must not be negative, nor longer than 100 years, which {duration!r} is")
    return value


def micros(duration: Duration) -> int:
    """Return `duration` in whole microseconds."""
    return round(seconds(duration) * 1_000_000)


def _seconds(duration: Duration) -> float:
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, bool):
        raise UsageError("a duration is a number of seconds, a timedelta or text like '4h', not a bool")
    if isinstance(duration, int | float):
        return float(duration) if abs(duration) <= MAX_S else float("inf")
    text = str(duration).strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not text or _PART.sub("", text).strip():
        raise UsageError(
            f"{duration!r} is not a duration: write seconds, or text like '30s', '15m', '4h', '1h30m'"
        )
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
