"""What a person presses, from the bytes of a terminal. Pure."""

from __future__ import annotations

from typing import Final

_SEQUENCES: Final = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down",
    b"\x1b[C": "right", b"\x1bOC": "right", b"\x1b[D": "left", b"\x1bOD": "left",
    b"\x1b[5~": "page up", b"\x1b[6~": "page down",
    b"\x1b[H": "home", b"\x1bOH": "home", b"\x1b[1~": "home",
    b"\x1b[F": "end", b"\x1bOF": "end", b"\x1b[4~": "end",
}  # fmt: skip
_NAMED: Final = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\t": "tab"}
LONGEST: Final = 16
"""Longer sequences than any that a keyboard sends are passed over as a whole."""


class Keys:
    """Cuts bytes into keys: names for those above, else the character itself. What is half a key waits for the rest;
    `settle` says that none comes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The keys that are whole by now."""
        self._rest += data
        keys: list[str] = []
        while self._rest and (taken := self._take()) is not None:
            length, key = taken
            self._rest = self._rest[length:]
            if key:
                keys.append(key)
        return keys

    def settle(self) -> list[str]:
        """Nothing has followed for a while: an escape was that key, and what is half a character is nothing."""
        rest, self._rest = self._rest, b""
        return ["escape"] if rest.startswith(b"\x1b") and len(rest) == 1 else []

    def _take(self) -> tuple[int, str] | None:
        """How many bytes the next key has, and which it is ("": none of ours); None while it is not whole."""
        rest = self._rest
        if rest[0] != 0x1B:
            return self._character()
        if len(rest) == 1:
            return None
        if rest[1] not in b"[O":
            return 1, "escape"
        for length in range(3, min(len(rest), LONGEST) + 1):
            if 0x40 <= rest[length - 1] <= 0x7E:  # what ends a sequence
                return length, _SEQUENCES.get(rest[:length], "")
        return (LONGEST, "") if len(rest) >= LONGEST else None

    def _character(self) -> tuple[int, str] | None:
        first = self._rest[0]
        length = 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
        if len(self._rest) < length:
            return None
        text = self._rest[:length].decode("utf-8", "replace")
        name = _NAMED.get(text, text)
        return length, name if len(name) > 1 or name.isprintable() else ""
