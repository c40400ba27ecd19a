"""A run's own init, where there are no control groups: what is below it stays below it, and ends with it.

Started by the path of this file as a program of its own, with the standard library only, before any of holdfast's:

1. Orphans come to it, not to the machine's init (`PR_SET_CHILD_SUBREAPER`): nobody leaves the tree.
2. When its first child ends it ends the others, and then itself in the same way: exit code, or signal.
3. When the process that started it dies it ends all of them.
4. SIGTERM, SIGINT and SIGHUP are handed on to the first child.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

LOOK_S = 0.25
"""How soon it notices that its parent has died; children that end wake it at once."""

PR_SET_CHILD_SUBREAPER = 36
HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(command: list[str]) -> None:
    """Run the command as the first child, and end as it does."""
    parent = os.getppid()
    adopt_orphans()
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [*HANDED_ON, signal.SIGCHLD])
    try:
        child = start(command)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(127)
    let_go_of_files()
    status = watch(child, parent)
    end_all()
    if status is None:
        os._exit(1)
    end_like(status)


def start(command: list[str]) -> int:
    """Start it in a session of its own, with the signals that Python ignores as they were."""
    heard = (signal.SIGPIPE, signal.SIGXFSZ)
    try:
        return os.posix_spawnp(command[0], command, os.environ, setsigmask=(), setsigdef=heard, setsid=True)
    except NotImplementedError:
        return os.posix_spawnp(command[0], command, os.environ, setsigmask=(), setsigdef=heard, setpgroup=0)


def adopt_orphans() -> None:
    """Where the system can do that: elsewhere (macOS) those who leave their session are lost sight of."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def let_go_of_files() -> None:
    """Whoever waits for the end of a stream waits for the first child, not for us."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    os.closerange(3, 65_536)


def watch(child: int, parent: int) -> int | None:
    """The status with which the first child ended; None when the parent died before."""
    while True:
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    return ended[1]
        except ChildProcessError:
            return None
        if os.getppid() != parent:
            return None
        heard = wait_for_signal()
        if heard in HANDED_ON:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, heard)


def wait_for_signal() -> int:
    """The signal that came within LOOK_S; 0 when there was none, or it cannot be waited for."""
    if sys.platform != "linux":
        time.sleep(LOOK_S / 5)
        return next(iter(signal.sigpending() & set(HANDED_ON)), 0)
    heard = signal.sigtimedwait([*HANDED_ON, signal.SIGCHLD], LOOK_S)
    return heard.si_signo if heard is not None else 0


def end_all() -> None:
    """Kill what is below us until waiting for children says that there is none."""
    while True:
        below = everyone_below(os.getpid())
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in below:
                with contextlib.suppress(OSError):
                    os.kill(
                        pid, number
                    )  # its number cannot be another's: only we, its heirs, could let go of it
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        if sys.platform != "linux":
            return
        time.sleep(0.002)


def everyone_below(root: int) -> list[int]:
    """All that stem from `root`."""
    children: dict[int, list[int]] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                    text = file.read()
            except OSError:
                continue
            children.setdefault(int(text[text.rindex(b")") + 2 :].split()[1]), []).append(int(name))
    found: list[int] = []
    todo = [root]
    while todo:
        mine = children.pop(todo.pop(), [])
        found += mine
        todo += mine
    return found


def end_like(status: int) -> None:
    """End as it did: by the same signal, or with the same code."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with contextlib.suppress(OSError, ValueError):  # those that cannot be caught have no disposition
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
        time.sleep(1)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    main(sys.argv[1:])
