"""Hears what any process does to a file, where the system can tell (inotify on Linux). A hint: it comes just before the
write, or the freed lock, is to be seen, it may be late, and where there is none asking now and then does."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

WRITTEN: Final = 0x00000002  # IN_MODIFY
LET_GO: Final = 0x00000008  # IN_CLOSE_WRITE: who had it open for writing closed it, or died
_READ_BYTES: Final = 4096
"""Events that nobody has read yet are one event: this holds whatever there is."""


class Stirring:
    """What whatever process does to one file, or to those of one folder. `fd` becomes readable with the first of it."""

    def __init__(self, fd: int) -> None:
        self.fd: Final = fd

    def heard(self) -> bool:
        """Whether anything came; taken note of, so that the next is heard again."""
        heard = False
        try:
            while os.read(self.fd, _READ_BYTES):
                heard = True
        except BlockingIOError:
            pass
        return heard

    def close(self) -> None:
        """Hear no more."""
        os.close(self.fd)


def listen(path: Path, what: int) -> Stirring | None:
    """Listen for `what` at the file or folder `path`, which is there; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    import ctypes  # a few milliseconds, for those only who wait for others

    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:  # the user has as many as the system allows
        return None
    if libc.inotify_add_watch(fd, os.fsencode(path), what) < 0:
        os.close(fd)
        return None
    return Stirring(fd)
