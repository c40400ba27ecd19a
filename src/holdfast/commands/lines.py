"""What a program writes, as lines of text, and the progress that they tell. Bounded in memory and in time."""

from __future__ import annotations

import codecs
import importlib
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, cast

from holdfast.errors import UsageError

MAX_LINE_CHARS: Final = 2_000
"""A longer line is cut in pieces: as UTF-8 each fits into one record of a log."""
MATCHED_CHARS: Final = 200
"""So much of a line is compared with a progress pattern."""
MOST_REPEATS: Final = 12
"""Repetitions in a progress pattern. With n of them a search may take time as the (n + 1)th power of its line."""
_QUICK_REPEATS: Final = 2
"""With no more the whole of 200 characters takes 40 ms at worst (measured): it is compared at once."""
_FIRST_CHARS, _STEP = 4, 1.5
"""Else first with so much, then with so many times more, as long as the next could take no longer than WORST_S."""
WORST_S: Final = 0.05
SLOW_S: Final = 0.005
REST_SHARE: Final = 20
"""A line that took longer than SLOW_S is followed by a rest of so many times as long: five percent of the loop."""
_parser: Any = importlib.import_module("re._parser")
"""How Python itself reads a pattern: it has no public name."""
_REPEATS: Final[frozenset[Any]] = frozenset(
    {_parser.MAX_REPEAT, _parser.MIN_REPEAT, _parser.POSSESSIVE_REPEAT}
)
_GROUPS: Final = frozenset({"current", "total", "percent"})
_CONTROL: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours and cursor moves
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles and links
    r"|[\x00-\x08\x0b-\x1f\x7f]"
)


class Line(NamedTuple):
    """A piece of text; `whole` when its line is over, else it is one state of a line that is drawn over and over."""

    text: str
    whole: bool


class Lines:
    """Cuts the bytes of one stream into lines. Bytes that are no UTF-8 are replaced, control sequences left out.

    A carriage return says that what follows is written over the line: of a progress bar its last state is the line.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._open = ""
        self._drawn = ""

    def feed(self, data: bytes) -> Iterator[Line]:
        """The lines that these bytes end, and the states that they draw."""
        text = self._open + self._decoder.decode(data)
        *ended, self._open = re.split(r"(?<=[\r\n])", text)
        for piece in ended:
            yield from self._cut(piece[:-1], piece[-1])
        while len(self._open) > MAX_LINE_CHARS:
            yield Line(_clean(self._open[:MAX_LINE_CHARS]), True)
            self._open = self._open[MAX_LINE_CHARS:]

    def rest(self) -> Iterator[Line]:
        """The line that the end of the stream ends."""
        text = self._open + self._decoder.decode(b"", True)
        self._open = ""
        if text or self._drawn:
            yield from self._cut(text, "\n")

    def _cut(self, text: str, end: str) -> Iterator[Line]:
        while len(text) > MAX_LINE_CHARS:
            yield Line(_clean(text[:MAX_LINE_CHARS]), True)
            text = text[MAX_LINE_CHARS:]
        text = _clean(text)
        if text.strip():
            self._drawn = text
        if end == "\n":
            yield Line(self._drawn, True)
            self._drawn = ""
        elif text.strip():
            yield Line(text, False)


def _clean(text: str) -> str:
    return _CONTROL.sub("", text).rstrip()


class Gauge:
    """Reads progress from lines, by a regular expression with the groups `current`, `total` and `percent`.

    No line takes long: one on which the pattern is slow tells nothing, nor do those that follow at once.
    """

    def __init__(self, pattern: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises UsageError for a pattern that is none, from which no progress could be read, or that is too slow."""
        self._clock = clock
        self._rests_until_s = 0.0
        try:
            self._pattern = re.compile(pattern)
        except re.error as error:
            raise UsageError(f"the progress pattern {pattern!r} is no regular expression: {error}") from error
        parsed = _parser.parse(pattern)
        self._repeats = _repeats_in(parsed)
        if self._repeats > MOST_REPEATS:
            raise UsageError(
                f"the progress pattern {pattern!r} repeats {self._repeats} times, and {MOST_REPEATS} are the most: on "
                "some lines it would take for ever; match only what stands around the figures"
            )
        if _goes_round(parsed):
            raise UsageError(
                f"the progress pattern {pattern!r} repeats what repeats or branches itself: on some lines it would "
                "search for ever, with everything else of its worker waiting; repeat only single characters, as in \\d+"
            )
        groups = set(self._pattern.groupindex)
        if not groups & {"current", "percent"} or not groups <= _GROUPS:
            raise UsageError(
                f"the progress pattern {pattern!r} needs the group (?P<current>…) or (?P<percent>…), may have "
                "(?P<total>…), and no other name"
            )

    def read(self, text: str) -> tuple[float, float | None] | None:
        """The current figure and the total; None for a line that tells no progress."""
        if self._clock() < self._rests_until_s:
            return None
        began_s = time.thread_time()
        found = self._search(text[:MATCHED_CHARS])
        took_s = time.thread_time() - began_s
        if took_s > SLOW_S:
            self._rests_until_s = self._clock() + REST_SHARE * took_s
        if found is None:
            return None
        told = found.groupdict()
        current, total, percent = (_figure(told.get(name)) for name in ("current", "total", "percent"))
        if percent is not None and (current is None or total is None):
            return percent, 100
        return None if current is None else (current, total)

    def _search(self, text: str) -> re.Match[str] | None:
        """What is found in the text; None, too, where it could take too long to look through all of it."""
        chars = len(text) if self._repeats <= _QUICK_REPEATS else _FIRST_CHARS
        while chars < len(text):
            began_s = time.thread_time()
            self._pattern.search(text[:chars])
            if (time.thread_time() - began_s) * _STEP ** (self._repeats + 1) > WORST_S:
                return None
            chars = int(chars * _STEP)
        return self._pattern.search(text)


def _repeats_in(parsed: Any) -> int:  # noqa: ANN401 - a tree of Python's own parser
    """How many repetitions a pattern has, optional parts among them."""
    count = 0
    for what, value in parsed:
        count += what in _REPEATS
        nested = [one for part in _parts(value) for one in _parts(part)]
        count += sum(_repeats_in(one) for one in nested if isinstance(one, _parser.SubPattern))
    return count


def _goes_round(parsed: Any, repeats: bool = False) -> bool:  # noqa: ANN401 - a tree of Python's own parser
    """Whether a repetition has another one, or a choice, in it: such a pattern may take exponential time."""
    for what, value in parsed:
        again = what in _REPEATS and value[1] > 1
        if repeats and (again or what is _parser.BRANCH):
            return True
        parts = [nested for part in _parts(value) for nested in _parts(part)]
        if any(isinstance(one, _parser.SubPattern) and _goes_round(one, repeats or again) for one in parts):
            return True
    return False


def _parts(value: Any) -> Sequence[Any]:  # noqa: ANN401 - as above
    return cast("Sequence[Any]", value) if isinstance(value, list | tuple) else (value,)


def _figure(text: str | None) -> float | None:
    """A number as programs write them: `1,234,567`, `12.5`."""
    try:
        figure = float((text or "").replace(",", "").replace("_", ""))
    except ValueError:
        return None
    return figure if math.isfinite(figure) else None
