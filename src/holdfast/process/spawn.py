"""Fresh interpreters for runs: one is kept warm, so that a run does not wait for it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from holdfast.process.wire import Wire

log = logging.getLogger(__name__)

_BOOT: Final = (
    "import sys; sys.path.insert(0, sys.argv[3]); from holdfast.process.child import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]))"
)
_ROOT: Final = str(Path(__file__).resolve().parent.parent.parent)


class ProcessLike(Protocol):
    """The process of a run, as its supervisor needs it."""

    @property
    def wire(self) -> Wire:
        """Our end of its socket."""
        ...

    def kill(self) -> None:
        """Kill it, and everything that it started; asking twice changes nothing."""
        ...

    async def ended(self) -> int:
        """Wait for its end: its exit code, or the number of the signal that ended it as a negative one. Nothing that
        it started is alive then."""
        ...


class SpawnerLike(Protocol):
    """Where processes come from."""

    async def take(self) -> ProcessLike:
        """A process that has nothing to do yet. Raises OSError when the machine refuses."""
        ...

    async def close(self) -> None:
        """Leave none behind."""
        ...


class Process:
    """A fresh interpreter in a session of its own."""

    def __init__(self, wire: Wire, started: subprocess.Popen[bytes]) -> None:
        self.wire = wire
        self._started = started
        loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = loop.create_future()
        if sys.platform == "linux":
            self._pidfd = os.pidfd_open(started.pid)
            loop.add_reader(self._pidfd, self._over)
        else:
            waiting = loop.run_in_executor(None, started.wait)
            waiting.add_done_callback(lambda _: self._over())

    @property
    def pid(self) -> int:
        """Its number."""
        return self._started.pid

    def kill(self) -> None:
        if not self.gone.done():
            self._kill_session()

    async def ended(self) -> int:
        await asyncio.shield(self.gone)
        await self.wire.closed()
        return self._started.returncode

    def _over(self) -> None:
        """It has ended. What it left behind is killed before its number is free for others."""
        if self.gone.done():
            return
        self._kill_session()
        if sys.platform == "linux":
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
        self._started.wait()
        self.wire.close()
        self.gone.set_result(None)

    def _kill_session(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._started.pid, signal.SIGKILL)


class Spawner:
    """Starts interpreters. One waits, with holdfast imported, for the next run."""

    def __init__(self) -> None:
        self._spare: asyncio.Task[Process] | None = None
        self._alive: set[Process] = set()

    def warm(self) -> None:
        """Begin the spare, so that the first run does not wait either."""
        if self._spare is None:
            self._spare = asyncio.get_running_loop().create_task(self._spawn(), name="spare process")

    async def take(self) -> ProcessLike:
        spare, self._spare = self._spare, None
        try:
            return await (self._spawn() if spare is None else spare)
        finally:
            self.warm()

    async def close(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            await asyncio.wait([spare])
        for process in list(self._alive):
            process.kill()
            await process.ended()

    async def _spawn(self) -> Process:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                started = _start(theirs)
        except OSError:
            ours.close()
            raise
        process = Process(await Wire.over(ours), started)
        self._alive.add(process)
        process.gone.add_done_callback(lambda _: self._alive.discard(process))
        return process


def _start(end: socket.socket) -> subprocess.Popen[bytes]:
    """Our own interpreter once more, with our flags: nothing of this process is in it but its end of the socket."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return subprocess.Popen(
        [sys.executable, *flags, "-c", _BOOT, str(end.fileno()), str(os.getpid()), _ROOT],
        pass_fds=(end.fileno(),),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
