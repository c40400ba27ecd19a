"""One worker, one run after the other, inside its process and in one of their own.

python -m bench.contenders.isolation --runs N --folder F
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil

from bench.contenders.lodgers import apart, inside
from bench.workload import answer, leave
from holdfast import Agent, Client, Worker, open_store

PAUSE_S = 0.5
BARE_STARTS = 10


async def main(runs: int, folder: Path) -> None:
    """Start runs, each when the last is over, and read how long each needed from its claim to its step."""
    async with open_store(f"sqlite:///{folder / 'holdfast.db'}") as store:
        client = Client(store)
        worker = Worker(store, [inside, apart])
        serving = asyncio.create_task(worker.run())
        figures: dict[str, float] = {}
        try:
            for name, which, pause_s in (
                ("inside_ms", inside, 0.0),
                ("warm_ms", apart, PAUSE_S),
                ("cold_ms", apart, 0.0),
            ):
                await one_after_the_other(client, which, 2, PAUSE_S)  # the first ones import and fill caches
                if name == "warm_ms":
                    figures["waiting_mb"] = waiting_mb()
                figures[name] = statistics.median(await one_after_the_other(client, which, runs, pause_s))
        finally:
            worker.drain()
            await serving
    figures["bare_ms"] = statistics.median(bare_start_ms() for _ in range(BARE_STARTS))
    answer(figures)


async def one_after_the_other(client: Client, which: Agent[float], runs: int, pause_s: float) -> list[float]:
    """Milliseconds from the claim to the step, of each."""
    late_ms = []
    for _ in range(runs):
        handle = await client.start(which)
        began = await handle.result()
        view = await handle.status()
        assert view.started_at is not None
        late_ms.append((began - view.started_at.timestamp()) * 1e3)
        await asyncio.sleep(pause_s)
    return late_ms


def waiting_mb() -> float:
    """What the interpreter that waits for a run has to itself."""
    children = psutil.Process().children(recursive=True)
    return max(child.memory_full_info().uss for child in children) / 1e6


def bare_start_ms() -> float:
    """An interpreter that does nothing, started and ended."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return (time.perf_counter() - began) * 1e3


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(main(options.runs, options.folder))
    leave()
