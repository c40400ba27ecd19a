"""Log capture: what code of a run writes with the standard library's `logging` goes to the run, too.

One handler on the root logger looks into a context variable for the sink of the run whose code is logging; threads
with a copied context find it as well. Outside runs it does nothing. The user's handlers see every record as before.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

from holdfast.clock import Clock, SystemClock

MAX_MESSAGE_BYTES: Final = 8_192
"""A line longer than this is a document, and belongs into a step's result or a file."""

LINES_PER_S: Final = 20
"""Sustained, per run: what a person can follow, and what costs the store less than one step a second."""

BURST_LINES: Final = 100
"""Lines at once after a quiet time: a traceback's or a report's worth."""

_OURS: Final = "holdfast"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One captured record. `level` is lower case as in "warning"; `message` holds at most MAX_MESSAGE_BYTES."""

    level: str
    logger: str
    message: str
    at_us: int


Sink = Callable[[LogLine], None]

current_log_sink: ContextVar[Sink | None] = ContextVar("current_log_sink", default=None)
"""Where the log lines of the code at hand go; None outside runs. May be called from any thread."""


@dataclass(slots=True)
class _Allowance:
    """A run's bucket: `lines` it may write now, and how many it lost since the last one written."""

    lines: float
    filled_us: int
    dropped: int = 0
    dropped_at_us: int = 0


class Capture(logging.Handler):
    """The handler; `install()` puts it there once per process, after the user's logging is set up."""

    def __init__(self, *, clock: Clock | None = None, level: int = logging.INFO) -> None:
        super().__init__(level)
        self._clock = clock or SystemClock()
        self._busy = threading.local()
        self._allowances: WeakKeyDictionary[Sink, _Allowance] = WeakKeyDictionary()
        self._text = logging.Formatter()

    def remove(self) -> None:
        """Take it off the root logger. Idempotent."""
        logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record to the sink of the run at hand, within the run's allowance. Never raises."""
        if record.levelno >= logging.WARNING:
            self._print_as_before(record)
        sink = current_log_sink.get()
        if sink is None or self._is_ours(record.name) or getattr(self._busy, "now", False):
            return
        self._busy.now = True  # what the sink itself logs is dropped
        try:
            self._pass_on(sink, record)
        except Exception:  # noqa: BLE001 - logging must never fail the code that logs
            self.handleError(record)
        finally:
            self._busy.now = False

    def tell_dropped(self, sink: Sink) -> None:
        """The run's attempt ends: tell its sink what is still dropped and untold, and forget it."""
        allowance = self._allowances.pop(sink, None)
        if allowance is not None and allowance.dropped:
            sink(_told(allowance))

    def _pass_on(self, sink: Sink, record: logging.LogRecord) -> None:
        now_us = self._clock.boot_us()
        at_us = int(record.created * 1_000_000)
        allowance = self._allowances.get(sink)
        if allowance is None:
            allowance = self._allowances[sink] = _Allowance(BURST_LINES, now_us)
        earned = (now_us - allowance.filled_us) * LINES_PER_S / 1_000_000
        allowance.lines = min(BURST_LINES, allowance.lines + earned)
        allowance.filled_us = now_us
        if allowance.lines < (2 if allowance.dropped else 1):
            allowance.dropped += 1
            allowance.dropped_at_us = at_us
            return
        if allowance.dropped:
            allowance.lines -= 1
            sink(_told(allowance))
            allowance.dropped = 0
        allowance.lines -= 1
        sink(LogLine(record.levelname.lower(), _cut(record.name), _cut(self._message(record)), at_us))

    def _message(self, record: logging.LogRecord) -> str:
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - any object's __str__ may run here
            message = f"{record.msg!r} (its arguments do not fit: {type(error).__name__}: {error})"
        if record.exc_info:
            message = f"{message}\n{self._text.formatException(record.exc_info)}"
        return message

    def _print_as_before(self, record: logging.LogRecord) -> None:
        """Python prints warnings itself while no handler is set; ours must not be the one that silences them."""
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and not heard(logging.getLogger(record.name)):
            last.handle(record)

    @staticmethod
    def _is_ours(name: str) -> bool:
        return name == _OURS or name.startswith(f"{_OURS}.")


def install() -> Capture:
    """Put a Capture on the root logger, or return the one that is there.

    Where nobody configured logging, INFO is let through to it; what is printed stays the same.
    """
    root = logging.getLogger()
    for known in root.handlers:
        if isinstance(known, Capture):
            return known
    if not root.handlers and root.level == logging.WARNING:
        root.setLevel(logging.INFO)
    capture = Capture()
    root.addHandler(capture)
    return capture


def heard(logger: logging.Logger) -> bool:
    """Whether anybody but us reads what the logger says: a record costs more than the question."""
    asked: logging.Logger | None = logger
    while asked is not None:
        if any(not isinstance(handler, Capture) for handler in asked.handlers):
            return True
        asked = asked.parent if asked.propagate else None
    return False


def tell_dropped(sink: Sink) -> None:
    """An attempt ends: its sink learns how many lines were dropped last."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Capture):
            handler.tell_dropped(sink)


def _told(allowance: _Allowance) -> LogLine:
    text = f"dropped {allowance.dropped} lines: over {LINES_PER_S} a second"
    return LogLine("warning", _OURS, text, allowance.dropped_at_us)


def _cut(text: str) -> str:
    """The text in at most MAX_MESSAGE_BYTES of UTF-8, without half characters."""
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_MESSAGE_BYTES:
        return data.decode()
    return data[: MAX_MESSAGE_BYTES - 3].decode("utf-8", "ignore") + "…"
