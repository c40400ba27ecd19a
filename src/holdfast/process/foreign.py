"""Processes of programs that speak the protocol themselves, in whatever language."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Final

from holdfast.process.session import Session
from holdfast.process.wire import Wire

DESCRIPTOR: Final = "HOLDFAST_FD"
"""The variable that tells a program the number of its end of the socket."""


class ForeignProcess:
    """A program that executes one attempt."""

    def __init__(self, wire: Wire, session: Session) -> None:
        self.wire = wire
        self._session = session

    def kill(self) -> None:
        """Kill it, and everything that it started; asking twice changes nothing."""
        self._session.kill()

    async def ended(self) -> int:
        """Wait for its end: its exit code, or the number of the signal that ended it as a negative one. Nothing that
        it started is alive then."""
        await self._session.ended()
        code = await self._session.bury()
        self.wire.close()
        await self.wire.closed()
        return code


class ProgramSpawner:
    """Starts the program of an agent: nothing is kept warm, for it is told what to execute as soon as it is there."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command

    async def take(self) -> ForeignProcess:
        """The program, started. Raises OSError when that cannot be done."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                environ = {**os.environ, DESCRIPTOR: str(theirs.fileno())}
                session = Session.start(self._command, env=environ, pass_fds=[theirs.fileno()])
        except OSError:
            ours.close()
            raise
        return ForeignProcess(await Wire.over(ours), session)

    async def close(self) -> None:
        """Leave none behind: each is buried with its attempt."""
