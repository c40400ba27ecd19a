"""DBOS, on SQLite or (`--url`) PostgreSQL: async workflows and steps, each outcome durable before the next step (its
only mode)."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from dbos import DBOS

from bench.peers.dbos_queue import launch
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


async def main(agents: int, steps: int, folder: Path, url: str | None) -> None:
    launch(folder, url)
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
    parser.add_argument("--url")
    options = parser.parse_args()
    asyncio.run(main(options.agents, options.steps, options.folder, options.url))
    leave()
