"""`python -m tests.processes.power_scene FOLDER CUTS [SYNCHRONOUS]`: records a run, cuts the power CUTS times, checks.

Prints JSON: {"cuts": …, "inconsistent": …, "lost": …}. With SYNCHRONOUS=NORMAL it shows that the check can fail.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import apsw

import holdfast
from holdfast import Context
from holdfast.client import Client
from holdfast.store import open_store
from holdfast.store.sqlite import connection
from holdfast.worker import Worker
from tests.processes.power import Acknowledged, RecordingVFS, Trace, after_cut

STEPS = 30


@dataclass
class Done:
    steps: int = 0


trace = Trace()


async def act(n: int) -> int:
    """A step."""
    return n


@holdfast.agent
async def powered(ctx: Context) -> int:
    """Steps, each acknowledged in the trace itself, and a checkpoint every ten."""
    state = ctx.restore(Done)
    while state.steps < STEPS:
        await ctx.step(act, state.steps)
        trace.events.append(Acknowledged(state.steps))
        state.steps += 1
        await ctx.checkpoint(state, force=state.steps % 10 == 0)
    return state.steps


async def record(folder: Path) -> dict[str, bytes]:
    """Run the agent on a store whose writes are traced; returns the files as they were before it."""
    vfs = RecordingVFS(trace)
    url = f"sqlite:///{folder / 'live' / 'holdfast.db'}"
    async with open_store(url) as store:
        await Client(store).start(powered, id="r")
    base = {file.name: file.read_bytes() for file in (folder / "live").iterdir() if file.is_file()}
    base = {name: body for name, body in base.items() if not name.endswith("-shm")}
    trace.events.clear()
    async with open_store(url) as store:
        await Worker(store, [powered], until_idle=True).run()
    vfs.unregister()
    return base


def check(folder: Path, disk: dict[str, bytes], acknowledged: set[int]) -> tuple[bool, bool]:
    """Open what the cut left; returns (consistent, nothing acknowledged lost)."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, body in disk.items():
        if name and not name.endswith("-shm"):
            (folder / name).write_bytes(body)
    try:
        found = apsw.Connection(str(folder / "holdfast.db"), vfs="unix")
        whole = found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = found.execute("SELECT position, payload FROM events WHERE status = 'ok' ORDER BY n").fetchall()
        position = found.execute("SELECT position FROM run_rows WHERE id = 'r'").fetchall()[0][0]
        found.close()
    except apsw.Error:
        return False, False
    recorded = {int(payload) for _, payload in rows}
    gapless = [at for at, _ in rows] == list(range(1, position + 1))
    return whole and gapless, acknowledged <= recorded


def main() -> None:
    """Record, cut, check, count."""
    folder, cuts = Path(sys.argv[1]), int(sys.argv[2])
    if len(sys.argv) > 3:
        settings = connection._settings
        connection._settings = lambda: [*settings(), f"PRAGMA synchronous = {sys.argv[3]}"]
    (folder / "live").mkdir()
    base = asyncio.run(record(folder))
    chance = random.Random(3)
    inconsistent = lost = 0
    for _ in range(cuts):
        consistent, kept = check(folder / "cut", *after_cut(base, trace.events, chance))
        inconsistent += not consistent
        lost += not kept
    syncs = sum(type(event).__name__ == "Sync" for event in trace.events)
    print(json.dumps({"cuts": cuts, "inconsistent": inconsistent, "lost": lost, "syncs": syncs}))


if __name__ == "__main__":
    main()
