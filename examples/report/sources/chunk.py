"""A stretch of a source, the same whatever its kind: rows of texts, each with its line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from examples.report.model import Cursor

SECOND_BYTES = re.escape(bytes(range(0x80, 0xC0)).decode("cp1252", errors="ignore"))
TWICE = re.compile(f"[\u00c2-\u00f4][{SECOND_BYTES}]{{1,3}}")
SPOILT = ("Ã", "Â", "â€")  # what UTF-8 looks like that was taken for Windows-1252 and encoded once more


class Unreadable(Exception):
    """A source that is not there, is not what it seems, or was changed. The message says what to do."""


@dataclass(slots=True)
class Chunk:
    """Rows as they stand in the source: the line, why it cannot be a row (or None), and its cells or its text."""

    rows: list[tuple[int, str | None, list[str | None]]] = field(default_factory=list)
    recoded: int = 0
    next: Cursor | None = None

    def add(self, line: int, cells: list[str | None]) -> None:
        self.rows.append((line, None, cells))

    def refuse(self, line: int, why: str, text: str) -> None:
        self.rows.append((line, why, [text[:200]]))


def text_of(raw: bytes) -> tuple[str, bool]:
    """A line's text, and whether it had to be mended: bytes of Windows-1252, or UTF-8 that was encoded twice."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace"), True
    if not raw.isascii() and any(mark in text for mark in SPOILT):
        mended = unspoilt(text)
        return mended, mended != text
    return text, False


def unspoilt(text: str) -> str:
    """Undo an encoding too many, where that is what it was."""
    return TWICE.sub(decoded_again, text)


def decoded_again(found: re.Match[str]) -> str:
    try:
        return found.group().encode("cp1252").decode("utf-8")
    except UnicodeError:
        return found.group()


def cell_of(value: object) -> tuple[str | None, bool]:
    """A typed value as text, and whether its encoding had to be mended."""
    if value is None:
        return None, False
    if isinstance(value, bytes):
        return text_of(value)
    text = str(value)
    if any(mark in text for mark in SPOILT):
        mended = unspoilt(text)
        return mended, mended != text
    return text, False
