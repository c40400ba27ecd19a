"""Waits for the death of the process that started it, and ends what that had in its groups: at once, and not only
when the next one begins.

Started by the path of this file as a program of its own, with the standard library only. It is told its parent's
number, how many patterns of folders of groups follow, these, and patterns of temporary folders.

A group that it is in itself is no run's: the parent went into a leaf of its own (`groups`), and took it along. To end
that one would be its own end, maybe before that of the others.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import sys
import time

LOOK_S = 0.25
"""How soon the death is noticed."""
ROUNDS = 500
ROUND_S = 0.01
"""Who was being placed when the parent died comes in a moment later; who hangs in the kernel is left to the next."""


def main(parent: int, groups: list[str], folders: list[str]) -> None:
    """Wait, and clear away."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # meant for whoever is guarded
        signal.signal(number, signal.SIG_IGN)
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    for _ in range(ROUNDS):
        left = [
            folder for pattern in groups for folder in glob.glob(pattern) if os.getpid() not in pids(folder)
        ]
        if not left:
            break
        for folder in left:
            end(folder)
        time.sleep(ROUND_S)
    for pattern in folders:
        for folder in glob.glob(pattern):
            shutil.rmtree(folder, ignore_errors=True)


def end(group: str) -> None:
    """Kill all in the group, and remove it if nobody is left. What v1 has frozen is killed when it is thawed."""
    inner = [group, *glob.glob(os.path.join(group, "**", ""), recursive=True)]
    for folder in inner:
        write(os.path.join(folder, "cgroup.kill"), "1")
        write(os.path.join(folder, "freezer.state"), "FROZEN")
        for pid in pids(folder):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    for folder in reversed(inner):
        write(os.path.join(folder, "freezer.state"), "THAWED")
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def pids(folder: str) -> list[int]:
    """Who is in it; 0 is somebody of a namespace that is not ours."""
    try:
        with open(os.path.join(folder, "cgroup.procs")) as file:
            return [int(pid) for pid in file.read().split() if pid != "0"]
    except OSError:
        return []


def write(path: str, text: str) -> None:
    """Where there is such a file."""
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)


if __name__ == "__main__":
    count = int(sys.argv[2])
    main(int(sys.argv[1]), sys.argv[3 : 3 + count], sys.argv[3 + count :])
