"""An import that is killed at any of its commits leaves no half of a run to anybody, and the next one goes on."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.model import Reason, RunFilter, RunState
from holdfast.moving import import_runs
from holdfast.store import open_store
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import SERVES, register
from holdfast.testing.conformance.population import everything
from tests.moving.test_files import written

IDS = ("a", "p", "c", "z")
PAUSED = ("p", "c", "z")


async def check_left(store: Store, before: dict[str, dict[str, object]]) -> None:
    """What a killed import left: runs that are whole, and such that nobody can have."""
    found = {run.id: run for run in await store.list_runs(RunFilter())}
    worker = await register(store)
    claimed = {claim.run.id for claim in await store.claim(worker, SERVES, 9)}
    whole = {run_id for run_id, run in found.items() if run.reason is not Reason.IMPORTING}
    assert claimed <= whole & set(PAUSED)
    assert ("p" in whole) == ("c" in whole), "a tree comes whole"
    for run_id in whole - claimed:
        if found[run_id].state is not RunState.QUEUED:  # else it was resumed already
            assert await everything(store, run_id) == before[run_id]
    await store.retire_worker(worker)


async def finish(store: Store, file: bytes, before: dict[str, dict[str, object]]) -> None:
    """Import again, and look."""
    await import_runs(store, io.BytesIO(file), "F", resume=True)
    assert await everything(store, "a") == before["a"]
    worker = await register(store)
    left = {run.id: run for run in await store.list_runs(RunFilter())}
    assert set(left) == set(IDS)
    for run_id in PAUSED:
        assert left[run_id].state in (RunState.QUEUED, RunState.RUNNING)
        entries = await store.read_entries(run_id, payloads=True)
        assert entries == before[run_id]["entries"]
        assert await store.list_children(["p"], 9)
    await store.retire_worker(worker)
    again = await import_runs(store, io.BytesIO(file), "F", resume=True)
    assert set(again.here) == set(IDS)


@pytest.mark.timeout(240)  # some dozens of processes, and as many stores
async def test_an_import_killed_at_any_commit_is_finished_by_the_next(tmp_path: Path) -> None:
    async with open_store(tmp_path / "from.db") as store:
        file = await written(store)
        await store.sweep(100)  # what attempts had reserved counts as used, there as here
        before = {run_id: await everything(store, run_id) for run_id in IDS}
    (tmp_path / "runs.jsonl").write_bytes(file)
    async with open_store(tmp_path / "empty.db"):
        pass
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.moving.killed", str(tmp_path / "runs.jsonl"), str(tmp_path / "empty.db")],
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    points = done.stdout.split()
    assert len(points) > 40, points
    halves = 0
    for point in points:
        async with open_store(tmp_path / f"{point}.db") as store:
            runs = await store.list_runs(RunFilter())
            halves += any(run.reason is Reason.IMPORTING for run in runs)
            await check_left(store, before)
            await finish(store, file, before)
    assert halves > 10, "hardly any was killed on the way"
