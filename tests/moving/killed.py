"""Imports that are killed, each at a commit of its own: `python -m tests.moving.killed FILE EMPTY`.

For each point POINT.db, a copy of the store EMPTY beside it, is what a process leaves that is killed there: before its
third commit is durable (`3-`), or right after (`3+`). What is told: the points, one a line. The processes are forked:
Python starts once.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import sys
from pathlib import Path

from holdfast import open_store
from holdfast.moving import import_runs, incoming
from holdfast.store.sqlite.connection import Connection

incoming.BATCH_LINES = 7  # type: ignore[misc]  # more commits


def die_at(at: int, *, after: bool) -> None:
    """From here on, the commit of this number is the last one."""
    commit, counted = Connection.commit, itertools.count(1)

    def counting(self: Connection) -> None:
        mine = next(counted) == at
        if mine and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)

    Connection.commit = counting  # type: ignore[method-assign]


async def load(file: Path, store: Path) -> None:
    async with open_store(store) as opened:
        with file.open("rb") as source:
            await import_runs(opened, source, file.name, resume=True)


def killed(file: Path, store: Path, at: int, *, after: bool) -> bool:
    """Import in a process that dies at this commit; False when it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            die_at(at, after=after)
            asyncio.run(load(file, store))
            os._exit(0)
        except BaseException as error:  # of a forked process nothing else is told
            sys.stderr.write(f"{store.name}: {error!r}\n")
            os._exit(1)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended in (0, -signal.SIGKILL), f"{store.name}: the import ended with {ended}"
    return ended != 0


def main(file: Path, empty: Path) -> None:
    for at in itertools.count(1):
        for after in (False, True):
            point = f"{at}{'+' if after else '-'}"
            store = empty.with_name(f"{point}.db")
            shutil.copy(empty, store)
            if not killed(file, store, at, after=after):
                return
            print(point)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
