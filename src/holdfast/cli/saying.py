"""Where the shell writes text: what a run says never acts on the terminal that shows it."""

from __future__ import annotations

import json
import os
import re
from typing import Final

import click

_ACTING: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but for tabs and ends of lines, and those that turn the direction of text around."""


def visible(text: str) -> str:
    r"""The text with its control characters to be seen: an escape is `\x1b`."""
    return text if text.isprintable() else _ACTING.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def say(text: str = "", *, err: bool = False) -> None:
    """A line of text on stdout or stderr."""
    click.echo(visible(text), err=err)


def complain(message: str) -> None:
    """One line on stderr that begins with `error:`."""
    colour = False if os.environ.get("NO_COLOR") else None
    click.echo(f"{click.style('error:', fg='red', bold=True)} {visible(message)}", err=True, color=colour)


def say_json(value: object, *, indent: int | None = None) -> None:
    """One JSON document on stdout: the same text as ever, for what `json` leaves as it is stands in strings alone."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    click.echo(_ACTING.sub(lambda one: f"\\u{ord(one[0]):04x}", text))
