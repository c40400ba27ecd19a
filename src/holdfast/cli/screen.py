"""A whole terminal for a while: its keys, its size, its signals; and given back as it was, however it ends.

Laws:
1. Between `__enter__` and `__exit__` the terminal is ours, outside of it untouched: also while the process is stopped.
2. It is stopped (Ctrl-Z) only by `suspend`, which whoever has it calls between two transactions: a stopped process must
   not hold a lock of the store.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import tty
from types import TracebackType
from typing import Final, Self

from rich.console import ConsoleDimensions, RenderableType

from holdfast.cli.console import Console
from holdfast.cli.keys import Keys

_OURS: Final = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
_BACK: Final = "\x1b[?25h\x1b[?1049l"
HALF_A_KEY_S: Final = 0.05
"""An escape that nothing follows by then is that key: terminals send sequences in one piece."""


class Screen:
    """`wait` for what happens next: keys, or a signal; `draw` a frame; `suspend` when Ctrl-Z asked for it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        self._saved: list[object] | None = None
        self._keys = Keys()
        self._pressed: list[str] = []
        self._happened = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.ended_by: signal.Signals | None = None
        self.gone = False
        self.to_suspend = False

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now."""
        return os.get_terminal_size(self._out)

    def __enter__(self) -> Self:
        self._take()
        self._loop.add_reader(self._in, self._read)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._loop.add_signal_handler(number, self._end, number)
        self._loop.add_signal_handler(signal.SIGTSTP, self._stop)
        self._loop.add_signal_handler(signal.SIGWINCH, self._happened.set)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._in)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGWINCH):
            self._loop.remove_signal_handler(number)
        self._give_back()

    async def wait(self, seconds: float) -> list[str]:
        """The keys that were pressed by then; returns at once when something happens."""
        timer = self._loop.call_later(max(0.0, seconds), self._happened.set)
        try:
            await self._happened.wait()
        finally:
            timer.cancel()
        self._happened.clear()
        keys, self._pressed = self._pressed, []
        return keys

    def draw(self, frame: RenderableType) -> None:
        """Show a frame in place of the one before. No line is longer than the terminal, and there are not more."""
        width, height = self.size
        self._console.size = ConsoleDimensions(width, height)
        with self._console.capture() as capture:
            self._console.print(frame, end="")
        lines = capture.get().split("\n")[:height]
        self._write("\x1b[H" + "\x1b[K\r\n".join(lines) + "\x1b[J")

    def suspend(self) -> None:
        """Give the terminal back, stand still until somebody lets us go on (`fg`), and take it again."""
        self.to_suspend = False
        self._give_back()
        self._loop.remove_signal_handler(signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGTSTP)  # stands still here
        self._loop.add_signal_handler(signal.SIGTSTP, self._stop)
        self._take()

    def _take(self) -> None:
        self._saved = termios.tcgetattr(self._in)
        tty.setcbreak(self._in)  # Ctrl-C and Ctrl-Z stay signals
        self._write(_OURS)

    def _give_back(self) -> None:
        saved, self._saved = self._saved, None
        if saved is not None:
            try:
                self._write(_BACK)
                termios.tcsetattr(self._in, termios.TCSADRAIN, saved)  # type: ignore[arg-type]
            except (OSError, termios.error):
                pass  # the terminal itself is gone

    def _write(self, text: str) -> None:
        left = memoryview(text.encode(self._console.encoding, "replace"))
        while left:
            left = left[os.write(self._out, left) :]

    def _read(self) -> None:
        try:
            data = os.read(self._in, 4096)
        except OSError:
            data = b""
        if not data:
            self.gone = True  # nobody is there any more
            self._loop.remove_reader(self._in)
        self._pressed += self._keys.feed(data)
        self._loop.call_later(HALF_A_KEY_S, self._settle)
        self._happened.set()

    def _settle(self) -> None:
        if keys := self._keys.settle():
            self._pressed += keys
            self._happened.set()

    def _end(self, number: signal.Signals) -> None:
        self.ended_by = self.ended_by or number
        self._happened.set()

    def _stop(self) -> None:
        self.to_suspend = True
        self._happened.set()
