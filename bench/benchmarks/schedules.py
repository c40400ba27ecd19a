"""A thousand schedules due in the same second, three controllers, one of them killed in the midst of it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.ground import Broken, Ground, ask, environment
from bench.report import Findings, at_most

SCHEDULES = 1_000
SCHEDULES_QUICK = 200
CONTROLLERS = 3
AHEAD_S = 20  # adding a thousand, and starting three processes
PATIENCE_S = 30.0
PROGRAM = "bench.contenders.schedules"


def measure(ground: Ground) -> Findings:
    """From the due second to the moment when the last of the runs is seen in the file."""
    count = SCHEDULES_QUICK if ground.quick else SCHEDULES
    found = Findings(
        "schedules", f"{count} schedules due in one second, {CONTROLLERS} controllers, one killed"
    )
    firsts, alls = [], []
    for repeat in range(ground.repeats):
        with ground.folder() as folder:
            due_s = int(time.time()) + AHEAD_S
            ask(sys.executable, PROGRAM, "plan", str(folder), str(count), str(due_s))
            first_s, all_s = _fire(folder, count, due_s)
        ground.say(f"schedules {repeat + 1}/{ground.repeats}: {all_s * 1e3:.0f} ms")
        firsts.append(first_s)
        alls.append(all_s)
    found.add("the first run, after the due second began", [1e3 * one for one in firsts], "ms")
    goal = None if ground.quick else at_most(2_000)
    found.add(f"all {count}, each with one run", [1e3 * one for one in alls], "ms", goal)
    return found


def _fire(folder: Path, count: int, due_s: int) -> tuple[float, float]:
    import apsw

    with _controllers(folder) as controllers:
        if time.time() > due_s - 1:
            raise Broken("the schedules were not added in time")
        database = apsw.Connection(str(folder / "holdfast.db"), flags=apsw.SQLITE_OPEN_READONLY)
        time.sleep(max(0.0, due_s - time.time() - 0.05))
        first_s = all_s = None
        while all_s is None:
            ((runs,),) = database.execute("SELECT count(*) FROM runs").fetchall()
            since_s = time.time() - due_s
            if runs and first_s is None:
                first_s = since_s
                controllers[0].send_signal(signal.SIGKILL)
            if runs >= count:
                all_s = since_s
            if since_s > PATIENCE_S:
                raise Broken(f"{runs} of {count} schedules had a run after {PATIENCE_S:.0f} s")
            time.sleep(0.002)
        time.sleep(1.0)  # whoever would fire one twice does it now
        ((runs, fires),) = database.execute(
            "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM schedule_fires)"
        ).fetchall()
        if (runs, fires) != (count, count):
            raise Broken(f"{runs} runs and {fires} fires of {count} schedules")
        assert first_s is not None
        return first_s, all_s


@contextlib.contextmanager
def _controllers(folder: Path) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-m", PROGRAM, "serve", str(folder)]
    started = [
        subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(CONTROLLERS)
    ]
    try:
        for one in started:
            assert one.stdout is not None
            one.stdout.readline()
        yield started
    finally:
        for one in started:
            one.kill()
            one.wait()
            assert one.stdout is not None
            one.stdout.close()
