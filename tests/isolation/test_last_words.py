"""What passes between a worker and a process at the edges: large, late, at the wrong moment, or from other code."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from holdfast import Worker
from holdfast.errors import Refused
from holdfast.model import Reason, RunState
from holdfast.process.launch import Launcher, Stillborn
from holdfast.process.spawn import Process, Spawner
from holdfast.process.wire import Wire
from holdfast.references import load_agent
from holdfast.rules.limits import NO_LIMITS, Limits
from holdfast.throttle.watch import Watch
from tests.faults import Engine
from tests.isolation import agents
from tests.isolation.test_isolation import alive, reaches, serving, until
from tests.processes.harness import lines


async def test_a_long_answer_reaches_a_worker_that_is_busy_when_the_process_ends(engine: Engine) -> None:
    handles = [await engine.client.start(agents.verbose, 500_000, id=f"r{n}") for n in range(6)]
    await engine.client.start(agents.hogs, 3)
    async with serving(engine):
        for handle in handles:
            assert len(await handle.result()) == 500_000
    for n in range(6):
        assert (await engine.store.get_run(f"r{n}")).attempts == 1


async def test_an_inbox_larger_than_a_process_may_say_at_once_is_told(engine: Engine) -> None:
    handle = await engine.client.start(agents.collects)
    for _ in range(3):
        await handle.signal("large", "x" * 45 * 2**20)
    async with serving(engine):
        assert await handle.result() == 3 * 45 * 2**20


async def test_a_key_that_cannot_be_recorded_is_told_as_it_is_in_a_task(engine: Engine) -> None:
    await engine.client.start(agents.says_half, id="r")
    async with serving(engine):
        await reaches(engine, "r", RunState.FAILED)
    run = await engine.store.get_run("r")
    assert run.failure is not None
    assert "lone surrogate" in run.failure.message


async def test_what_a_run_starts_hears_a_ctrl_c_as_ever(engine: Engine) -> None:
    handle = await engine.client.start(agents.starts)
    async with serving(engine):
        assert "default_int_handler" in await handle.result()


def children() -> set[int]:
    """The processes that any thread of ours started."""
    found = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(pid) for each in found for pid in each.read_text().split()}


async def test_a_signal_to_every_process_of_a_service_is_a_drain_and_counts_nothing(
    engine: Engine, tmp_path: Path
) -> None:
    handle = await engine.client.start(agents.counts, str(tmp_path), 12, 0.3, id="r")
    others = children()  # of the tests' own: a database, say
    for n in range(3):
        async with serving(engine) as worker:
            await until(lambda n=n: len(lines(tmp_path, "executed")) > 3 * n)
            worker.drain()
            for pid in children() - others:
                os.kill(pid, signal.SIGTERM)
        run = await engine.store.get_run("r")
        assert (run.state, run.reason, run.crashes) == (RunState.QUEUED, Reason.DRAINED, 0)
    async with serving(engine):
        assert await handle.result() == 12


async def test_an_attempt_ends_though_somebody_holds_what_its_process_left(engine: Engine) -> None:
    await engine.client.start(agents.leaks, 4 * 2**20, id="r")
    async with asyncio.timeout(12), serving(engine):
        await reaches(engine, "r", Reason.CRASHED)


async def test_a_spare_that_died_while_it_waited_costs_no_run_anything(engine: Engine) -> None:
    async with serving(engine) as worker:
        spawner: Any = worker._serving.spawner
        while spawner is None:
            await asyncio.sleep(0.01)
            spawner = worker._serving.spawner
        spare = await spawner._spares[NO_LIMITS]
        spare.kill()
        await spare.ended()
        handle = await engine.client.start(agents.grandchild, 4, id="r")
        assert await handle.result() == 8
    run = await engine.store.get_run("r")
    assert (run.attempts, run.crashes) == (1, 0)


async def test_a_machine_that_starts_no_process_is_asked_again_and_nothing_is_counted_or_left(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.process.supervisor.REST_S", 0.1)
    spawn, refused = Spawner._spawn, [RuntimeError("can't start new thread"), PermissionError("no")]

    async def now_and_then(spawner: Spawner, limits: Limits) -> Any:
        if refused:
            raise refused.pop()
        return await spawn(spawner, limits)

    monkeypatch.setattr(Spawner, "_spawn", now_and_then)
    handle = await engine.client.start(agents.grandchild, 4, id="r")
    async with serving(engine):
        assert await handle.result() == 8
    assert (await engine.store.get_run("r")).crashes == 0


DEPLOYED = """
import holdfast

@holdfast.agent(isolation="process", version={version!r})
async def audit(ctx: holdfast.Context) -> str:
    await ctx.wait_for("go", str)
    return "audited"
{rest}
"""


@pytest.mark.parametrize("change", ["version", "broken"])
async def test_code_that_changes_under_an_old_worker_fails_no_run(
    engine: Engine, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.rules.transitions.CRASH_DELAY_US", 2_000_000)
    file = tmp_path / f"deployed_{change}.py"
    file.write_text(DEPLOYED.format(version="1", rest=""))
    audit = load_agent(f"{file}:audit")
    handle = await engine.client.start(audit, id="r")
    async with Worker(engine.store, [audit]):
        await reaches(engine, "r", Reason.SIGNAL)
        # of another length: what is compiled is told apart by length, and by the second
        version, rest = ("22", "") if change == "version" else ("1", "def half(:")
        file.write_text(DEPLOYED.format(version=version, rest=rest))
        await handle.signal("go", "now")
        await reaches(engine, "r", Reason.BACKOFF, Reason.CRASHED)
        run = await engine.store.get_run("r")
        assert run.failure is not None
        assert ("restart it" if change == "version" else "SyntaxError") in run.failure.message
        if change == "broken":
            file.write_text(DEPLOYED.format(version="1", rest=""))
            assert await handle.result() == "audited"


SOMEWHERE = {
    "random.py": "raise RuntimeError('the wrong random')\n",
    "pathlib.py": "raise RuntimeError('the wrong pathlib')\n",
}


@pytest.mark.parametrize("module", SOMEWHERE)
def test_a_process_imports_from_where_its_worker_does_and_nowhere_else(tmp_path: Path, module: str) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / module).write_text(SOMEWHERE[module])
    (there / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "../there/script.py"], cwd=here, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "hello you\n", done.stderr


SCRIPT = """
import asyncio
import sys
from pathlib import Path

import holdfast

sys.path.insert(1, Path("/nowhere"))  # which Python passes over

async def load() -> str:
    return "hello"

WORD = asyncio.run(load())

@holdfast.agent(isolation="process")
async def hello(ctx: holdfast.Context, name: str) -> str:
    return f"{WORD} {name}"

if __name__ == "__main__":
    print(holdfast.run(hello, "you"))
"""


@pytest.mark.parametrize("module", ["pack.part", "pack.tool", "pack"])
def test_an_agent_of_a_program_that_is_started_as_a_module_is_found(tmp_path: Path, module: str) -> None:
    for folder in ("pack", "pack/part"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    for file in ("pack/__main__.py", "pack/part/__main__.py", "pack/tool.py"):
        (tmp_path / file).write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "hello you\n", done.stderr


INSIDE = """
import holdfast

def make():
    @holdfast.agent(isolation="process")
    async def hello(ctx: holdfast.Context, name: str) -> str:
        return f"hello {name}"
    return hello

import asyncio

try:
    holdfast.run(make(), "you")
except holdfast.errors.UsageError as error:
    print(error)

async def left() -> int:
    async with holdfast.open_store(".holdfast/store.db") as store:
        return len(await holdfast.Client(store).runs())

print(asyncio.run(left()))
"""


def test_an_agent_that_is_refused_leaves_no_run_behind(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(INSIDE)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert "top level of a file" in done.stdout, done.stderr
    assert done.stdout.endswith("\n0\n")


async def test_a_lease_that_is_lost_ends_processes_at_once(engine: Engine, tmp_path: Path) -> None:
    await engine.client.start(agents.busy, str(tmp_path))
    async with serving(engine) as worker:
        await until(lambda: lines(tmp_path, "busy"))
        (pid,) = map(int, lines(tmp_path, "busy"))
        worker._lease_lost()
        await until(lambda: not alive(pid), 4)
        worker.stop_now()


async def test_a_process_that_could_not_be_made_whole_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spawner = Spawner(Launcher())

    async def refuse(*_: object, **__: object) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Wire, "over", refuse)
    for _ in range(3):  # whatever is opened once stays open
        with pytest.raises(OSError, match="open files"):
            await spawner._spawn(NO_LIMITS)
    open_files, running = psutil.Process().num_fds(), set(psutil.Process().children())
    for _ in range(5):
        with pytest.raises(OSError, match="open files"):
            await spawner._spawn(NO_LIMITS)
    assert psutil.Process().num_fds() <= open_files
    assert set(psutil.Process().children()) <= running


async def test_a_group_that_cannot_be_ended_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = Launcher()
    spawner = Spawner(launcher)
    process = await spawner._spawn(NO_LIMITS)
    group, refused = type(process._launched._group), [Refused("read-only file system")]
    kill = group.kill

    def now_and_then(*args: Any) -> Any:
        if refused:
            raise refused.pop()
        return kill(*args)

    monkeypatch.setattr(group, "kill", now_and_then)
    process.kill()
    await process.ended()
    await spawner.close()
    await launcher.close()


async def test_a_look_that_fails_blinds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.process.launch.LOOK_S", 0.05)
    launcher = Launcher()
    spawner = Spawner(launcher)
    bad, good = await spawner.take(NO_LIMITS), await spawner.take(NO_LIMITS)
    seen: list[object] = []
    bad.watched(lambda _: 1 // 0)
    good.watched(seen.append)
    await until(lambda: len(seen) >= 3)

    assert isinstance(bad, Process)
    failing, look = bad._launched._watch, Watch.look

    def fail(watch: Watch, *asked: Any) -> object:
        if watch is failing:
            raise RuntimeError("can't start new thread")
        return look(watch, *asked)

    monkeypatch.setattr(Watch, "look", fail)
    await until(lambda: len(seen) >= 6)
    await spawner.close()
    await launcher.close()


class Look(NamedTuple):
    """What is seen by a look that did something."""

    moves: tuple[str, ...] = ("kill",)
    oom: bool = False


async def test_why_a_look_ended_a_run_is_told_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = Launcher()
    launched = launcher.launch(["sleep", "60"])
    told: list[str] = []

    def ended_by_it(*_: object) -> Look:
        launched._group.kill()
        return Look()

    def turn() -> None:
        launched.look(None)
        time.sleep(0.5)  # the others are looked at in the same turn

    monkeypatch.setattr(Watch, "look", ended_by_it)
    launched.watched(lambda _: told.append("look"))
    launched.gone.add_done_callback(lambda _: told.append("gone"))
    await asyncio.to_thread(turn)
    await launched.ended()
    assert told == ["look", "gone"]
    await launcher.close()


async def test_a_process_that_dies_again_and_again_before_it_begins_is_counted_in_the_end(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.process.supervisor.REST_S", 0.01)
    monkeypatch.setattr("holdfast.rules.transitions.CRASH_DELAY_US", 10_000)
    monkeypatch.setattr("holdfast.process.spawn._BOOT", "import sys; sys.exit(9)")
    await engine.client.start(agents.grandchild, 4, id="r")
    async with serving(engine):
        await reaches(engine, "r", Reason.POISON)
    run = await engine.store.get_run("r")
    assert run.failure is not None
    assert "exited with code 9 before it had begun, 7 times in a row" in run.failure.message
    assert (run.attempts, run.crashes) == (7, 3)  # four that nobody is blamed for


def test_only_processes_in_a_row_that_did_not_begin_are_counted() -> None:
    stillborn = Stillborn()
    assert [stillborn.again(1), stillborn.again(1), stillborn.again(2)] == [1, 2, 1]
    stillborn.born(1)
    assert [stillborn.again(1), stillborn.again(2)] == [1, 2]
