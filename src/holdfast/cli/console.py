"""Tables and pages for people, coloured on a terminal: `rich`, whose text never acts on the terminal that shows it."""

from __future__ import annotations

import sys
from typing import Any, Final

from rich import console as rich_console
from rich import text as rich_text
from rich.style import Style

from holdfast.cli.saying import visible

PLAIN_WIDTH: Final = 240
"""Wide enough that a pipe gets one line a row."""


class Text(rich_text.Text):
    """Text in a style, with its control characters to be seen."""

    def __init__(self, text: str = "", *arguments: Any, **options: Any) -> None:
        super().__init__(visible(text), *arguments, **options)

    def append(self, text: rich_text.Text | str, style: str | Style | None = None) -> Text:
        """The same for what follows."""
        super().append(visible(text) if isinstance(text, str) else text, style)
        return self

    def append_text(self, text: rich_text.Text) -> Text:
        """The same for text that has styles."""
        super().append_text(text)
        return self


class Console(rich_console.Console):
    """The same for strings that are printed as they are, in cells of tables for instance."""

    def render_str(self, text: str, **options: Any) -> rich_text.Text:
        """As `rich` does."""
        return super().render_str(visible(text), **options)


def console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr. NO_COLOR is honoured by rich; a pipe gets plain, unwrapped text."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)
