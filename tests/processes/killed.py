"""Worker processes that are killed, each at a commit of its own, on copies of one store.

`python -m tests.processes.killed kill TEMPLATE FOLDER 3- 3+ …`: for each point FOLDER/POINT becomes the folder of a
copy of the store TEMPLATE, and of a worker that is killed there: before its third commit is durable, or right after.
`python -m tests.processes.killed finish FOLDER 3- 3+ …`: another worker goes on in each, until nothing is left to do.

The workers are forked, so that Python starts once, and stand in their folder: agents write to ".".
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from holdfast import standing
from tests.processes import serve

standing.LOADED_SLEEP_S = 0.05  # type: ignore[misc]  # branches that wait are unloaded at once


def work(place: Path, options: dict[str, Any]) -> int:
    """Serve the store there until nothing is left to do; how the process ended."""
    worker = os.fork()
    if worker == 0:
        try:
            os.chdir(place)
            asyncio.run(serve.main(f"sqlite:///{place / 'holdfast.db'}", {"until_idle": True, **options}))
            os._exit(0)
        except BaseException as error:  # of a forked process nothing else is told
            sys.stderr.write(f"{place.name}: {error!r}\n")
            os._exit(1)
    _, status = os.waitpid(worker, 0)
    return os.waitstatus_to_exitcode(status)


def kill(template: Path, folder: Path, points: list[str]) -> None:
    """Kill a worker at each point."""
    for point in points:
        place = folder / point
        place.mkdir()
        shutil.copy(template, place / "holdfast.db")
        ended = work(place, {"kill_at": int(point[:-1]), "after": point.endswith("+"), "capacity": 1})
        assert ended == -signal.SIGKILL, f"{point}: the worker ended with {ended}"


def finish(folder: Path, points: list[str]) -> None:
    """Go on after each."""
    for point in points:
        ended = work(folder / point, {})
        assert ended == 0, f"{point}: the worker ended with {ended}"


if __name__ == "__main__":
    if sys.argv[1] == "kill":
        kill(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
    else:
        finish(Path(sys.argv[2]), sys.argv[3:])
