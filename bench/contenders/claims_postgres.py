"""holdfast on PostgreSQL: one worker after the other claims from a queue of a given length; how long a claim takes."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from pathlib import Path

import psycopg

from bench.workload import answer, leave
from holdfast.model import NewRun, NewWorker, Served
from holdfast.store.postgres import PostgresStore

SERVES = (Served(agent="a", version="0"),)
CLAIMS = 9
LEASE_US = 600_000_000


def fill(url: str, number: int) -> None:
    """Many runs like the first one, each due a microsecond after the one before."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "INSERT INTO holdfast.runs (id, agent, version, queue, priority, state, claimable, created_at_us, event_no,"
            " available_at_us, input_hash)"
            " SELECT 'copy ' || n, agent, version, queue, priority, state, claimable, created_at_us, event_no,"
            " available_at_us + n, input_hash FROM holdfast.runs, generate_series(1, %s) AS n WHERE id = 'first'",
            (number,),
        )
        admin.execute(
            "INSERT INTO holdfast.run_payloads (run, input)"
            " SELECT key, '1' FROM holdfast.runs WHERE id LIKE 'copy %'"
        )
        admin.execute("VACUUM ANALYZE")
        admin.execute("CHECKPOINT")


async def main(queued: int, limit: int, url: str) -> None:
    """Fill the queue, claim some times, answer the median."""
    async with PostgresStore(url) as store:
        await store.create_run(NewRun(id="first", agent="a", version="0", input=b"1"))
        await asyncio.to_thread(fill, url, queued)
        new = NewWorker(name="w", host="here", pid=1, capacity=10_000, serves=SERVES, lock_path=None)
        worker = await store.register_worker(new, LEASE_US)
        await store.claim(worker, SERVES, 1)  # the connections are there
        times_s: list[float] = []
        for _ in range(CLAIMS):
            began_s = time.perf_counter()
            claims = await store.claim(worker, SERVES, limit)
            times_s.append(time.perf_counter() - began_s)
            if len(claims) != limit:
                raise RuntimeError(f"{len(claims)} runs were claimed, not {limit}")
    median_s = statistics.median(times_s)
    answer({"claim_ms": median_s * 1e3, "steps_per_s": limit / median_s, "cpu_ms_per_step": 0.0})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--queued", type=int, required=True)
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--folder", type=Path, help="not needed: the database is elsewhere")
    options = parser.parse_args()
    asyncio.run(main(options.queued, options.limit, options.url))
    leave()
