"""A process brought to a known place and killed; the return timed on copies of its folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.ground import PATIENCE_S, Broken, Ground, environment

RETURN_S = 90.0  # over three leases: then something is wrong, and worth more than a figure
PROGRAM = "bench.contenders.survivor"


def build(folder: Path, *, agents: int, behind: int, tail: int) -> None:
    """Let the agents walk to the place, then kill their process. The folder holds what a crash leaves."""
    command = [sys.executable, "-m", PROGRAM, "build", str(folder), str(agents), str(behind), str(tail)]
    kill_once_there(command)


def kill_once_there(command: list[str]) -> None:
    """Start a program, wait until it says that it is there, and kill it. Raises `Broken` when it says anything else."""
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=PATIENCE_S)
        if said.strip() != '"there"':
            raise Broken(f"{' '.join(command[1:])} said {said!r}:\n{process.stderr.read()[-4000:]}")


def resume(ground: Ground, left: Path, *, agents: int, behind: int, tail: int) -> dict[str, Any]:
    """Start a fresh process on a copy of what the kill left; seconds since just before it was started."""
    with ground.folder() as folder:
        place = folder / "copy"
        shutil.copytree(left, place)
        os.sync()
        started_s = time.monotonic()
        started_us = time.time_ns() // 1000
        command = [sys.executable, "-m", PROGRAM, "resume", str(place), str(agents), str(behind), str(tail)]
        try:
            done = subprocess.run(
                [*command, repr(started_s)],
                env=environment(),
                capture_output=True,
                text=True,
                timeout=RETURN_S,
                check=False,
            )
        except subprocess.TimeoutExpired as too_long:
            raise Broken(
                f"{' '.join(command[1:])}: not all stepped again within {RETURN_S:.0f} s"
            ) from too_long
        if done.returncode != 0 or not done.stdout.strip():
            raise Broken(f"{' '.join(command[1:])} ended with {done.returncode}:\n{done.stderr[-4000:]}")
        stamps: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        stamps["claimed"] = (claimed_at_us(place) - started_us) / 1e6
        return stamps


def claimed_at_us(folder: Path) -> int:
    """When the newest attempt of the first agent was claimed, by the store's own clock."""
    import apsw

    database = apsw.Connection(str(folder / "holdfast.db"), flags=apsw.SQLITE_OPEN_READONLY)
    found = database.execute(
        "select e.at_us from events e join runs r on r.key = e.run where r.id = 'agent-0'"
        " and e.type = 'run.running' order by e.n desc limit 1"
    ).fetchone()
    if found is None:
        raise Broken("no attempt of agent-0 is recorded")
    return int(found[0])
