"""A pseudo-terminal with a command on it, as a person sits at one: what is on the screen, keys, signals, Ctrl-Z."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path

_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b=|\x1b>")
OURS, BACK = "\x1b[?1049h", "\x1b[?1049l"


class Terminal:
    """`command` on a terminal of its own, in a session of its own, as under a shell."""

    def __init__(
        self, command: list[str], folder: Path, environ: dict[str, str], size: tuple[int, int] = (150, 30)
    ) -> None:
        self.pid, self._file = pty.fork()
        if self.pid == 0:
            _resize(0, size)  # here, or the command may be quicker
            os.chdir(folder)
            sized = {name: value for name, value in environ.items() if name not in ("COLUMNS", "LINES")}
            os.execve(command[0], command, sized | {"TERM": "xterm-256color"})
        self.before = termios.tcgetattr(self._file)
        self.output = ""
        self.code: int | None = None

    def resize(self, size: tuple[int, int]) -> None:
        _resize(self._file, size)

    def press(self, keys: str) -> None:
        os.write(self._file, keys.encode())

    def read(self, within_s: float = 0.1) -> None:
        """Take in what the command has written by then."""
        ends_s = time.monotonic() + within_s
        while (left_s := ends_s - time.monotonic()) > 0:
            if not select.select([self._file], [], [], left_s)[0]:
                return
            try:
                data = os.read(self._file, 65536)
            except OSError:  # the command has gone
                return
            if not data:
                return
            self.output += data.decode(errors="replace")

    @property
    def frame(self) -> str:
        """The newest whole frame: text alone, a line a row."""
        frames = self.output.split("\x1b[H")
        whole = [one for one in frames if one.rstrip().endswith("\x1b[J")]
        return _SEQUENCE.sub("", whole[-1]).replace("\r", "") if whole else ""

    @property
    def text(self) -> str:
        """All that was written, without colours."""
        return _SEQUENCE.sub("", self.output).replace("\r", "")

    def until(self, wanted: Callable[[str], object], within_s: float = 30.0) -> str:
        """The first frame that is as wanted."""
        ends_s = time.monotonic() + within_s
        while not wanted(self.frame):
            assert time.monotonic() < ends_s, (
                f"never came there; on the screen is:\n{self.frame}\n{self.text[-800:]}"
            )
            assert self.ended(0.0) is None, f"left with {self.code}:\n{self.text[-2000:]}"
            self.read()
        return self.frame

    def line(self, begin: str) -> str:
        """The row on the screen that begins so."""
        return next((row for row in self.frame.splitlines() if row.startswith(begin)), "")

    @property
    def settings(self) -> list[object]:
        return termios.tcgetattr(self._file)

    @property
    def ours(self) -> bool:
        """Whether the command has the screen for itself."""
        return self.output.rfind(OURS) > self.output.rfind(BACK)

    def ended(self, within_s: float = 30.0) -> int | None:
        """Its exit code, or the negative number of the signal that ended it; None: it goes on."""
        ends_s = time.monotonic() + within_s
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.read(0.2)
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= ends_s:
                return None
            else:
                self.read(0.05)
        return self.code

    def close(self) -> None:
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.kill(self.pid, signal.SIGCONT)
            os.waitpid(self.pid, 0)
        os.close(self._file)


def _resize(file: int, size: tuple[int, int]) -> None:
    fcntl.ioctl(file, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
