"""What people type after `--input` and `--data`: JSON, `@FILE`, or `@-` for stdin."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from holdfast.errors import UsageError


def json_text(given: str, option: str) -> bytes:
    """The JSON that an option gives, checked to be JSON. Raises UsageError that shows where it is not."""
    text, source = _read(given, option)
    try:
        json.loads(text)
    except ValueError as error:
        hint = "" if source else f' (in a shell: {option} \'{{"key": "value"}}\')'
        raise UsageError(f"{option}{source} is not JSON: {error}{hint}") from error
    return text.encode()


def _read(given: str, option: str) -> tuple[str, str]:
    if given == "@-":
        return sys.stdin.read(), " from stdin"
    if not given.startswith("@"):
        return given, ""
    path = Path(given[1:])
    try:
        return path.read_text(encoding="utf-8"), f" in {path}"
    except OSError as error:
        raise UsageError(f"{option} @{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{option} @{path} is not UTF-8 text: {error.reason}") from error
