"""A process killed in the middle of a task and started again: how many of its tasks are never finished."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from bench.ground import Broken, Ground, environment, peers_python
from bench.killed import kill_once_there
from bench.lives import TASKS, Life

PATIENCE_S = 45.0  # one and a half of holdfast's leases; the peers that deliver again do so when they start
LOOK_S = 0.1


def lost(ground: Ground, names: list[str]) -> dict[str, int]:
    """Of each contender's tasks, those that no life finished. All at once: most of it is waiting. Raises `Broken`."""
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(lambda name: _lost(ground, name), names), strict=True))


def _lost(ground: Ground, name: str) -> int:
    with ground.folder() as folder:
        command = [sys.executable, "-m", "bench.contenders.taken", name.lower(), str(folder)]
        if name != "holdfast":
            command[0], command[2] = str(peers_python()), "bench.peers.taken"
        kill_once_there([*command, "first"])
        return TASKS - len(_finished([*command, "second"], Life(folder, first=False)))


def _finished(command: list[str], life: Life) -> set[int]:
    """Start the second life; what is finished when all is, or when patience ends."""
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        until_s = time.monotonic() + PATIENCE_S
        while len(life.finished()) < TASKS and time.monotonic() < until_s:
            if process.poll() is not None:
                raise Broken(f"{' '.join(command[1:])} ended with {process.returncode}")
            time.sleep(LOOK_S)
        process.kill()
    return life.finished()
