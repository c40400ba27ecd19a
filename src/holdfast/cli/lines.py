"""An event as one line of plain text. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Final

from holdfast.cli import words
from holdfast.client import Json
from holdfast.client.view import at, event_payload
from holdfast.model import Event
from holdfast.rules import waits

Told = Mapping[str, Json]


def event_line(event: Event) -> str:
    """`15:04:05  step.finished  fetch`: the time in UTC, the type, and what matters of the rest."""
    told = event_payload(event)
    family = event.type.partition(".")[0]
    text = _TEXTS.get(family, _other)(told)
    if event.type == "approval.asked":
        text += f"  → holdfast approve {shlex.quote(event.run)} CHOICE --question {told.get('n')}"
    return f"{at(event.at_us).strftime('%H:%M:%S')}  {event.type:<16} {text}".rstrip()


def log_line(event: Event) -> str:
    """`15:04:05  INFO     app: fetched 3 pages`."""
    return f"{at(event.at_us).strftime('%H:%M:%S')}  {log_text(event_payload(event))}"


def log_text(told: Told) -> str:
    """A log line without its time."""
    level, logger, message = (str(told.get(name) or "") for name in ("level", "logger", "message"))
    source = f"{logger}: " if logger and logger != "root" else ""
    return f"{level.upper():<8} {source}{message}"


def _run(told: Told) -> str:
    reason = told.get("reason")
    text = f"({reason})" if reason else ""
    if (attempt := told.get("attempt")) is not None:
        text += f" attempt {attempt}"
    if (signal := told.get("signal")) is not None:
        text += f" waits for {_awaited(str(signal))}"
    error = told.get("error")
    if isinstance(error, dict):
        text += f" {error_text(error)}"
    return text.strip()


def _awaited(wait_name: str) -> str:
    names = [waits.child_of(name) or repr(name) for name in waits.names(wait_name)]
    more = f" or {len(names) - 3} others" if len(names) > 3 else ""
    return " or ".join(names[:3]) + more


def _step(told: Told) -> str:
    text = str(told.get("name") or "")
    if (key := told.get("key")) is not None:
        text += f"[{key}]"
    error = told.get("error")
    if isinstance(error, dict):
        text += f": {error_text(error)}"
    return text


def _checkpoint(told: Told) -> str:
    name = told.get("name")
    return f"{told.get('n', '')}{f' {name!r}' if name else ''}"


def _progress(told: Told) -> str:
    current, total = told.get("current"), told.get("total")
    if not isinstance(current, int | float):
        return ""
    text = words.count(current)
    if isinstance(total, int | float):
        text += f"/{words.count(total)}"
    return "  ".join(str(part) for part in (text, told.get("phase"), told.get("description")) if part)


def _approval(told: Told) -> str:
    text = f"{told.get('n', '')} {words.one_line(str(told.get('question') or ''), 80)!r}"
    if isinstance(options := told.get("options"), list):
        text += f" ({', '.join(map(str, options))})"
    if (choice := told.get("choice")) is not None:
        text += f": {choice!r} by {told.get('by')}"
    if (to := told.get("to")) is not None:
        text += f" to {to}"
    if (default := told.get("default")) is not None:
        text += f": {default!r} by default"
    return text


def _message(told: Told) -> str:
    return str(told.get("message") or _other(told))


def _other(told: Told) -> str:
    return "  ".join(f"{name}={value}" for name, value in told.items() if value is not None)


def error_text(error: Told) -> str:
    """`ValueError: bad`, from an error as an event tells it."""
    return words.one_line(f"{error.get('type')}: {error.get('message')}", 200)


_TEXTS: Final[Mapping[str, Callable[[Told], str]]] = {
    "run": _run,
    "step": _step,
    "approval": _approval,
    "checkpoint": _checkpoint,
    "progress": _progress,
    "log": log_text,
    "warning": _message,
}
