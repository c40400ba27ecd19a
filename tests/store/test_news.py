"""News is a hint: quick when it comes, and never longer than the time-out."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import StoreUnavailable
from holdfast.store.sqlite import SQLiteStore, engine
from tests.store.shapes import new_run


async def test_a_commit_of_this_process_ends_the_wait(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "runs.db", clock=SystemClock()) as store:
        waiting = asyncio.create_task(store.wait_for_news(20))
        await asyncio.sleep(0.01)
        await store.create_run(new_run())
        await asyncio.wait_for(waiting, 5)


async def test_a_commit_of_another_process_ends_the_wait(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    code = (
        "import asyncio, sys\n"
        "from holdfast.store import open_store\n"
        "from tests.store.shapes import new_run\n"
        "async def main():\n"
        "    async with open_store(sys.argv[1]) as store:\n"
        "        await store.create_run(new_run())\n"
        "asyncio.run(main())\n"
    )
    async with SQLiteStore(path, clock=SystemClock()) as store:
        waiting = asyncio.create_task(store.wait_for_news(20))
        await asyncio.sleep(0.01)
        other = subprocess.Popen([sys.executable, "-c", code, str(path)])
        await asyncio.wait_for(waiting, 15)
        assert await asyncio.to_thread(other.wait) == 0


async def test_a_write_of_another_process_is_heard_without_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform != "linux":
        return  # there is asked, as the tests above show
    monkeypatch.setattr(engine, "_POLL_S", (30.0, 30.0))
    path = tmp_path / "runs.db"
    async with (
        SQLiteStore(path, clock=SystemClock()) as store,
        SQLiteStore(path, clock=SystemClock()) as other,
    ):
        waiting = asyncio.create_task(store.wait_for_news(30))
        await asyncio.sleep(0.05)
        await other.create_run(new_run())
        await asyncio.wait_for(waiting, 5)


async def test_a_store_that_is_closed_under_a_wait_hears_no_more_and_says_so(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db", clock=SystemClock())
    await store.open()
    waiting = asyncio.create_task(store.wait_for_news(0.2))
    await asyncio.sleep(0.01)
    await store.close()
    held = os.open(tmp_path / "runs.db", os.O_RDONLY)  # has the number of what was closed, very likely
    try:
        with pytest.raises(StoreUnavailable, match="is not open"):
            await waiting
        await store.open()
        await store.wait_for_news(0.01)
    finally:
        os.close(held)
        await store.close()


async def test_what_happens_between_two_waits_ends_the_second_at_once(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "runs.db", clock=SystemClock()) as store:
        await store.wait_for_news(0)
        await store.create_run(new_run())
        async with asyncio.timeout(
            5
        ):  # not `wait_for`: until Python 3.12 that is another task, with its own memory
            await store.wait_for_news(20)


async def test_without_news_the_wait_ends_at_its_time_out(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "runs.db", clock=SystemClock()) as store:
        began = time.monotonic()
        await store.wait_for_news(0.05)
        assert 0.04 < time.monotonic() - began < 5
