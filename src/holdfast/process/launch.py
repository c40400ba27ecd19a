"""What a worker executes for a run, whatever it is: started in a group, watched, ended and buried by one piece of code.

Laws:
1. Nothing of it outlives its burial, and nothing outlives this process by more than a moment: a guard sees to that,
   or a warden above each, where no control groups are.
2. The number of what was started stays taken until the others are dead, so that no signal of ours hits a stranger.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

from holdfast import exit_status
from holdfast.errors import Refused
from holdfast.model import HostStall, Strength
from holdfast.rules.limits import NO_LIMITS, Limits
from holdfast.rules.pressure import Thresholds
from holdfast.throttle import Group, Groups
from holdfast.throttle.apart import Apart, Surveyor
from holdfast.throttle.host import Host
from holdfast.throttle.launching import kept_whole
from holdfast.throttle.watch import Seen, Watch

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often the processes of a run are looked at: what the ladder's patience is counted in."""
ASK_S: Final = 0.5
"""A look at a group takes some milliseconds; whoever is at it for longer is ending it."""
MOST_STILLBORN: Final = 10_000
"""Runs of which that is remembered: a worker on a machine that starts nothing meets no more of them in a day."""
_UNJUDGED: Final = Thresholds(disk_mb=None, processes=None)
"""The machine's own figures are judged by its workers; a run is judged by its limits, and by what its agent says."""


Told = tuple[Callable[[Seen], None], Seen]
"""What was seen, and who is to be told."""


class Launched:
    """What was started, with all that it starts. Made on the event loop, by `Launcher.launch`.

    `lingers`: what the first process leaves behind goes on until `kill`; else it is ended with the first.
    """

    def __init__(
        self,
        started: subprocess.Popen[bytes],
        group: Group,
        watch: Watch,
        *,
        lingers: bool,
        workspace: Apart | None = None,
    ) -> None:
        self.oom_kills = 0
        self._started = started
        self._code = exit_status.UNKNOWN
        self._group = group
        self._watch = watch
        self.workspace = workspace
        """The folder that a `Surveyor` is to measure."""
        self._seen: Callable[[Seen], None] | None = None
        self._one_at_a_time = threading.Lock()
        self._removed = False
        self._killed = False
        self._to_be_buried = threading.Event()
        if not lingers:
            self._to_be_buried.set()
        self._loop = asyncio.get_running_loop()
        self.quit: asyncio.Future[None] = self._loop.create_future()
        """Done when the first process has ended; what it started may be there all the same."""
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """Done when nobody is left."""
        threading.Thread(target=self._wait, name=f"wait for process {started.pid}", daemon=True).start()

    def watched(self, seen: Callable[[Seen], None], thresholds: Thresholds | None = None) -> None:
        """From now on tell what is seen of it, about once a second, judged by its limits and by these thresholds."""
        if thresholds is not None:
            self._watch.judge(thresholds)
        self._seen = seen

    def hold(self, held: bool) -> None:
        """Hold it back within a second, or let it go again; asking twice changes nothing."""
        self._watch.hold(held)

    def measure(self, workspace: Path) -> None:
        """From the next look on: this folder, too."""
        self.workspace = Apart(workspace)
        self._watch.gauge.measure(self.workspace)

    def look(self, host: HostStall | None) -> Told | None:
        """Look at it now, in whatever thread. What was seen is for the loop. Of a look that did something it is on its
        way there when this returns, before an end that it may have made; of any other, the caller is to tell it."""
        if not self._one_at_a_time.acquire(blocking=False):
            return None  # it is being ended, which takes its time
        try:
            if self._removed or self._seen is None:
                return None
            seen = self._watch.look(host)
            if not seen.moves and not seen.oom:
                return self._seen, seen
            with suppress(RuntimeError):  # the loop may be closed by now
                self._loop.call_soon_threadsafe(_tell_all, [(self._seen, seen)])
        except Exception as error:  # noqa: BLE001 - the others are looked after all the same
            log.warning("the process of a run could not be looked after: %s", error)
        finally:
            self._one_at_a_time.release()
        return None

    def ask_to_end(self) -> None:
        """SIGTERM to all of it, also to what stands still."""
        if not self._one_at_a_time.acquire(timeout=ASK_S):
            return  # it is being ended already
        try:
            if self._removed or self._killed:
                return
            with suppress(Refused):
                self._group.thaw()
            for pid in self._group.pids() or (self._started.pid,):
                for number in (signal.SIGTERM, signal.SIGCONT):
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, number)
        finally:
            self._one_at_a_time.release()

    def kill(self) -> None:
        """Kill it, and everything that it started; asking twice changes nothing."""
        self._to_be_buried.set()
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
        """Wait for its end: its exit code, or the number of the signal that ended it as a negative one, or
        `exit_status.UNKNOWN`. Nothing that it started is alive then."""
        await asyncio.shield(self.gone)
        return self._code

    def _wait(self) -> None:
        """In a thread of its own, which costs nothing beside a program, and works wherever Python does."""
        try:
            self._code = self._wait_for_the_first()
            self._tell(self.quit)
            self._to_be_buried.wait()
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
            self._tell(self.gone)

    def _wait_for_the_first(self) -> int:
        """Its exit code. Its number is nobody else's until what it left behind has ended."""
        if not hasattr(os, "waitid"):
            return self._started.wait()
        try:
            ended = os.waitid(os.P_PID, self._started.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:  # code of the worker waited for it; `Popen` would say 0
            return exit_status.UNKNOWN
        assert ended is not None, "it was waited for"
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def _tell(self, future: asyncio.Future[None]) -> None:
        with suppress(RuntimeError):  # the loop may be closed by now
            self._loop.call_soon_threadsafe(future.set_result, None)

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


class Launcher:
    """Starts whatever a worker executes, and looks after all of it: one for a worker.

    Making one takes some tens of milliseconds, for what works here is found by doing it. `folder` is where groups are
    written down that nothing in the kernel holds together.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.groups = Groups(folder)
        self.stillborn = Stillborn()
        self._numbers = count(1)
        self._alive: set[Launched] = set()
        self._looking: asyncio.Task[None] | None = None
        self._looker = ThreadPoolExecutor(1, "watch over processes")
        """Of our own: what the code of runs does in the loop's threads may take for ever."""
        self._guard: subprocess.Popen[bytes] | None = None

    def clear_leftovers(self) -> None:
        """End what workers that died have left behind."""
        for left in self.groups.clear_leftovers():
            log.warning("ended what a dead worker left: %s, %d processes", left.name, left.ended)

    def check(self, limits: Limits) -> None:
        """Raise Refused for a limit that nothing on this machine acts on; one that is only watched is told in the
        log."""
        for name in limits.asked:
            held = self.groups.abilities.limits[name]
            if held.strength is Strength.REFUSED:
                raise Refused(
                    f"Limits({name}=…) cannot be held here: {held.by} {held.why}; see `holdfast doctor`"
                )
            if held.strength is Strength.WATCHED:
                log.warning("Limits(%s=…) is only watched here: %s", name, held.by)

    def launch(
        self,
        command: Sequence[str],
        limits: Limits = NO_LIMITS,
        *,
        cwd: str | None = None,
        environ: Mapping[str, str] | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        pass_fds: Sequence[int] = (),
        linger_s: float = 0.0,
        workspace: Path | None = None,
    ) -> Launched:
        """Start the command in a group of its own; its stdin is empty. With `linger_s`, what it leaves behind is not
        ended with it: see `Launched`. `workspace` is measured.

        Raises OSError and ValueError when it cannot be started, Refused when its limits cannot be held.
        """
        environ = os.environ if environ is None else environ
        if self._guard is None or self._guard.poll() is not None:
            self._guard = self.groups.guard()  # first: what it guards is not alone for an instant
        group = self.groups.create(f"run-{os.getpid()}-{next(self._numbers)}", limits)
        started: subprocess.Popen[bytes] | None = None
        try:
            started = subprocess.Popen(
                group.launch(kept_whole(command, environ), linger_s=linger_s),
                cwd=cwd,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
            group.attach(started.pid)
            apart = None if workspace is None else Apart(workspace)
            # Its history is kept by the attempt, for it goes on in the next one.
            watch = Watch(
                group,
                self.groups.abilities,
                _UNJUDGED,
                spare=(started.pid,),
                workspace=apart,
                history=0,
            )
            launched = Launched(started, group, watch, lingers=linger_s > 0, workspace=apart)
        except BaseException:
            _give_up(group, started)
            raise
        self._alive.add(launched)
        launched.gone.add_done_callback(lambda _: self._alive.discard(launched))
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="watch over processes")
        return launched

    async def close(self) -> None:
        """Leave nothing behind."""
        if self._looking is not None:
            self._looking.cancel()
        for launched in list(self._alive):
            launched.kill()
        for launched in list(self._alive):
            await launched.ended()
        self._looker.shutdown(wait=False)
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()

    async def _look(self) -> None:
        """One thread looks at all of them, so that a hundred runs cost one turn. It asks no disk."""
        host, surveyor, loop = Host(), Surveyor(), asyncio.get_running_loop()
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                alive = list(self._alive)
                looking = loop.run_in_executor(self._looker, _look_at, alive, host, surveyor)
                _tell_all(await asyncio.shield(looking))
        finally:
            host.close()


class Stillborn:
    """How many processes of each run have died in a row before they began, as one worker remembers."""

    def __init__(self) -> None:
        self._times: dict[int, int] = {}

    def again(self, run: int) -> int:
        """One more; how many in a row."""
        if len(self._times) >= MOST_STILLBORN:
            self._times.clear()
        self._times[run] = self._times.get(run, 0) + 1
        return self._times[run]

    def born(self, run: int) -> None:
        """One has begun."""
        self._times.pop(run, None)


async def open_launcher(folder: Path | None, wanted: Iterable[Limits]) -> Launcher:
    """A launcher, when nothing is left of workers that died. Raises Refused for one of these limits that nothing on
    this machine acts on."""
    loop = asyncio.get_running_loop()
    launcher = await loop.run_in_executor(None, Launcher, folder)
    for limits in set(wanted):
        launcher.check(limits)
    await loop.run_in_executor(None, launcher.clear_leftovers)
    return launcher


def findable(command: Sequence[str], cwd: str | None, environ: Mapping[str, str]) -> None:
    """Raise OSError when there is no such program: it would be told by an exit code of whatever is between."""
    program = command[0]
    folder = Path(cwd or ".")
    if not folder.is_dir():
        raise FileNotFoundError(2, "no such folder", str(folder))
    if os.sep in program:
        places = [folder / program]
    else:
        path = environ.get("PATH", os.defpath).split(os.pathsep)
        places = [folder / place / program for place in path]
    there = [place for place in places if place.is_file()]
    if not there:
        raise FileNotFoundError(2, "no such program", program)
    if not any(os.access(place, os.X_OK) for place in there):
        raise PermissionError(13, "it may not be executed", program)


def _look_at(processes: list[Launched], host: Host, surveyor: Surveyor) -> list[Told]:
    surveyor.measure(one.workspace for one in processes if one.workspace is not None)
    stall = host.stall()
    return [told for process in processes if (told := process.look(stall)) is not None]


def _tell_all(told: list[Told]) -> None:
    """On the loop: a turn of it for a round of looks."""
    for tell, seen in told:
        try:
            tell(seen)
        except Exception:
            log.exception("what was seen of a run could not be acted on")


def _give_up(group: Group, started: subprocess.Popen[bytes] | None) -> None:
    """It could not be made whole: nothing of it stays."""
    with suppress(OSError, Refused):
        group.remove()
    if started is not None:
        started.kill()
        started.wait()
