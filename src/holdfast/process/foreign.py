"""Processes of programs that speak the protocol themselves, in whatever language."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Final

from holdfast.process.session import Session
from holdfast.process.spawn import pair
from holdfast.process.wire import Wire
from holdfast.rules.limits import Limits
from holdfast.throttle.watch import Seen

DESCRIPTOR: Final = "HOLDFAST_FD"
"""The variable that tells a program the number of its end of the socket."""


class ForeignProcess:
    """A program that executes one attempt."""

    oom_kills: Final = 0

    def __init__(self, wire: Wire, session: Session) -> None:
        self.wire = wire
        self._session = session
        loop = asyncio.get_running_loop()
        self._code: asyncio.Future[int] = loop.create_future()
        self._burying = loop.create_task(self._bury(), name="end of a program")

    def watched(self, seen: Callable[[Seen], None]) -> None:
        """Nothing is seen of it: it has no limits."""

    def hold(self, held: bool) -> None:
        """It is asked to slow down instead: see `ProgramSpawner.holds`."""

    def kill(self) -> None:
        """Kill it, and everything that it started; asking twice changes nothing."""
        self._session.kill()

    async def ended(self) -> int:
        """Wait for its end: its exit code, or the number of the signal that ended it as a negative one. Nothing that
        it started is alive then."""
        return await asyncio.shield(self._code)

    async def _bury(self) -> None:
        await self._session.ended()
        self._code.set_result(await self._session.bury())
        await self.wire.finish()


class ProgramSpawner:
    """Starts the program of an agent: nothing is kept warm, for it is told what to execute as soon as it is there."""

    def __init__(self, command: Sequence[str]) -> None:
        self.holds = False
        self._command = command

    async def take(self, limits: Limits) -> ForeignProcess:
        """The program, started. Raises OSError when that cannot be done."""
        wire, theirs = await pair()
        try:
            with theirs:
                environ = {**os.environ, DESCRIPTOR: str(theirs.fileno())}
                session = Session.start(self._command, env=environ, pass_fds=[theirs.fileno()])
        except BaseException:
            wire.abort()
            raise
        return ForeignProcess(wire, session)

    async def close(self) -> None:
        """Leave none behind: each is buried with its attempt."""
