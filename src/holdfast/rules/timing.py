"""When a schedule is due: the times of a cron expression or an interval, and the jitter of each.

Laws of this file:
1. Times only go forward: what follows an instant is later than it, whatever clocks in the zone show.
2. Daylight saving is cronsim's, as in Debian's cron: a job at a fixed hour runs once, at the end of the gap when its
   time is skipped and at the first of two when it comes twice; a job by wildcards follows the passing of time.
3. What a look at the past costs is bounded by how many times it may answer, never by how long ago that was.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from cronsim import CronSim, CronSimError

from holdfast.errors import UsageError
from holdfast.model import After, Cron, Interval, Trigger

SECOND_US: Final = 1_000_000
MIN_EVERY_US: Final = SECOND_US
"""A fire is a transaction and a run: what comes more often than every second belongs into one run that loops."""
LATEST_US: Final = 4_102_444_800 * SECOND_US
"""The year 2100: a schedule with nothing due before it never fires."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)
_FIRST_LOOK_US: Final = 60 * SECOND_US

_GAPS_LOOKED_AT: Final = 25  # a day of hours

_FIELDS: Final = ("minute", "hour", "day of the month", "month", "day of the week")
_RANGES: Final = {
    "second": "0-59, as in '0' or '*/10'",
    "minute": "0-59, as in '0', '*/15' or '0,30'",
    "hour": "0-23, as in '2' or '8-18'",
    "day of the month": "1-31, 'L' for the last or 'LW' for the last weekday, as in '1' or '*'",
    "month": "1-12 or JAN-DEC, as in '*' or 'JAN,JUL'",
    "day of the week": "0-7 or SUN-SAT, '#' for the nth, 'L' for the last, as in 'MON-FRI', 'MON#1' or '5L'",
}
_NAMES: Final = {
    "month": ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    "day of the week": ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
}
_NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True, slots=True)
class Dues:
    """Due times of the past, oldest first; `earlier`: there were more before the first of them."""

    times_us: tuple[int, ...]
    earlier: bool


# --- what can be a cron expression --------------------------------------------------------------------------


def check_cron(expression: str) -> str:
    """The expression with single spaces, or UsageError that names the field, with an example."""
    parts = expression.split()
    nickname = _NICKNAMES.get(expression.strip().lower())
    if nickname is not None:
        raise UsageError(f"cron {expression!r}: nicknames are not understood; write {nickname!r}")
    names = ("second", *_FIELDS) if len(parts) == 6 else _FIELDS
    if len(parts) != len(names):
        raise UsageError(
            f"cron {expression!r} has {len(parts)} fields: it takes minute, hour, day of the month, month and day of"
            " the week, as in '30 2 * * MON-FRI' (a sixth, before them, is seconds)"
        )
    for at, (name, part) in enumerate(zip(names, parts, strict=True)):
        alone = ["*"] * len(names)
        alone[at] = part
        if not _parses(" ".join(alone)):
            raise UsageError(
                f"cron {expression!r}: {part!r} is no {name}{_near(name, part)}: {_RANGES[name]}"
            )
    text = " ".join(parts)
    if not _parses(text) or _next_cron(text, UTC, 0) is None:
        raise UsageError(f"cron {expression!r} never comes: no month has such a day")
    return text


def _parses(expression: str) -> bool:
    try:
        CronSim(expression, _EPOCH)
    except (CronSimError, AssertionError):
        return False
    return True


def _near(name: str, part: str) -> str:
    for word in part.replace("-", ",").split(","):
        near = difflib.get_close_matches(word.upper(), _NAMES.get(name, []), n=1)
        if near and near[0] != word.upper():
            return f" (did you mean {near[0]}?)"
    return ""


def check_every(every_us: int) -> int:
    """The length of an interval, or UsageError."""
    if every_us < MIN_EVERY_US:
        raise UsageError(
            f"every {every_us / SECOND_US:g} s is too often: 1 s is the least; loop inside of one run instead"
        )
    return every_us


def check_jitter(trigger: Trigger, zone: tzinfo, most_us: int, now_us: int) -> int:
    """The bound of the jitter, or UsageError when fires would overtake each other."""
    if most_us == 0:
        return most_us
    if isinstance(trigger, After):
        raise UsageError("a schedule that comes after runs has no time to jitter; leave jitter out")
    at_us, gap_us = next_due(trigger, zone, now_us), LATEST_US
    for _ in range(_GAPS_LOOKED_AT):
        following_us = None if at_us is None else next_due(trigger, zone, at_us)
        if at_us is not None and following_us is not None:
            gap_us = min(gap_us, following_us - at_us)
        at_us = following_us
    if most_us >= gap_us:
        raise UsageError(
            f"a jitter of {most_us / SECOND_US:g} s is not shorter than the {gap_us / SECOND_US:g} s between two fires"
        )
    return most_us


# --- the times ----------------------------------------------------------------------------------------------


def next_due(trigger: Cron | Interval, zone: tzinfo, after_us: int) -> int | None:
    """The first due time later than `after_us`; None when there is none in this century. The zone is the trigger's."""
    if isinstance(trigger, Interval):
        passed = max(0, (after_us - trigger.anchor_us) // trigger.every_us)
        found = trigger.anchor_us + (passed + 1) * trigger.every_us
        return found if found < LATEST_US else None
    return _next_cron(trigger.expression, zone, after_us)


def _moments(expression: str, zone: tzinfo, after_us: int) -> Iterator[int]:
    try:
        found = CronSim(expression, (_EPOCH + after_us * _US).astimezone(zone))
    except CronSimError as error:  # it was checked when it was added, by another version of the library
        raise UsageError(f"cron {expression!r} is not understood: {error}") from error
    return ((moment - _EPOCH) // _US for moment in found)


def _next_cron(expression: str, zone: tzinfo, after_us: int) -> int | None:
    for due_us in _moments(expression, zone, after_us):
        if due_us >= LATEST_US:
            return None
        if due_us > after_us:  # in the hour that comes twice, cronsim begins again with the first
            return due_us
    return None


def dues(trigger: Cron | Interval, zone: tzinfo, first_us: int, until_us: int, most: int) -> Dues:
    """The newest due times from `first_us` (itself due) up to `until_us`, both included, at most `most`."""
    if isinstance(trigger, Interval):
        count = max(0, (until_us - first_us) // trigger.every_us + 1)
        left = range(max(0, count - most), count)
        return Dues(tuple(first_us + n * trigger.every_us for n in left), count > most)
    length_us = _FIRST_LOOK_US
    while True:  # twice as far back each time, so that a year of seconds costs no more than a year of days
        since_us = max(first_us, until_us - length_us)
        found = _cron_between(trigger.expression, zone, since_us, until_us)
        if since_us == first_us or len(found) > most:
            return Dues(tuple(found[max(0, len(found) - most) :]), since_us > first_us or len(found) > most)
        length_us *= 2


def _cron_between(expression: str, zone: tzinfo, since_us: int, until_us: int) -> list[int]:
    found: list[int] = []
    at_us = since_us - 1
    for due_us in _moments(expression, zone, at_us):
        if due_us > until_us:
            break
        if due_us > at_us:
            found.append(due_us)
            at_us = due_us
    return found


def jitter_us(name: str, due_us: int, most_us: int) -> int:
    """How much later than due this fire goes, below `most_us`: the same for everybody who asks."""
    if most_us <= 0:
        return 0
    digest = hashlib.sha256(f"{name}\n{due_us}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % most_us


def stamp(due_us: int) -> str:
    """An instant as it stands in a run's id: `20261122T023000Z`, with a fraction only when there is one."""
    moment = _EPOCH + due_us * _US
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{moment:%Y%m%dT%H%M%S}{fraction}Z"
