"""A process that keeps one large artifact, steps beside it, reads it back, and tells what memory it took.

`python -m tests.processes.artifact_scene FOLDER MIB [CACHE_KIB]`
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import sys
import time
from pathlib import Path

from holdfast import Client, Context, Worker, agent, open_store
from holdfast.store.sqlite import connection

MIB = 1024 * 1024
slowest_s: list[float] = []
finished = asyncio.Event()


@agent
async def keeper(ctx: Context, path: str) -> str:
    kept = await ctx.artifact("large.bin", path)
    finished.set()
    return kept.id


async def one() -> int:
    await asyncio.sleep(0.005)
    return 1


@agent
async def stepper(ctx: Context) -> int:
    count = 0
    while not finished.is_set() and count < 5000:
        began_s = time.monotonic()
        count += await ctx.step(one)
        slowest_s.append(time.monotonic() - began_s - 0.005)
    return count


def write(path: Path, mib: int) -> str:
    whole = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(mib):
            chunk = os.urandom(MIB)  # which no compression makes small
            whole.update(chunk)
            file.write(chunk)
    return whole.hexdigest()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def main(folder: Path, mib: int) -> dict[str, object]:
    wanted = write(folder / "large", mib)
    async with (
        open_store(folder / "holdfast.db") as store,
        Worker(store, [keeper, stepper]),
    ):
        client = Client(store)
        small = folder / "small"
        small.write_bytes(b"warm")
        await (await client.start(keeper, str(small))).result()
        finished.clear()
        before_mb = peak_mb()
        began_s = time.monotonic()
        handle = await client.start(keeper, str(folder / "large"), id="r")
        beside = await client.start(stepper)
        kept = await handle.result()
        took_s = time.monotonic() - began_s
        steps = await beside.result()
        read = hashlib.sha256()
        async for chunk in handle.open_artifact(kept):
            read.update(chunk)
    slowest_s.sort()
    return {
        "right": kept == wanted == read.hexdigest(),
        "grew_mb": round(peak_mb() - before_mb, 1),
        "took_s": round(took_s, 2),
        "steps": steps,
        "step_p99_ms": round(1000 * slowest_s[len(slowest_s) * 99 // 100], 1),
        "step_max_ms": round(1000 * slowest_s[-1], 1),
    }


if __name__ == "__main__":
    if len(sys.argv) > 3:
        connection.CACHE_KIB = int(sys.argv[3])  # type: ignore[misc]
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))))
