"""Fresh interpreters for runs, each in a group of its own under the limits of its agent: one is kept warm, so that a
run does not wait for it, and all are looked after."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final, Protocol

from holdfast.errors import Refused
from holdfast.model import HostStall, Strength
from holdfast.process.wire import Wire
from holdfast.rules.limits import NO_LIMITS, Limits
from holdfast.rules.pressure import Thresholds
from holdfast.throttle import Group, Groups
from holdfast.throttle.watch import Host, Seen, Watch

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often the processes of a run are looked at: what the ladder's patience is counted in."""
_UNJUDGED: Final = Thresholds(disk_mb=None, processes=None)
"""The machine's own figures are judged by its workers; a run is judged by its limits."""
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

    def watched(self, seen: Callable[[Seen], None]) -> None:
        """From now on tell what is seen of it, about once a second."""
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
    """Where processes come from. `holds`: they can be held back from outside, by `ProcessLike.hold`."""

    @property
    def holds(self) -> bool: ...

    async def take(self, limits: Limits) -> ProcessLike:
        """A process under these limits that has nothing to do yet. Raises OSError or Refused when it cannot be."""
        ...

    async def close(self) -> None:
        """Leave none behind."""
        ...


class Process:
    """A fresh interpreter in a group of its own."""

    def __init__(self, wire: Wire, started: subprocess.Popen[bytes], group: Group, watch: Watch) -> None:
        self.wire = wire
        self.oom_kills = 0
        self._started = started
        self._group = group
        self._watch = watch
        self._seen: Callable[[Seen], None] | None = None
        self._one_at_a_time = threading.Lock()
        self._removed = False
        self._killed = False
        self._loop = asyncio.get_running_loop()
        self._finishing: asyncio.Task[None] | None = None
        self.gone: asyncio.Future[None] = self._loop.create_future()  # it has ended
        self.over: asyncio.Future[None] = self._loop.create_future()  # and its last words have come
        threading.Thread(target=self._wait, name=f"wait for process {started.pid}", daemon=True).start()

    def watched(self, seen: Callable[[Seen], None]) -> None:
        self._seen = seen

    def hold(self, held: bool) -> None:
        self._watch.hold(held)

    def look(self, host: HostStall | None) -> Callable[[], None] | None:
        """Look at it now, in whatever thread; what is returned tells about it, on the loop."""
        if not self._one_at_a_time.acquire(blocking=False):
            return None  # it is being ended, which takes its time
        try:
            if self._removed or self._seen is None:
                return None
            try:
                seen, told = self._watch.look(host), self._seen
            except Exception as error:  # noqa: BLE001 - the others are looked after all the same
                log.warning("the process of a run could not be looked after: %s", error)
                return None
        finally:
            self._one_at_a_time.release()
        return lambda: told(seen)

    def kill(self) -> None:
        if self._killed or self.gone.done():
            return
        self._killed = True
        try:  # a group takes its time to end; the loop has none
            threading.Thread(
                target=self._kill_group, name=f"kill process {self._started.pid}", daemon=True
            ).start()
        except RuntimeError:  # no thread can be started
            self._kill_group()

    async def ended(self) -> int:
        await asyncio.shield(self.gone)
        return self._started.returncode

    def _wait(self) -> None:
        """In a thread of its own, which costs nothing beside an interpreter, and works wherever Python does."""
        try:
            if hasattr(os, "waitid"):  # its number is nobody else's until what it left behind has ended
                with suppress(ChildProcessError):  # code of the worker waited for it
                    os.waitid(os.P_PID, self._started.pid, os.WEXITED | os.WNOWAIT)
            else:
                self._started.wait()
            self._kill_group()
            with self._one_at_a_time:
                self._removed = True
                self.oom_kills = self._group.oom_kills()
                self._started.wait()
                self._group.remove()
        except Exception as error:  # noqa: BLE001 - its end is told in any case
            log.warning("the group of a run's processes could not be removed: %s", error)
        finally:
            self._started.wait()
            with suppress(RuntimeError):  # the loop may be closed by now
                self._loop.call_soon_threadsafe(self._over)

    def _kill_group(self) -> None:
        with self._one_at_a_time:
            if self._removed:
                return
            try:
                left = self._group.kill()
            except Exception as error:  # noqa: BLE001 - at least the first of them can be ended, and tried again
                log.error("the group of a run's processes cannot be ended: %s", error)
                self._killed = False
                self._started.kill()
                return
        if left:
            log.error("processes of a run cannot be ended: %s", ", ".join(map(str, left)))

    def _over(self) -> None:
        self.gone.set_result(None)
        self._finishing = self._loop.create_task(self.wire.finish(), name="last words of a process")
        self._finishing.add_done_callback(lambda _: self.over.set_result(None))


class Spawner:
    """Starts interpreters. For each kind of limits one waits, with holdfast imported, for the next run.

    Making one takes some tens of milliseconds, for what works here is found by doing it. `folder` is where groups are
    written down that nothing in the kernel holds together.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.holds = True
        self.groups = Groups(folder)
        self._numbers = count(1)
        self._spares: dict[Limits, asyncio.Task[Process]] = {}
        self._alive: set[Process] = set()
        self._looking: asyncio.Task[None] | None = None

    def clear_leftovers(self) -> None:
        """End what workers that died have left behind."""
        for left in self.groups.clear_leftovers():
            log.warning("ended what a dead worker left: %s, %d processes", left.name, left.ended)

    def warm(self, limits: Limits = NO_LIMITS) -> None:
        """Begin the spare, so that the first run does not wait either."""
        if limits not in self._spares:
            spare = asyncio.get_running_loop().create_task(self._spawn(limits), name="spare process")
            spare.add_done_callback(_read)
            self._spares[limits] = spare

    async def take(self, limits: Limits = NO_LIMITS) -> ProcessLike:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="watch over processes")
        spare = self._spares.pop(limits, None)
        try:
            process = None if spare is None else await spare
        except (OSError, Refused):
            process = None  # it met its end long ago: look at the machine as it is now
        try:
            if process is None or process.gone.done():
                process = await self._spawn(limits)
            return process
        finally:
            self.warm(limits)

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        spares, self._spares = list(self._spares.values()), {}
        if spares:
            await asyncio.wait(spares)
        for process in list(self._alive):
            process.kill()
        for process in list(self._alive):
            await process.ended()
            await process.wire.closed()

    async def _look(self) -> None:
        """One thread looks at all of them, so that a hundred runs cost one turn."""
        host = Host()
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                looking = asyncio.get_running_loop().run_in_executor(None, _look_at, list(self._alive), host)
                for tell in await asyncio.shield(looking):
                    try:
                        tell()
                    except Exception:
                        log.exception("what was seen of a run could not be acted on")
        finally:
            host.close()

    async def _spawn(self, limits: Limits) -> Process:
        started: subprocess.Popen[bytes] | None = None
        wire, theirs = await pair()
        group: Group | None = None
        try:
            with theirs:
                group = self.groups.create(f"run-{os.getpid()}-{next(self._numbers)}", limits)
                started = _start(theirs, group)
            group.attach(started.pid)
            # Its history is kept by the attempt, for it goes on in the next one.
            watch = Watch(group, self.groups.abilities, _UNJUDGED, spare=(started.pid,), history=0)
            process = Process(wire, started, group, watch)
        except BaseException:
            wire.abort()
            _give_up(group, started)
            raise
        self._alive.add(process)
        process.over.add_done_callback(lambda _: self._alive.discard(process))
        return process


async def open_spawner(folder: Path | None, wanted: Iterable[Limits]) -> Spawner:
    """A spawner with a spare for each of these limits, and nothing left of workers that died.

    Raises Refused for a limit that nothing on this machine acts on; one that is only watched is told in the log.
    """
    loop = asyncio.get_running_loop()
    spawner = await loop.run_in_executor(None, Spawner, folder)
    for limits in set(wanted):
        for name in limits.asked:
            held = spawner.groups.abilities.limits[name]
            if held.strength is Strength.REFUSED:
                raise Refused(
                    f"Limits({name}=…) cannot be held here: {held.by} {held.why}; see `holdfast doctor`"
                )
            if name == "disk":
                log.warning(
                    "Limits(disk=…) bounds the length of each file of a run, not what they hold together"
                )
            elif held.strength is Strength.WATCHED:
                log.warning("Limits(%s=…) is only watched here: %s", name, held.by)
    await loop.run_in_executor(None, spawner.clear_leftovers)
    for limits in set(wanted):
        spawner.warm(limits)
    return spawner


def _look_at(processes: list[Process], host: Host) -> list[Callable[[], None]]:
    stall = host.stall()
    return [tell for process in processes if (tell := process.look(stall)) is not None]


def _start(end: socket.socket, group: Group) -> subprocess.Popen[bytes]:
    """Our own interpreter once more, with our flags: nothing of this process is in it but its end of the socket."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return subprocess.Popen(
        group.launch([sys.executable, *flags, "-P", "-c", _BOOT, str(end.fileno()), *import_path()]),
        pass_fds=(end.fileno(),),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


async def pair() -> tuple[Wire, socket.socket]:
    """Our end of a new socket, as a wire, and the other end."""
    ours, theirs = socket.socketpair()
    try:
        return await Wire.over(ours), theirs
    except BaseException:
        ours.close()
        theirs.close()
        raise


def _give_up(group: Group | None, started: subprocess.Popen[bytes] | None) -> None:
    """It could not be made whole: nothing of it stays."""
    with suppress(OSError, Refused):
        if group is not None:
            group.remove()
    if started is not None:
        started.kill()
        started.wait()


def _read(spare: asyncio.Task[Process]) -> None:
    """Why there is none concerns whoever needs one, who tries again."""
    if not spare.cancelled():
        spare.exception()


def import_path() -> tuple[str, ...]:
    """Where imports are looked for here. What is no text Python passes over, and so do we."""
    return tuple(folder for folder in sys.path if isinstance(folder, str))
