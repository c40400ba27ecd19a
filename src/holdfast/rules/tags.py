"""What people call their runs by: names with a value, or a word alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from holdfast.errors import UsageError

MAX_TAGS: Final = 50
"""Tags of one run: they are read with every list."""
MAX_CHARACTERS: Final = 200
"""Of a name or a value: a tag is a handle, not a document."""


def checked(tags: Mapping[Any, Any]) -> tuple[tuple[str, str], ...]:
    """The tags in order of their names. Raises UsageError for what cannot be one."""
    if len(tags) > MAX_TAGS:
        raise UsageError(f"a run has {MAX_TAGS} tags at most, not {len(tags)}")
    found: list[tuple[str, str]] = []
    for name, value in tags.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise UsageError(f"the tag {name!r}: {value!r} is not text: write str(…)")
        if not name or "=" in name or not name.isprintable() or len(name) > MAX_CHARACTERS:
            raise UsageError(
                f"{name!r} is no name for a tag: 1 to {MAX_CHARACTERS} printable characters without '='"
            )
        if not (value.isprintable() and len(value) <= MAX_CHARACTERS):
            raise UsageError(
                f"the value of the tag {name!r} is not {MAX_CHARACTERS} printable characters at most: {value[:40]!r}"
            )
        found.append((name, value))
    return tuple(sorted(found))


def parsed(texts: Iterable[str]) -> dict[str, str]:
    """Tags as people type them: `name=value`, or a word alone."""
    pairs = (text.partition("=") for text in texts)
    return {name: value for name, _, value in pairs}


def told(tags: Mapping[str, str]) -> str:
    """Tags as people type them, beside each other."""
    return " ".join(f"{name}={value}" if value else name for name, value in sorted(tags.items()))
