"""Fresh interpreters for runs: one is kept warm, so that a run does not wait for it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Final, Protocol

from holdfast.process.wire import Wire

_BOOT: Final = (
    "import sys\n"
    "sys.path[:], sys.argv[2:] = sys.argv[2:], []\n"  # where the worker looks, and nowhere else
    "from holdfast.process.child import main\n"
    "main(int(sys.argv[1]))"
)


class ProcessLike(Protocol):
    """The process of a run, as its supervisor needs it."""

    @property
    def wire(self) -> Wire:
        """Our end of its socket."""
        ...

    def kill(self) -> None:
        """Kill it, and what it started in its process group; asking twice changes nothing."""
        ...

    async def ended(self) -> int:
        """Wait for its end: its exit code, or the number of the signal that ended it as a negative one. Nothing of
        its group is alive then."""
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
        self._loop = asyncio.get_running_loop()
        self._finishing: asyncio.Task[None] | None = None
        self.gone: asyncio.Future[None] = self._loop.create_future()  # it has ended
        self.over: asyncio.Future[None] = self._loop.create_future()  # and its last words have come
        threading.Thread(target=self._wait, name=f"wait for process {started.pid}", daemon=True).start()

    def kill(self) -> None:
        if not self.gone.done():
            self._kill_group()

    async def ended(self) -> int:
        await asyncio.shield(self.gone)
        return self._started.returncode

    def _wait(self) -> None:
        """In a thread of its own, which costs nothing beside an interpreter, and works wherever Python does."""
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self._started.pid, os.WEXITED | os.WNOWAIT)
            self._kill_group()  # what it left behind, before its number is free for others
        self._started.wait()
        with suppress(RuntimeError):  # the loop may be closed by now
            self._loop.call_soon_threadsafe(self._over)

    def _over(self) -> None:
        self.gone.set_result(None)
        self._finishing = self._loop.create_task(self.wire.finish(), name="last words of a process")
        self._finishing.add_done_callback(lambda _: self.over.set_result(None))

    def _kill_group(self) -> None:
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
            self._spare.add_done_callback(_read)

    async def take(self) -> ProcessLike:
        spare, self._spare = self._spare, None
        try:
            process = None if spare is None else await spare
        except OSError:
            process = None  # it met its end long ago: look at the machine as it is now
        try:
            if process is None or process.gone.done():
                process = await self._spawn()
            return process
        finally:
            self.warm()

    async def close(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            await asyncio.wait([spare])
        for process in list(self._alive):
            process.kill()
            await process.ended()
            await process.wire.closed()

    async def _spawn(self) -> Process:
        ours, theirs = socket.socketpair()
        wire = await Wire.over(ours)
        try:
            with theirs:
                process = Process(wire, _start(theirs))
        except BaseException:
            wire.abort()  # which ends the process, if there is one
            raise
        self._alive.add(process)
        process.over.add_done_callback(lambda _: self._alive.discard(process))
        return process


def _start(end: socket.socket) -> subprocess.Popen[bytes]:
    """Our own interpreter once more, with our flags: nothing of this process is in it but its end of the socket."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return subprocess.Popen(
        [sys.executable, *flags, "-P", "-c", _BOOT, str(end.fileno()), *import_path()],
        pass_fds=(end.fileno(),),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _read(spare: asyncio.Task[Process]) -> None:
    """Why there is none concerns whoever needs one, who tries again."""
    if not spare.cancelled():
        spare.exception()


def import_path() -> tuple[str, ...]:
    """Where imports are looked for here. What is no text Python passes over, and so do we."""
    return tuple(folder for folder in sys.path if isinstance(folder, str))
