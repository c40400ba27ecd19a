"""`python -m tests.processes.artifact_full_scene FOLDER`: the disk fills under an upload, and there is room again.

Run with a small disk of its own mounted at FOLDER. Prints JSON about what happened.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from holdfast import Client, Context, Thresholds, Worker, agent, open_store
from holdfast.errors import StoreFull
from tests.processes.full_scene import fill, until


@agent
async def keeper(ctx: Context, path: str) -> str:
    return (await ctx.artifact("large.bin", path)).id


async def main(folder: Path) -> None:
    source = folder.parent / "large"
    content = os.urandom(6 * 1024 * 1024)
    source.write_bytes(content)
    refused = 0
    async with open_store(folder / "holdfast.db") as store:
        add_chunk: Any = store.add_chunk

        async def counted(upload: int, n: int, chunk: bytes) -> None:
            nonlocal refused
            if n == 2 and not refused:
                fill(folder / "ballast")
            try:
                await add_chunk(upload, n, chunk)
            except StoreFull:
                refused += 1
                raise

        store.add_chunk = counted  # type: ignore[method-assign]
        async with Worker(store, [keeper], thresholds=Thresholds(disk_mb=None)):
            handle = await Client(store).start(keeper, str(source), id="r")
            await until(lambda: refused > 3)
            listed = len(await handle.artifacts())
            (folder / "ballast").unlink()
            kept = await asyncio.wait_for(handle.result(), 60)
            run = await store.get_run("r")
            told = {
                "listed_when_full": listed,
                "right": kept == hashlib.sha256(await handle.read_artifact(kept)).hexdigest(),
                "failures": run.failures,
                "attempts": run.attempts,
            }
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
