"""The folder of a run with a process of its own, and its limit: what is over it is ended, once, and never loops."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

from holdfast import Limits, workspace
from holdfast.model import Level, Reason, RunState
from holdfast.process.launch import Launcher
from holdfast.process.spawn import Spawner
from holdfast.rules import transitions
from holdfast.throttle.space import folder_bytes
from tests.faults import Engine
from tests.isolation import agents
from tests.isolation.test_isolation import ROOT, reaches, serving
from tests.throttle.dead import dead_disk

LIMIT = 20_000_000


async def place(engine: Engine, run_id: str) -> Path:
    found = workspace.place_of(engine.store.workspace_folder, await engine.store.get_run(run_id))
    assert found is not None
    return found


async def test_files_survive_the_death_of_a_process(engine: Engine) -> None:
    handle = await engine.client.start(agents.keeps, 3, id="r")
    async with serving(engine):
        folder, *names = await handle.result()
    assert Path(folder) == await place(engine, "r")
    assert names == ["1", "2", "3"]


async def test_a_run_that_fills_its_workspace_is_ended_held_and_never_loops(engine: Engine) -> None:
    handle = await engine.client.start(agents.fills, id="r")
    async with serving(engine):
        beside = await engine.client.start(agents.counts, str(engine.folder), 40, 0.1)
        await reaches(engine, "r", Reason.DISK)
        path = await place(engine, "r")
        size = folder_bytes(path)
        assert size is not None
        assert LIMIT < size < 3 * LIMIT, "some seconds at 10 MB a second"
        assert (await engine.store.get_run("r")).attempts == 2  # one was ended, one did not begin
        held = await handle.status()
        assert held.error is not None
        for said in (str(path), f"{size:,} bytes", "20,000,000", "remove files there", "holdfast retry r"):
            assert said in held.error.message
        assert held.error.type == "WorkspaceFull"
        told = [
            event for event in await engine.store.read_events("r", 0, 1000) if b'"crashed"' in event.payload
        ]
        assert len(told) == 1
        assert b"past the limit of 20,000,000" in told[0].payload

        await handle.retry()  # and nothing was removed
        async with asyncio.timeout(30):
            while (await engine.store.get_run("r")).attempts < 3:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.02)
        await reaches(engine, "r", Reason.DISK)
        assert folder_bytes(path) == size, "nothing of it began"

        shutil.rmtree(path)
        path.mkdir()
        (path / "enough").touch()
        await handle.retry()
        assert await handle.result() == "enough"
        assert await beside.result() == 40
        assert (await engine.store.get_run(beside.id)).attempts == 1


async def test_a_run_on_a_dead_disk_can_be_cancelled_and_costs_no_other_run_anything(engine: Engine) -> None:
    """It has not begun: what its workspace holds is not known."""
    await engine.client.start(agents.fills, id="r")
    with dead_disk(await place(engine, "r")):
        async with asyncio.timeout(40), serving(engine):
            await reaches(engine, "r", RunState.RUNNING)
            beside = await engine.client.start(agents.counts, str(engine.folder), 20, 0.1)
            assert await beside.result() == 20
            assert (await engine.store.get_run("r")).state is RunState.RUNNING
            await engine.store.update_run("r", transitions.cancel)
            await reaches(engine, "r", RunState.CANCELLED)


async def test_a_worker_with_a_run_on_a_dead_disk_can_be_drained(engine: Engine) -> None:
    await engine.client.start(agents.fills, id="r")
    with dead_disk(await place(engine, "r")):
        async with asyncio.timeout(20), serving(engine):
            await reaches(engine, "r", RunState.RUNNING)
        assert (await engine.store.get_run("r")).state is RunState.QUEUED


async def test_a_run_is_told_before_its_workspace_is_full_and_not_held_back(engine: Engine) -> None:
    handle = await engine.client.start(agents.nears, id="r")
    async with serving(engine):
        assert await handle.result() == Level.CRITICAL
    view = await handle.status()
    assert (view.state, view.attempts) == (RunState.SUCCEEDED, 1)
    told = b"".join(event.payload for event in await engine.store.read_events("r", 0, 1000))
    assert b"ctx.pressure" in told
    assert b"stands back" not in told


async def test_a_spare_process_is_bound_to_the_workspace_of_the_run_that_takes_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(500_000))
    launcher = Launcher()
    spawner = Spawner(launcher)
    seen: list[int | None] = []
    try:
        for folder in (None, tmp_path):
            process = await spawner.take(Limits(), folder)
            looked = asyncio.Event()
            process.watched(
                lambda one, looked=looked: (seen.append(one.sample.workspace_bytes), looked.set())
            )  # type: ignore[misc]
            await asyncio.wait_for(looked.wait(), 20)
            process.watched(lambda one: None)
    finally:
        await spawner.close()
        await launcher.close()
    assert seen[0] is None
    assert seen[1] is not None
    assert 500_000 <= seen[1] < 600_000


SMALL = """
import asyncio, os, sys
from pathlib import Path
from holdfast import Thresholds
from holdfast.model import Reason
from tests.faults import Engine
from tests.isolation import agents
from tests.isolation.test_isolation import reaches, serving

async def main(folder):
    engine = Engine(folder)
    async with engine.store, serving(engine, thresholds=Thresholds(disk_mb=None)):
        await engine.client.start(agents.fills, id="r")
        beside = await engine.client.start(agents.counts, str(folder), 60, 0.05)
        await reaches(engine, "r", Reason.DISK)
        print(await beside.result(), (await engine.store.get_run("r")).attempts)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_run_that_writes_without_end_does_not_fill_the_disk_of_all(tmp_path: Path) -> None:
    """On a disk of 64 MB where this machine lets us mount one; where it does not, on that of the tests."""
    script = f'mount -t tmpfs -o size=64m none {tmp_path} && exec {sys.executable} -c "$0" {tmp_path}'
    command = ["unshare", "--mount", "sh", "-c", script, SMALL]
    mounts = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if mounts.returncode:
        command = [sys.executable, "-c", SMALL, str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=55, check=False
    )
    assert done.stdout == "60 2\n", done.stderr
