"""Fresh interpreters for runs, each in a group of its own under the limits of its agent: one is kept warm, so that a
run does not wait for it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from holdfast.errors import Refused
from holdfast.process.launch import Launched, Launcher
from holdfast.process.wire import Wire
from holdfast.rules.limits import NO_LIMITS, Limits
from holdfast.rules.pressure import Thresholds
from holdfast.throttle.watch import Seen

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

    @property
    def oom_kills(self) -> int:
        """How many of its processes the kernel had killed at its memory limit when it ended."""
        ...

    def watched(self, seen: Callable[[Seen], None], thresholds: Thresholds | None) -> None:
        """From now on tell what is seen of it and its workspace, about once a second, judged by its limits and by these
        thresholds."""
        ...

    def hold(self, held: bool) -> None:
        """Hold it back within a second, or let it go again; asking twice changes nothing."""
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

    async def take(self, limits: Limits, workspace: Path | None) -> ProcessLike:
        """A process under these limits that has nothing to do yet, for a run whose folder is there. Raises OSError or
        Refused when it cannot be."""
        ...

    async def close(self) -> None:
        """Leave none behind."""
        ...


class Process:
    """What was launched, with a wire to it."""

    def __init__(self, wire: Wire, launched: Launched) -> None:
        self.wire = wire
        self._launched = launched
        loop = asyncio.get_running_loop()
        self.over = loop.create_task(self._finish(), name="last words of a process")

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._launched.gone.done()

    @property
    def oom_kills(self) -> int:
        return self._launched.oom_kills

    def bind(self, workspace: Path | None) -> None:
        """It is for the run with this folder. A spare is for none."""
        if workspace is not None:
            self._launched.measure(workspace)

    def watched(self, seen: Callable[[Seen], None], thresholds: Thresholds | None = None) -> None:
        self._launched.watched(seen, thresholds)

    def hold(self, held: bool) -> None:
        self._launched.hold(held)

    def kill(self) -> None:
        self._launched.kill()

    async def ended(self) -> int:
        return await self._launched.ended()

    async def _finish(self) -> None:
        await self._launched.ended()
        await self.wire.finish()


class Spawner:
    """Starts interpreters. For each kind of limits one waits, with holdfast imported, for the next run."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._spares: dict[Limits, asyncio.Task[Process]] = {}
        self._alive: set[Process] = set()

    def warm(self, limits: Limits = NO_LIMITS) -> None:
        """Begin the spare, so that the first run does not wait either."""
        if limits not in self._spares:
            spare = asyncio.get_running_loop().create_task(self._spawn(limits), name="spare process")
            spare.add_done_callback(_read)
            self._spares[limits] = spare

    async def take(self, limits: Limits = NO_LIMITS, workspace: Path | None = None) -> ProcessLike:
        spare = self._spares.pop(limits, None)
        try:
            process = None if spare is None else await spare
        except (OSError, Refused):
            process = None  # it met its end long ago: look at the machine as it is now
        try:
            if process is None or process.gone:
                process = await self._spawn(limits)
            process.bind(workspace)
            return process
        finally:
            self.warm(limits)

    async def close(self) -> None:
        spares, self._spares = list(self._spares.values()), {}
        if spares:
            await asyncio.wait(spares)
        for process in list(self._alive):
            process.kill()
        for process in list(self._alive):
            await process.ended()
            await process.wire.closed()

    async def _spawn(self, limits: Limits) -> Process:
        """Our own interpreter once more, with our flags: nothing of this process is in it but its end of the socket."""
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        wire, theirs = await pair()
        try:
            with theirs:
                end = theirs.fileno()
                command: list[str] = [sys.executable, *flags, "-P", "-c", _BOOT, str(end), *import_path()]
                process = Process(wire, self._launcher.launch(command, limits, pass_fds=[end]))
        except BaseException:
            wire.abort()
            raise
        self._alive.add(process)
        process.over.add_done_callback(lambda _: self._alive.discard(process))
        return process


async def pair() -> tuple[Wire, socket.socket]:
    """Our end of a new socket, as a wire, and the other end."""
    ours, theirs = socket.socketpair()
    try:
        return await Wire.over(ours), theirs
    except BaseException:
        ours.close()
        theirs.close()
        raise


def _read(spare: asyncio.Task[Process]) -> None:
    """Why there is none concerns whoever needs one, who tries again."""
    if not spare.cancelled():
        spare.exception()


def import_path() -> tuple[str, ...]:
    """Where imports are looked for here. What is no text Python passes over, and so do we."""
    path: list[object] = [*sys.path]
    return tuple(folder for folder in path if isinstance(folder, str))
