"""What a program writes, as lines of text, and the progress that they tell. Pure, and bounded in memory."""

from __future__ import annotations

import codecs
import importlib
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, cast

from holdfast.errors import UsageError

MAX_LINE_CHARS: Final = 2_000
"""A longer line is cut in pieces: as UTF-8 each fits into one record of a log."""
MATCHED_CHARS: Final = 200
"""So much of a line is compared with a progress pattern: a slow pattern must not hold the loop."""
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
    """Reads progress from lines, by a regular expression with the groups `current`, `total` and `percent`."""

    def __init__(self, pattern: str) -> None:
        """Raises UsageError for a pattern that is none, or from which no progress could be read."""
        try:
            self._pattern = re.compile(pattern)
        except re.error as error:
            raise UsageError(f"the progress pattern {pattern!r} is no regular expression: {error}") from error
        if _goes_round(_parser.parse(pattern)):
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
        found = self._pattern.search(text[:MATCHED_CHARS])
        if found is None:
            return None
        told = found.groupdict()
        current, total, percent = (_figure(told.get(name)) for name in ("current", "total", "percent"))
        if percent is not None and (current is None or total is None):
            return percent, 100
        return None if current is None else (current, total)


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
