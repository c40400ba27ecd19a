"""The kernel's small files: read whole, written whole, or kept open and read again and again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_NUMBER: Final = 32
_ROOM: Final = 16_384
"""The longest of them here is a `memory.stat` of 4 KiB."""


def read_text(path: Path) -> str:
    """The file's text; empty when it is not there, may not be read, or what it tells of has ended."""
    try:
        return path.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def write_text(path: Path, text: str) -> None:
    """Write in one call, as the kernel wants it. Raises OSError as the kernel gives it: it is the answer."""
    place = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(place, text.encode())
    finally:
        os.close(place)


class Kept:
    """A file that stays open: a read costs a microsecond instead of ten, or four when the last was a second ago."""

    __slots__ = ("_place",)

    def __init__(self, path: Path) -> None:
        try:
            self._place = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._place = -1

    def read(self) -> bytes:
        """What it says now; nothing when it never was there, or is no more."""
        if self._place < 0:
            return b""
        try:
            return os.pread(self._place, _ROOM, 0)
        except OSError:
            return b""

    def number(self) -> int | None:
        """What it says, when that is a number."""
        try:
            return int(os.pread(self._place, _NUMBER, 0))
        except (OSError, ValueError):
            return None

    def after(self, word: bytes) -> int | None:
        """The number behind `word` in a file of "word number" lines."""
        return number_after(self.read(), word)

    def close(self) -> None:
        """Let go of it. Reading afterwards gives nothing."""
        if self._place >= 0:
            os.close(self._place)
            self._place = -1


def number_after(text: bytes, word: bytes) -> int | None:
    """The number behind `word` at the beginning of a line, if there is one."""
    at = 0 if text.startswith(word + b" ") else text.find(b"\n" + word + b" ") + 1
    if at == 0 and not text.startswith(word + b" "):
        return None
    end = text.find(b"\n", at)
    number = text[at + len(word) : end if end >= 0 else len(text)].strip()
    return int(number) if number.isdigit() else None
