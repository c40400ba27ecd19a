"""A disk that answers nobody: a mount whose file system is never served. Who asks it hangs in the kernel until
`revive`, as on a server that has gone."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


class DeadDisk:
    """Mounted at `place`, which is there."""

    def __init__(self, place: Path) -> None:
        self.place = place
        try:
            self._server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            pytest.skip(f"NOT TRIED: no disk can be made that hangs: {error}")
        options = f"fd={self._server},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        if _libc.mount(b"dead", bytes(place), b"fuse", 0, options.encode()):
            self.revive()
            pytest.skip(f"NOT TRIED: no disk can be made that hangs: {os.strerror(ctypes.get_errno())}")

    def revive(self) -> None:
        """From now on it answers, if only by errors."""
        if self._server >= 0:
            os.close(self._server)
            self._server = -1

    def remove(self) -> None:
        """As if it had never been."""
        self.revive()
        _libc.umount2(bytes(self.place), _DETACH)


@contextlib.contextmanager
def dead_disk(place: Path) -> Iterator[DeadDisk]:
    """Such a disk at this folder, which is made."""
    place.mkdir(parents=True)
    disk = DeadDisk(place)
    try:
        yield disk
    finally:
        disk.remove()
