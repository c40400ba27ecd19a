"""Leaving a process that holds code which does not end: only the process's own end ends it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def replace_process(arguments: Sequence[str]) -> NoReturn:
    """Begin again in a fresh process under the same pid."""
    _flush()
    os.execv(sys.executable, [sys.executable, "-m", "holdfast", *arguments])  # noqa: S606 - no shell


def leave_now(code: int) -> NoReturn:
    """Leave without waiting for anything: an orderly end would wait for the code for ever."""
    _flush()
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # its reader left
            pass
