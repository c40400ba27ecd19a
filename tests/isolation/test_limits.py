"""Limits of a run with a process of its own: held by what this machine has, told as they are; nobody gets away."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from holdfast import Client, Context, Limits, Thresholds, Worker, agent, open_store
from holdfast.client.view import event_payload
from holdfast.errors import Refused, UsageError
from holdfast.model import Mechanism, Reason, Strength
from holdfast.process.launch import Launcher
from holdfast.references import load_agent
from holdfast.throttle import probe
from tests.faults import Engine
from tests.isolation import agents
from tests.isolation.test_isolation import ROOT, alive, reaches, serving, until
from tests.processes.harness import Scene, lines, wait_until

ABLE = probe()


def held(limit: str) -> None:
    """Only where the kernel holds this limit."""
    strength = ABLE.limits[limit].strength
    if strength != "kernel":
        pytest.skip(f"{limit} is {strength} here: {ABLE.limits[limit].by}")


def sleepers(seconds: str) -> list[int]:
    """Who sleeps so long."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        with suppress(psutil.NoSuchProcess):
            if process.info["cmdline"] == ["sleep", seconds] and process.info["status"] != "zombie":
                found.append(process.pid)
    return found


async def test_a_run_at_its_memory_limit_is_ended_as_out_of_memory_and_never_loops(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held("memory")
    monkeypatch.setattr("holdfast.rules.transitions.CRASH_DELAY_US", 10_000)
    await engine.client.start(agents.hoards, str(tmp_path), 1000, id="r")
    async with serving(engine):
        beside = await engine.client.start(agents.hoards, str(tmp_path / "small"), 20)
        (tmp_path / "small").mkdir()
        await reaches(engine, "r", Reason.POISON)
        assert await beside.result() == 20
    run = await engine.store.get_run("r")
    assert run.failure is not None
    assert run.failure.type == "OutOfMemory"
    assert "at its memory limit of 150,000,000 bytes" in run.failure.message
    assert len(lines(tmp_path, "hoarding")) == 3


async def test_a_run_near_its_memory_limit_is_told_before_it_is_there(engine: Engine, tmp_path: Path) -> None:
    handle = await engine.client.start(agents.feels, str(tmp_path), id="r")
    async with serving(engine):
        assert await handle.result() in {"warning 135", "critical 135"}
    payloads = [event.payload for event in await engine.store.read_events("r", 0, 1000)]
    assert any(b"memory at" in payload and b"past the threshold" in payload for payload in payloads)


async def test_a_run_that_forks_without_end_is_stopped_at_its_limit(engine: Engine, tmp_path: Path) -> None:
    held("processes")
    handle = await engine.client.start(agents.multiplies, str(tmp_path), id="r")
    async with serving(engine):
        assert 5 <= await handle.result() < 20
    assert not [pid for pid in map(int, lines(tmp_path, "forked")) if alive(pid)]


async def test_a_busy_run_gets_the_cores_that_it_may_have(engine: Engine, tmp_path: Path) -> None:
    handle = await engine.client.start(agents.burns, str(tmp_path))
    async with serving(engine):
        assert await handle.result() <= 0.33


async def test_files_and_descriptors_are_bounded_in_each_process(engine: Engine, tmp_path: Path) -> None:
    handle = await engine.client.start(agents.overfills, str(tmp_path))
    async with serving(engine):
        assert await handle.result() == ["OSError", "OSError"]
    assert (tmp_path / "large").stat().st_size <= 1_000_000


@pytest.mark.parametrize("stays", [False, True])
async def test_nobody_gets_away_from_a_run_that_has_ended(
    engine: Engine, tmp_path: Path, stays: bool
) -> None:
    seconds = str(random.randint(10_000, 9_999_999))
    (tmp_path / "seconds").write_text(seconds)
    handle = await engine.client.start(agents.escapes, str(tmp_path), stays, id="r")
    async with serving(engine):
        if stays:
            await until(lambda: lines(tmp_path, "escaped"))
            assert len(sleepers(seconds)) == len(agents.ESCAPES)
            await handle.cancel()
            await until(lambda: not sleepers(seconds))
        else:
            assert await handle.result() == "left them"
            assert not sleepers(seconds)  # nobody is alive when the outcome is recorded


def test_who_got_away_from_a_killed_worker_is_found_by_the_next(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    seconds = str(random.randint(10_000, 9_999_999))
    (tmp_path / "seconds").write_text(seconds)
    scene.start(agents.escapes, str(tmp_path), True)
    first = _worker(scene)
    wait_until(lambda: lines(tmp_path, "escaped"))
    assert len(sleepers(seconds)) == len(agents.ESCAPES)
    _kill(first)
    left = sleepers(seconds)
    second = _worker(scene)
    try:
        wait_until(lambda: not set(left) & set(sleepers(seconds)))
    finally:
        _kill(second)
        third = _worker(scene)
        asyncio.run(_cancel(scene))
        wait_until(lambda: not sleepers(seconds))
        _kill(third)


def _worker(scene: Scene) -> subprocess.Popen[bytes]:
    """With no pipes: whoever got away would hold them open."""
    command = [sys.executable, "-m", "tests.isolation.serve", scene.url]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _kill(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.wait()


async def _cancel(scene: Scene) -> None:
    async with open_store(scene.url) as store:
        await Client(store).handle(agents.escapes, "r").cancel()


@pytest.mark.timeout(120)  # beside others it gets less, and climbs later
async def test_a_run_over_the_thresholds_of_its_agent_is_told_and_held_to_them(
    engine: Engine, tmp_path: Path
) -> None:
    async def rungs() -> list[object]:
        events = await engine.store.read_events("r", 0, 1000)
        return [event_payload(event)["rung"] for event in events if event.type == "warning"]

    handle = await engine.client.start(agents.toils, str(tmp_path), 6.0, id="r")
    async with serving(engine):
        while "quota" not in await rungs():
            await engine.store.wait_for_news(1)
        (tmp_path / "measure").touch()
        assert await handle.result() <= 0.46  # of a core: the critical threshold is 0.40
    climbed = list(dict.fromkeys(await rungs()))  # beside others it is let go, and climbs again
    assert climbed == ["event", "hint", "weight", "quota"]  # the CPU alone leads no higher


async def test_a_worker_has_limits_for_agents_that_have_none(engine: Engine, tmp_path: Path) -> None:
    held("memory")
    await engine.client.start(agents.gathers, str(tmp_path), 1000, id="r")
    async with serving(engine, isolation="process", limits=Limits(memory="150MB")):
        await reaches(engine, "r", Reason.CRASHED)
    run = await engine.store.get_run("r")
    assert run.failure is not None
    assert run.failure.type == "OutOfMemory"


def test_limits_of_a_worker_that_are_nobodys_are_refused(engine: Engine) -> None:
    with pytest.raises(UsageError, match="add isolation='process'"):
        Worker(engine.store, [agents.gathers], limits=Limits(memory="150MB"))


def test_thresholds_without_a_process_are_refused() -> None:
    with pytest.raises(UsageError, match="thresholds need isolation='process'"):

        @agent(thresholds=Thresholds(cpu_percent=(50, 90)))
        async def shares(ctx: Context) -> None: ...


def test_limits_without_a_process_are_refused() -> None:
    with pytest.raises(UsageError, match="isolation='process'"):

        @agent(limits=Limits(memory="200MB"))
        async def shares(ctx: Context) -> None: ...


async def test_a_limit_that_nothing_here_acts_on_is_refused_when_the_worker_begins(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Launcher.__init__

    def without(launcher: Launcher, *args: object) -> None:
        make(launcher, *args)  # type: ignore[arg-type]
        launcher.groups.abilities.limits["memory"] = Mechanism(Strength.REFUSED, "nothing", "it is a toaster")

    monkeypatch.setattr(Launcher, "__init__", without)
    with pytest.raises(Refused, match=r"Limits\(memory=…\) cannot be held here: nothing it is a toaster"):
        await serving(engine).run()


MODEST = """
import holdfast
from holdfast.rules.limits import MIN_MEMORY_BYTES

def double(n: int) -> int:
    return 2 * n

@holdfast.agent(isolation="process", limits=holdfast.Limits(memory=MIN_MEMORY_BYTES))
async def modest(ctx: holdfast.Context) -> int:
    return await ctx.step(double, 4)
"""


async def test_the_least_memory_that_can_be_asked_for_is_enough_for_a_step(
    engine: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "modest_agent.py"
    file.write_text(MODEST)
    modest = load_agent(f"{file}:modest")
    handle = await engine.client.start(modest)
    async with Worker(engine.store, [modest]):
        assert await handle.result() == 8
