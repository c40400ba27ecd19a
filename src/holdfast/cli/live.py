"""Shows of a run that moves: a live picture on a terminal, a line an event elsewhere, JSON lines for programs."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final, Protocol

from holdfast.cli.lines import event_line, log_text
from holdfast.cli.saying import say
from holdfast.cli.views import event_json, print_line
from holdfast.client import Json
from holdfast.client.view import OutputView, event_payload
from holdfast.model import Event, Progress, Run
from holdfast.rules import progress as progress_rule

LOG_LINES: Final = 5
OUTPUT_CHARS: Final = 1000
REFRESHES_A_SECOND: Final = 8


class Show(Protocol):
    """Where the events of a run go."""

    def shown(self) -> AbstractContextManager[object]:
        """Active while the run is followed."""
        ...

    def event(self, event: Event) -> None:
        """One event, in order."""
        ...

    def output(self, piece: OutputView) -> None:
        """Text that a step streams."""
        ...

    def glance(self, run: Run) -> None:
        """The run as it is now, about twice a second."""
        ...

    def say(self, text: str) -> None:
        """A line to the person, now."""
        ...


class JsonShow:
    """JSON lines on stdout."""

    def shown(self) -> AbstractContextManager[object]:
        return nullcontext()

    def event(self, event: Event) -> None:
        print_line(event_json(event))

    def output(self, piece: OutputView) -> None:
        told = {
            "step": piece.step,
            "key": piece.key,
            "scope": piece.scope,
            "start": piece.start,
            "text": piece.text,
        }
        print_line({"n": None, "at": piece.at, "type": "output", "data": told})

    def glance(self, run: Run) -> None:
        """Nothing: programs read events."""

    def say(self, text: str) -> None:
        say(text, err=True)


class PlainShow:
    """A line of text an event."""

    def __init__(self, *, stderr: bool) -> None:
        self._stderr = stderr

    def shown(self) -> AbstractContextManager[object]:
        return nullcontext()

    def event(self, event: Event) -> None:
        say(event_line(event), err=self._stderr)

    def output(self, piece: OutputView) -> None:
        for line in piece.text.splitlines():
            say(f"{piece.at.strftime('%H:%M:%S')}  {'output':<16} {piece.step}: {line}", err=self._stderr)

    def glance(self, run: Run) -> None:
        """Nothing: the events say it."""

    def say(self, text: str) -> None:
        say(text, err=self._stderr)


class QuietShow(JsonShow):
    """Nothing but what is said: for `run --json`, whose stdout is one document."""

    def event(self, event: Event) -> None:
        """Nothing."""

    def output(self, piece: OutputView) -> None:
        """Nothing."""


@dataclass(slots=True)
class Picture:
    """What a live display knows: built from events and glances, drawn at any moment."""

    run: Run
    progress: Progress | None = None
    step: str | None = None
    step_since_us: int = 0
    recorded: int = 0
    logs: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    output: str = ""

    def apply(self, event: Event) -> None:
        """Take an event in."""
        told = event_payload(event)
        match event.type:
            case "log":
                self.logs.append(log_text(told))
            case "progress":
                self.progress = progress_rule.merge(self.progress, _progress(told), event.at_us)
            case "step.started":
                self.step, self.step_since_us = str(told.get("name") or ""), event.at_us
            case "step.finished" | "step.failed":
                self.recorded += 1
            case _:
                pass

    def stream(self, piece: OutputView) -> None:
        """Take streamed text in: the picture has its last line."""
        self.output = ((self.output if piece.start else "") + piece.text)[-OUTPUT_CHARS:]

    def glance(self, run: Run, now_us: int) -> None:
        """Take the run's row in."""
        self.run = run
        self.recorded = run.steps
        if run.step != self.step:
            self.step, self.step_since_us = run.step, now_us


def worth_a_line(event: Event) -> bool:
    """Whether a live display keeps a line of it above the picture: what a person would scroll back for."""
    return event.type in _KEPT


_KEPT: Final = frozenset(
    {
        "step.failed",
        "step.retried",
        "checkpoint.corrupt",
        "warning",
        "approval.asked",
        "approval.answered",
        "approval.escalated",
        "approval.expired",
        "approval.withdrawn",
        "run.queued",
        "run.waiting",
        "run.failed",
        "run.cancelled",
        "run.succeeded",
    }
)


def _progress(told: dict[str, Json]) -> Progress:
    current, total, phase = told.get("current"), told.get("total"), told.get("phase")
    return Progress(
        current=float(current) if isinstance(current, int | float) else 0.0,
        total=float(total) if isinstance(total, int | float) else None,
        description=str(told.get("description") or ""),
        phase=str(phase) if phase is not None else None,
    )


def choose_show(
    picture: Picture, *, as_json: bool, stderr: bool, now_us: Callable[[], int], quiet_json: bool = False
) -> Show:
    """The show that fits where the output goes."""
    if as_json:
        return QuietShow() if quiet_json else JsonShow()
    stream = sys.stderr if stderr else sys.stdout
    if not stream.isatty():
        return PlainShow(stderr=stderr)
    from holdfast.cli.terminal import TerminalShow

    return TerminalShow(picture, now_us, stderr=stderr)
