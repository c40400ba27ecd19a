"""Processes of programs that speak the protocol themselves, in whatever language."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from holdfast.process.launch import Launcher, findable
from holdfast.process.spawn import Process, pair
from holdfast.rules.limits import NO_LIMITS, Limits
from holdfast.workspace import VARIABLE, made

DESCRIPTOR: Final = "HOLDFAST_FD"
"""The variable that tells a program the number of its end of the socket."""


class ProgramSpawner:
    """Starts the program of an agent: nothing is kept warm, for it is told what to execute as soon as it is there."""

    def __init__(self, launcher: Launcher, command: Sequence[str]) -> None:
        self._launcher = launcher
        self._command = command

    async def take(self, limits: Limits = NO_LIMITS, workspace: Path | None = None) -> Process:
        """The program, started. Raises OSError or Refused when that cannot be done."""
        wire, theirs = await pair()
        try:
            with theirs:
                environ = {**os.environ, DESCRIPTOR: str(theirs.fileno())}
                if workspace is not None:
                    environ[VARIABLE] = str(made(workspace))
                findable(self._command, None, environ)
                launched = self._launcher.launch(
                    self._command, limits, environ=environ, pass_fds=[theirs.fileno()], workspace=workspace
                )
        except BaseException:
            wire.abort()
            raise
        return Process(wire, launched)

    async def close(self) -> None:
        """Leave none behind: each is buried with its attempt."""
