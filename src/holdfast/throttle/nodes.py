"""The folders of one group in the trees of control groups: who is in them, going in, and their end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from holdfast.throttle.files import read_text, write_text
from holdfast.throttle.processes import Process, look_at

TOOLS: Final = "tools"
"""The folder within a group for those who are frozen while others are spared."""

_REMOVE_TIMEOUT_S: Final = 2.0
_WAIT_S: Final = 0.002


def pids_in(folder: Path) -> set[int]:
    """Who is in the folder and in those below it."""
    found = {int(pid) for pid in read_text(folder / "cgroup.procs").split()}
    for inner in _folders(folder):
        found |= pids_in(inner)
    return found - {0}  # somebody of a namespace that is not ours


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:  # which knows folders without asking for each
            return [folder / one.name for one in entries if one.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def members(folders: Iterable[Path]) -> list[Process]:
    """The processes in these folders of one group."""
    pids = set[int]().union(*(pids_in(folder) for folder in folders))
    return [one for one in map(look_at, pids) if one is not None]


def enter(folders: Iterable[Path], pid: int) -> bool:
    """Move a process in, everywhere; False when there is no such process. Raises OSError."""
    for folder in folders:
        try:
            write_text(folder / "cgroup.procs", str(pid))
        except ProcessLookupError:
            return False
    return True


def remove(folder: Path) -> bool:
    """Remove the folder with all below it, when nobody is in it; whether it is gone."""
    deadline_s = time.monotonic() + _REMOVE_TIMEOUT_S
    while True:
        for inner in _folders(folder):
            remove(inner)
        try:
            folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:  # the last one is on its way out, or somebody is in
            if time.monotonic() > deadline_s or pids_in(folder):
                return False
            time.sleep(_WAIT_S)
        else:
            return True


def wait_for(condition: Iterator[bool], timeout_s: float) -> bool:
    """Ask again and again until it is so, for this long at most."""
    deadline_s = time.monotonic() + timeout_s
    for so in condition:
        if so:
            return True
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_WAIT_S)
    return False


def kill_v2(folder: Path) -> None:
    """SIGKILL to all in the folder and below it, frozen or not, at one instant for all of them."""
    with suppress(FileNotFoundError):
        write_text(folder / "cgroup.kill", "1")
