"""DBOS on SQLite: async workflows and steps, each outcome durable before the next step (its only mode).

Its default journal mode is `delete`; the file is set to WAL beforehand, which makes it up to twice as quick.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig

from bench.workload import Tally, answer, leave, pause, pauses_of, result_of_step

tally = Tally(expected=0)


@DBOS.step()
async def work(number: int, length: float) -> dict[str, Any]:
    await pause(length)
    return result_of_step(number)


@DBOS.workflow()
async def agent(number: int, steps: int, alone: bool) -> int:
    plan = [0.0] * steps if alone else pauses_of(number, steps)
    for step, length in enumerate(plan):
        began_s = tally.begin()
        await work(step, length)
        tally.end(began_s)
    return steps


async def main(agents: int, steps: int, folder: Path) -> None:
    file = folder / "dbos.sqlite"
    database = sqlite3.connect(file)
    database.execute("pragma journal_mode=wal")
    database.close()
    config: DBOSConfig = {"name": "bench", "system_database_url": f"sqlite:///{file}", "log_level": "ERROR"}
    DBOS(config=config)
    DBOS.launch()
    tally.expected = agents * steps
    handles = [await DBOS.start_workflow_async(agent, number, steps, agents == 1) for number in range(agents)]
    for handle in handles:
        await handle.get_result()
    answer(tally.figures())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--agents", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(main(options.agents, options.steps, options.folder))
    leave()
