"""How processes end: to hear of it, and to say it in words."""

from __future__ import annotations

import signal
import threading
from typing import Final

UNKNOWN: Final = 256
"""No exit code: how a process ended that somebody else in ours waited for."""


def hear_of_children() -> None:
    """Whoever started us may have ignored SIGCHLD, and we inherit that: nobody could tell how a process ends then."""
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    ):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def told(code: int) -> str:
    """Of an exit code, or of the number of a signal as a negative one; real-time signals have no name."""
    if code == UNKNOWN:
        return "ended nobody knows how: code of its worker waits for all children, as os.wait() does"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
