"""A run in a process of its own: the same Context, and nothing that its code does reaches anybody else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from holdfast import Context, RunFailed, Worker, agent
from holdfast.errors import UsageError
from holdfast.model import EntryStatus, Reason, RunState
from holdfast.process import supervisor
from tests.faults import CrashingStore, Engine
from tests.isolation import agents
from tests.processes import harness
from tests.processes.harness import Scene, lines, stop, wait_until

ROOT = Path(__file__).parents[2]
CHILDREN = 20


async def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)


async def reaches(engine: Engine, run_id: str, *reasons: Reason | RunState) -> None:
    async with asyncio.timeout(30):
        while True:
            run = await engine.store.get_run(run_id)
            if run.reason in reasons or run.state in reasons:
                return
            await engine.store.wait_for_news(0.2)


def alive(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def serving(engine: Engine, **options: Any) -> Worker:
    return Worker(engine.store, agents.ALL, **options)


async def test_the_code_of_a_run_is_in_a_process_of_its_own(engine: Engine) -> None:
    async with serving(engine):
        seen = [await (await engine.client.start(agents.whereabouts)).result() for _ in range(3)]
    assert len({own for own, _, _ in seen}) == 3
    for in_step, own, parent in seen:
        assert in_step == own
        assert parent == os.getpid()


async def test_every_call_of_a_context_works_in_a_process(engine: Engine, tmp_path: Path) -> None:
    handle = await engine.client.start(agents.everything, str(tmp_path), id="r")
    async with serving(engine):
        await reaches(engine, "r", Reason.SIGNAL)
        await handle.signal("go", "signalled")
        await reaches(engine, "r", Reason.APPROVAL)
        await handle.approve("yes", by="me")
        found = await handle.result()
    assert found == {
        "setup": 2,
        "mapped": [2, 4, 6],
        "raced": "quick",
        "branch": 12,
        "once": 14,
        "paid": "receipt",
        "key": True,
        "refused": "8 is refused",
        "rated": 18,
        "artifact": 5000,
        "child": 20,
        "signal": "signalled",
        "answer": "yes",
        "times": True,
        "chance": True,
    }
    assert lines(tmp_path, "paid") == [""]
    types = [event.type for event in await engine.store.read_events("r", 0, 1000)]
    assert {"log", "progress", "checkpoint.saved"} <= set(types)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("exit", "exited with code 3"),
        ("real time", "killed by signal 40"),
        ("kill", "was killed by SIGKILL"),
        ("fault", "was killed by SIGSEGV"),
        ("garbage", "that is no frame"),
        ("no frame", "is no frame"),
        ("shut", "was killed by SIGKILL"),  # it goes when it hears nothing of its worker any more,
    ],
)
async def test_a_process_that_dies_takes_nobody_along_and_is_poison_after_three_times(
    engine: Engine, tmp_path: Path, how: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.rules.transitions.CRASH_DELAY_US", 10_000)
    await engine.client.start(agents.dies, how, str(tmp_path), id="r")
    worker = serving(engine)
    async with worker:
        beside = await engine.client.start(agents.counts, str(tmp_path), 20, 0.05)
        await reaches(engine, "r", Reason.POISON)
        assert await beside.result() == 20
        assert len(await engine.store.list_workers()) == 1
    run = await engine.store.get_run("r")
    assert run.failure is not None
    assert told in run.failure.message
    assert "holdfast retry r" in run.failure.message
    assert not [pid for pid in map(int, lines(tmp_path, "attempts")) if alive(pid)]


async def test_a_crash_is_counted_only_while_nothing_new_is_recorded(engine: Engine, tmp_path: Path) -> None:
    handle = await engine.client.start(agents.dies, "kill", str(tmp_path), 3, id="r")
    async with serving(engine):
        assert await handle.result() == "alive"
    assert [entry.status for entry in await engine.entries("r")] == [EntryStatus.OK]
    types = [event.type for event in await engine.store.read_events("r", 0, 1000)]
    assert types.count("run.queued") == 3  # at its start, and after each crash


async def test_a_stopped_process_is_killed_when_it_said_nothing_for_too_long(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STALL_S", 2.0)
    monkeypatch.setattr(supervisor, "START_S", 2.0)
    handle = await engine.client.start(agents.dies, "stop", str(tmp_path), 2, id="r")
    async with serving(engine):
        assert await handle.result() == "alive"
    run = await engine.store.get_run("r")
    assert run.attempts == 2
    assert not [pid for pid in map(int, lines(tmp_path, "attempts")) if alive(pid)]


@pytest.mark.parametrize("how", ["busy", "stop"])
async def test_a_process_that_does_not_listen_is_killed_and_its_worker_stays(
    engine: Engine, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.worker.GRACE_S", 0.5)
    if how == "busy":
        handle: Any = await engine.client.start(agents.busy, str(tmp_path))
        name = "busy"
    else:
        handle = await engine.client.start(agents.dies, "stop", str(tmp_path))
        name = "attempts"
    async with serving(engine) as worker:
        await until(lambda: lines(tmp_path, name))
        (pid,) = map(int, lines(tmp_path, name))
        await handle.cancel()
        await until(lambda: not alive(pid))
        after = await engine.client.start(agents.grandchild, 4)
        assert await after.result() == 8
        await until(lambda: worker.active == 0)


async def test_a_worker_that_fails_waits_for_none_of_its_processes(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LINGER_S", 3600.0)
    await engine.client.start(agents.busy, str(tmp_path))
    assert not await engine.work(*agents.ALL, through=lambda store: _dies_when_busy(store, tmp_path))
    (pid,) = map(int, lines(tmp_path, "busy"))
    await until(lambda: not alive(pid))


def _dies_when_busy(store: Any, folder: Path) -> CrashingStore:
    crashing = CrashingStore(store, None)

    async def die() -> None:
        await until(lambda: lines(folder, "busy"))
        crashing.dead = True

    crashing.dying = asyncio.get_running_loop().create_task(die())  # type: ignore[attr-defined] # kept alive
    return crashing


@pytest.mark.parametrize("stays", [False, True])
async def test_nothing_in_the_process_group_of_a_run_outlives_its_attempt(
    engine: Engine, tmp_path: Path, stays: bool
) -> None:
    handle = await engine.client.start(agents.breeds, str(tmp_path), stays)
    async with serving(engine):
        await until(lambda: len(lines(tmp_path, "bred")) == 3)
        bred = [int(line) for line in lines(tmp_path, "bred")]
        if stays:
            await handle.cancel()
        else:
            assert await handle.result() == "left them"
        await until(lambda: not any(map(alive, bred)))


async def test_a_thread_that_outlives_its_timeout_dies_with_its_process_and_the_step_is_tried_again(
    engine: Engine, tmp_path: Path
) -> None:
    handle = await engine.client.start(agents.stuck, str(tmp_path))
    async with serving(engine) as worker:
        second = await handle.result()
        first, other = map(int, lines(tmp_path, "hung"))
        assert second == other
        assert not alive(first)
        await until(lambda: worker.active == 0)


async def test_a_flood_of_words_is_taken_in_and_the_run_ends(engine: Engine) -> None:
    handle = await engine.client.start(agents.floods, 20_000, id="r")
    async with serving(engine):
        assert await handle.result() == 20_000


async def test_an_error_in_a_process_shows_the_frames_of_its_code_alone(engine: Engine) -> None:
    handle = await engine.client.start(agents.fails, id="r")
    async with serving(engine):
        with pytest.raises(RunFailed, match="as any code may") as failed:
            await handle.result()
    frames = failed.value.failure.frames
    assert "agents.py" in frames
    assert "src/holdfast" not in frames


async def test_a_drain_ends_a_process_at_a_safe_point_and_another_one_goes_on(
    engine: Engine, tmp_path: Path
) -> None:
    handle = await engine.client.start(agents.counts, str(tmp_path), 30, 0.05, id="r")
    async with serving(engine):
        await until(lambda: len(lines(tmp_path, "executed")) >= 5)
    run = await engine.store.get_run("r")
    assert (run.state, run.reason) == (RunState.QUEUED, Reason.DRAINED)
    async with serving(engine):
        assert await handle.result() == 30
    assert lines(tmp_path, "executed") == [str(n) for n in range(30)]


async def test_a_pause_reaches_a_process_at_its_next_step(engine: Engine, tmp_path: Path) -> None:
    handle = await engine.client.start(agents.counts, str(tmp_path), 30, 0.05, id="r")
    async with serving(engine):
        await until(lambda: len(lines(tmp_path, "executed")) >= 5)
        await handle.pause()
        await reaches(engine, "r", Reason.PAUSED)
        await handle.resume()
        assert await handle.result() == 30
    assert lines(tmp_path, "executed") == [str(n) for n in range(30)]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_killed_leaves_no_process_and_the_next_one_goes_on(
    tmp_path: Path, signum: int
) -> None:
    scene = Scene(tmp_path)
    for n in range(CHILDREN):
        (tmp_path / str(n)).mkdir()
        scene.start(agents.counts, str(tmp_path / str(n)), 20, 0.1, id=f"r{n}")
    command = [sys.executable, "-m", "tests.isolation.serve", scene.url]
    worker = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: all(len(lines(tmp_path / str(n), "executed")) >= 3 for n in range(CHILDREN)), 60)
    processes = psutil.Process(worker.pid).children(recursive=True)
    assert len(processes) >= CHILDREN
    errors = stop(worker, signum)
    assert "Traceback" not in errors
    wait_until(lambda: not any(alive(process.pid) for process in processes), 5)
    done = subprocess.run([*command, "until_idle"], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    for n in range(CHILDREN):
        assert scene.run(f"r{n}").state is RunState.SUCCEEDED
        executed = [int(line) for line in lines(tmp_path / str(n), "executed")]
        assert set(executed) == set(range(20))
        assert len(executed) <= 21  # at most the step in flight is repeated


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kill_at", [1, 2, 5, 9])
def test_a_worker_that_is_killed_at_a_commit_of_a_process_repeats_at_most_the_step_in_flight(
    tmp_path: Path, kill_at: int, after: bool
) -> None:
    scene = Scene(tmp_path)
    scene.start_tally(12)
    first = harness.serve(scene.url, isolation="process", kill_at=kill_at, after=after, lease=2)
    assert harness.ended(first) == -signal.SIGKILL
    second = harness.serve(scene.url, isolation="process", until_idle=True)
    assert harness.ended(second) == 0
    scene.check_tally(12, kills=1)


def test_an_agent_that_no_process_can_import_is_refused_when_its_worker_begins(engine: Engine) -> None:
    @agent(isolation="process")
    async def inside(ctx: Context) -> None: ...

    with pytest.raises(UsageError, match="top level of a file"):
        Worker(engine.store, [inside])


def test_an_isolation_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="'task', 'process'"):
        agent(isolation="thread")(agents.whereabouts.fn)  # type: ignore[arg-type]


UNGUARDED = """
import holdfast

@holdfast.agent(isolation="process")
async def hello(ctx: holdfast.Context, name: str) -> str:
    return f"hello {name}"

%s
"""


@pytest.mark.parametrize("guarded", [True, False])
def test_a_script_runs_its_own_agent_in_a_process_when_its_start_is_guarded(
    tmp_path: Path, guarded: bool
) -> None:
    start = 'print(holdfast.run(hello, "you", id="r"))'
    if guarded:
        start = f'if __name__ == "__main__":\n    {start}'
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED % start)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    if guarded:
        assert done.stdout == "hello you\n"
        assert done.returncode == 0
    else:
        assert done.returncode != 0
        assert "if __name__ == '__main__':" in done.stderr


def test_the_shell_runs_an_agent_in_a_process(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED % "")
    command = [sys.executable, "-m", "holdfast", "run", "script.py:hello", "--input", '{"name": "you"}']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == "hello you"
