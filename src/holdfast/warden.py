"""A tree's own init: what is below it stays below it, and ends with it.

With the standard library only: a program of its own, started by the path of this file before any of holdfast's, or the
child that `holdfast step` forks.

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

TIMED_OUT = 124
CANNOT_EXECUTE = 126
NOT_FOUND = 127
"""Exit codes as timeout(1) and env(1) have them."""


def main(settings: dict[str, float], command: list[str]) -> None:
    """Run the command as the first child, and end as it does.

    Settings in seconds: `timeout`, after which it is told to end (the exit code is 124 then); `grace`, which it has
    from any signal that is handed on until all are killed; `linger`, which the others have when it has ended. Whole
    numbers: what each process may have (`open_files`, `disk`, `data`), and `keep`, a file to be held open to the end.
    """
    parent = os.getppid()
    adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, [*HANDED_ON, signal.SIGCHLD])
    limit(settings)
    try:
        child = start(command)
    except OSError as error:
        sys.stderr.write(f"error: {command[0]!r} cannot be executed: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_EXECUTE)
    let_go_of_files(int(settings.get("keep", -1)))
    watched = Watched(child, parent, settings)
    while not watched.over():
        heard = wait_for_signal()
        if heard in HANDED_ON:
            watched.hand_on(heard)
    end_all(child)
    if watched.timed_out:
        os._exit(TIMED_OUT)
    if watched.status is None:
        os._exit(1)
    end_like(watched.status)


def settings_of(text: str) -> dict[str, float]:
    """`timeout=2.5,keep=3`."""
    pairs = (one.partition("=") for one in text.split(",") if one)
    return {name: float(value) for name, _, value in pairs}


def limit(settings: dict[str, float]) -> None:
    """What each process below may have. A limit above the one that holds already cannot be set, and need not be."""
    wanted = [(name, settings[name]) for name in ("open_files", "disk", "data") if name in settings]
    if not wanted:
        return
    import resource

    kinds = {
        "open_files": resource.RLIMIT_NOFILE,
        "disk": resource.RLIMIT_FSIZE,
        "data": resource.RLIMIT_DATA,
    }
    for name, value in wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kinds[name], (int(value), int(value)))


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


def let_go_of_files(keep: int) -> None:
    """Whoever waits for the end of a stream waits for the first child, not for us; but who waits for the end of `keep`
    waits for everybody's."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    os.closerange(3, max(3, keep))
    os.closerange(max(3, keep + 1), 65_536)


class Watched:
    """The first child, from its start until it is time to end all."""

    def __init__(self, child: int, parent: int, settings: dict[str, float]) -> None:
        self.status: int | None = None
        self.timed_out = False
        self._child = child
        self._parent = parent
        self._settings = settings
        self._ends_at = self._after("timeout")
        self._killed_at: float | None = None

    def _after(self, name: str) -> float | None:
        return time.monotonic() + self._settings[name] if name in self._settings else None

    def over(self) -> bool:
        """Look: whether all are to be ended now."""
        others = self._reap()
        if not others or os.getppid() != self._parent:
            return True
        now = time.monotonic()
        if self.status is None and self._ends_at is not None and now >= self._ends_at:
            self._ends_at, self.timed_out = None, True
            self.hand_on(signal.SIGTERM)
        return self._killed_at is not None and now >= self._killed_at

    def _reap(self) -> bool:
        """Wait for those that have ended; whether there are others that count."""
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._child:
                    self.status = ended[1]
                    self._killed_at = self._after("linger")
        except ChildProcessError:
            return False
        return self.status is None or self._killed_at is not None

    def hand_on(self, heard: int) -> None:
        """Tell the first child. What only lingers is not asked."""
        if self.status is not None:
            self._killed_at = time.monotonic()
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, heard)
            os.kill(self._child, signal.SIGCONT)  # if it stands still it cannot hear
        if self._killed_at is None:
            self._killed_at = self._after("grace")


def wait_for_signal() -> int:
    """The signal that came within LOOK_S; 0 when there was none, or it cannot be waited for."""
    if sys.platform != "linux":
        time.sleep(LOOK_S / 5)
        return next(iter(signal.sigpending() & set(HANDED_ON)), 0)
    heard = signal.sigtimedwait([*HANDED_ON, signal.SIGCHLD], LOOK_S)
    return heard.si_signo if heard is not None else 0


def end_all(child: int) -> None:
    """Kill what is below us until waiting for children says that there is none."""
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        below = everyone_below(os.getpid())
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in below:
                with contextlib.suppress(OSError):
                    os.kill(
                        pid, number
                    )  # its number cannot be another's: only we, its heirs, could let go of it
        if sys.platform != "linux":
            with contextlib.suppress(OSError):
                os.killpg(child, signal.SIGKILL)
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
    main(settings_of(sys.argv[1]), sys.argv[2:])
