"""A program in a session of its own: it is signalled, waited for and buried with everything that it started there.

Laws:
1. Nothing in the session outlives `bury`, and nothing outlives this process: a guard, a shell that waits for the end of
   a pipe, kills the session when this process dies in whatever way.
2. The number of the program stays taken until the session is killed, so that no signal of ours hits a stranger.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, Self

import psutil

ROUNDS: Final = 5
"""How often the session is looked through for processes that were started while others were killed."""
_GUARD: Final = """
read -r session || exit
read -r _
for round in 1 2 3; do
  kill -9 -- "-$session"
  for process in /proc/[0-9]*; do
    read -r stat < "$process/stat" || continue
    set -- "$1" ${stat##*) }
    [ "$5" = "$session" ] && kill -9 "${process#/proc/}"
  done
done
[ -z "$1" ] || rm -rf -- "$1"
"""
"""It is told the session; $1 is a folder to remove. The fields of a process after its name: state, parent, group,
session."""


class Session:
    """A program that leads a session of its own. Made on the event loop, by `start`."""

    def __init__(self, started: subprocess.Popen[bytes], guard: subprocess.Popen[bytes]) -> None:
        self._started = started
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        threading.Thread(target=self._wait, name=f"wait for program {started.pid}", daemon=True).start()

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        pass_fds: Sequence[int] = (),
        folder: str = "",
    ) -> Self:
        """Start the program; its stdin is empty. `folder` is removed when this process dies before it is buried.

        Raises OSError when it cannot be started.
        """
        guard = subprocess.Popen(  # first: what it guards is not alone for an instant
            ["/bin/sh", "-c", _GUARD, "holdfast-guard", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        started: subprocess.Popen[bytes] | None = None
        try:
            started = subprocess.Popen(
                argv,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
            assert guard.stdin is not None
            guard.stdin.write(b"%d\n" % started.pid)
            guard.stdin.flush()
            return cls(started, guard)
        except BaseException:
            if started is not None:
                _kill_all(started.pid)
                started.wait()
            _dismiss(guard)
            raise

    @property
    def pid(self) -> int:
        """The number of the program, of its group and of its session."""
        return self._started.pid

    @property
    def running(self) -> bool:
        """Whether the program itself has not ended. What it started may be there all the same."""
        return not self._ended.done()

    async def ended(self) -> None:
        """Wait for the end of the program itself."""
        await asyncio.shield(self._ended)

    def ask_to_end(self) -> None:
        """SIGTERM to everything in the session, also to what is stopped."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            _signal(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to everything in the session; asking twice changes nothing."""
        if self._started.returncode is None:
            _kill_all(self.pid)

    async def bury(self) -> int:
        """Kill what is left. Returns the exit code of the program, or the signal that ended it as a negative number."""
        self.kill()
        await self.ended()
        self.kill()  # what was started between the first kill and the end
        _dismiss(self._guard)
        return self._started.wait()

    def _wait(self) -> None:
        """In a thread of its own, which costs nothing beside a program, and works wherever Python does."""
        if hasattr(os, "waitid"):
            with suppress(ChildProcessError):  # code of the worker waited for it
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._started.wait()
        with suppress(RuntimeError):  # the loop may be closed by now
            self._loop.call_soon_threadsafe(self._ended.set_result, None)


def _dismiss(guard: subprocess.Popen[bytes]) -> None:
    guard.kill()
    guard.wait()
    assert guard.stdin is not None
    with suppress(OSError):
        guard.stdin.close()


def _kill_all(session: int) -> None:
    known: set[int] = set()
    for _ in range(ROUNDS):
        _signal(session, signal.SIGKILL)
        found = set(_members(session))
        if found <= known:
            return
        known |= found


def _signal(session: int, number: int) -> None:
    """To the group that leads the session, and to the groups that were made in it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(session, number)
    for pid in _members(session):
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) != session:
                os.kill(pid, number)


def _members(session: int) -> Iterator[int]:
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == session:
                yield pid
