"""Programs are bounded, and buried with all that they started: on each ground, whatever tricks they know."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from holdfast import Limits, Program, RunFailed, Worker
from holdfast.client.view import event_payload
from holdfast.commands import program
from holdfast.commands.agent import Exited, command
from holdfast.errors import Refused
from holdfast.model import Mechanism, Reason, RunState, Strength
from holdfast.process import launch
from holdfast.process.launch import Launcher
from holdfast.throttle import Ground
from tests.cli.shell import Shell, finish
from tests.commands.test_programs import logs, start
from tests.faults import Engine
from tests.isolation.test_foreign import speaking
from tests.isolation.test_isolation import alive, reaches, until
from tests.isolation.test_limits import held
from tests.processes.harness import lines, wait_until
from tests.throttle.trees import ESCAPED, escape_artists, with_word, word

GROUNDS = ["here", "none"]


@pytest.fixture(params=GROUNDS)
def ground(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What this machine has, and what one without control groups would have."""
    if request.param == "none":
        monkeypatch.setattr("holdfast.throttle.groups.find", Ground)
    return str(request.param)


async def begun(engine: Engine, argv: list[str], limits: dict[str, Any] | None = None) -> Any:
    return await engine.client.start(
        command, argv, str(engine.folder), None, None, None, 0, None, limits, id="r"
    )


async def warnings(engine: Engine) -> list[str]:
    events = await engine.store.read_events("r", 0, 1000)
    return [str(event_payload(event)["message"]) for event in events if event.type == "warning"]


TAKES = "import sys, time; b = bytearray(b'x') * int(sys.argv[1]); print('taken', flush=True); time.sleep(60)"


async def test_a_program_that_fills_its_workspace_is_ended_and_its_run_fails(engine: Engine) -> None:
    script = (
        'cd "$HOLDFAST_WORKSPACE"; for n in $(seq 400); do head -c 100000 /dev/zero > $n; sleep 0.02; done'
    )
    handle = await begun(engine, ["sh", "-c", script], {"disk": "3MB"})
    async with Worker(engine.store, [command]):
        with pytest.raises(RunFailed, match=r"workspace at .* past the limit of 3,000,000"):
            await handle.result()


# --- what people see and ask of them ----------------------------------------------------------------------------


async def test_a_program_is_measured_held_back_and_killed_alone(engine: Engine) -> None:
    handle = await begun(engine, ["sh", "-c", "echo $$ >> pids; while :; do :; done"])

    async def used(wanted: Callable[[float], bool]) -> None:
        async with asyncio.timeout(30):
            while True:
                resources = (await handle.status()).resources
                if resources is not None and not resources.shared and wanted(resources.cpu_percent):
                    return
                await asyncio.sleep(0.2)

    async with Worker(engine.store, [command]):
        await used(lambda percent: percent > 70)
        await handle.throttle()
        await used(lambda percent: percent < 60)
        await handle.throttle(off=True)
        await used(lambda percent: percent > 70)
        await handle.kill()
        await until(lambda: len(lines(engine.folder, "pids")) == 2)
        first, second = map(int, lines(engine.folder, "pids"))
        assert not alive(first)
        assert alive(second)
        await handle.cancel()
        await until(lambda: not alive(second))
    run = await engine.store.get_run("r")
    assert (run.attempts, run.crashes, run.failures) == (2, 0, 0)


async def test_a_program_that_has_ended_by_itself_when_it_is_killed_is_not_executed_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "LINGER_S", 20.0)
    handle = await begun(engine, ["sh", "-c", "sleep 100 & echo $! >> pids"])
    async with Worker(engine.store, [command]):
        await until(lambda: lines(engine.folder, "pids"))
        await asyncio.sleep(0.3)
        await handle.kill()
        assert await asyncio.wait_for(handle.result(), 10) == Exited(0)
        assert [alive(int(pid)) for pid in lines(engine.folder, "pids")] == [False]
    assert (await engine.store.get_run("r")).attempts == 1


# --- nobody gets away -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["ends", "cancelled"])
async def test_nobody_gets_away_from_a_program_by_whatever_trick(
    engine: Engine, how: str, ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "GRACE_S", 0.5)
    monkeypatch.setattr(program, "LINGER_S", 0.2)
    token = word()
    handle = await begun(engine, escape_artists(token, root_stays=how == "cancelled"))
    async with Worker(engine.store, [command]) as worker:
        if how == "ends":
            assert await handle.result() == Exited(0)
        else:
            await until(lambda: len(with_word(token)) >= ESCAPED)
            await handle.cancel()
            await until(lambda: worker.active == 0)
        assert with_word(token) == []


async def test_nobody_gets_away_who_kills_his_warden(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.throttle.groups.find", Ground)
    token = word()
    script = f"setsid sleep {token} & sleep 2; kill -9 $PPID; sleep {token}"  # by then he was seen
    handle = await begun(engine, ["sh", "-c", script])
    async with Worker(engine.store, [command]):
        with pytest.raises(RunFailed, match="was killed by SIGKILL"):
            await handle.result()
        assert with_word(token) == []


@pytest.mark.parametrize("how", ["ends", "cancelled"])
async def test_nobody_gets_away_from_a_program_that_speaks_the_protocol(
    engine: Engine, tmp_path: Path, how: str, ground: str
) -> None:
    token = word()
    last = '{"type":"commit","id":1,"position":0,"outcome":["Succeeded",{"result":"MQ=="}]}'
    line = escape_artists(token, root_stays=False)[2].removesuffix("sleep 0.5; exit 0")
    (tmp_path / "escape.sh").write_text(line)
    end = f"frame('{last}');" if how == "ends" else "sleep 1000;"
    text = f"system('sh', '{tmp_path}/escape.sh', '{token}'); select(undef, undef, undef, 0.5); {end}"
    leaves = speaking(tmp_path, text, "leaves")
    handle = await engine.client.start(leaves, id="r")
    async with Worker(engine.store, [leaves]) as worker:
        if how == "ends":
            assert await handle.result() == 1
        else:
            await until(lambda: len(with_word(token)) >= ESCAPED - 1)
            await handle.cancel()
            await until(lambda: worker.active == 0)
        assert with_word(token) == []


def escaping(shell: Shell, token: str) -> subprocess.Popen[str]:
    """A worker whose program has started everybody, and stays."""
    argv = escape_artists(token, root_stays=True)
    argv[2] = "echo $HOLDFAST_SOCKET > socket\n" + argv[2]
    shell("start", "--id", "r", "--", *argv)
    worker = shell.begin("worker", "--commands")
    wait_until(lambda: len(with_word(token)) >= ESCAPED)
    return worker


def test_nobody_outlives_a_killed_worker_by_more_than_a_moment(shell: Shell) -> None:
    token = word()
    worker = escaping(shell, token)
    folder = Path(lines(shell.folder, "socket")[0]).parent
    assert folder.exists()
    finish(worker, signal.SIGKILL)
    wait_until(lambda: not with_word(token), 5)
    wait_until(lambda: not folder.exists(), 5)


def test_what_a_worker_left_that_was_killed_with_its_guard_is_ended_by_the_next(shell: Shell) -> None:
    token = word()
    worker = escaping(shell, token)
    folder = Path(lines(shell.folder, "socket")[0]).parent
    guards = [one for one in psutil.Process(worker.pid).children() if "guard.py" in " ".join(one.cmdline())]
    assert guards
    for guard in guards:
        guard.kill()
    finish(worker, signal.SIGKILL)
    assert folder.exists()
    shell("cancel", "r")
    shell("worker", "--commands", "--until-idle")
    assert with_word(token) == []
    assert not folder.exists()


async def test_a_lost_lease_ends_a_program_at_once_and_unasked(engine: Engine) -> None:
    await start(engine, "trap 'echo asked >> told' TERM; echo $$ >> pids; while :; do sleep 0.05; done")
    async with Worker(engine.store, [command]) as worker:
        await until(lambda: lines(engine.folder, "pids"))
        (pid,) = map(int, lines(engine.folder, "pids"))
        began_s = time.monotonic()
        worker._lease_lost()
        await until(lambda: not alive(pid))
        assert time.monotonic() - began_s < program.GRACE_S - 1
        worker.stop_now()
    assert not lines(engine.folder, "told")


# --- its time ---------------------------------------------------------------------------------------------------


async def test_what_a_program_leaves_behind_is_no_reason_to_say_that_it_ran_out_of_its_time(
    engine: Engine,
) -> None:
    handle = await start(engine, "sleep 1000 & echo said", timeout_s=0.7)
    async with Worker(engine.store, [command]):
        assert await handle.result() == Exited(0)
    assert (await logs(engine))["stdout"] == ["said"]


async def test_what_a_program_leaves_behind_may_still_write_for_a_moment(engine: Engine, ground: str) -> None:
    handle = await start(engine, "(sleep 0.3; echo late) & echo early")
    async with Worker(engine.store, [command]):
        assert await handle.result() == Exited(0)
    assert (await logs(engine))["stdout"] == ["early", "late"]


def test_run_ends_though_nobody_reads_what_the_program_writes(shell: Shell) -> None:
    command = [sys.executable, "-m", "holdfast", "run", "--id", "r", "--", "sh", "-c", "touch begun; yes"]
    with subprocess.Popen(
        command, cwd=shell.folder, env=shell.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as running:
        wait_until(lambda: (shell.folder / "begun").exists())
        time.sleep(0.5)  # the pipe is full by now
        running.terminate()
        try:
            assert running.wait(15) == 143
        finally:
            running.kill()


async def test_the_environment_of_a_program_is_whole(engine: Engine) -> None:
    """A shell on the way would drop what is none of its variables."""
    environ = {"a.b": "c d", "PLAIN": "x"}
    handle = await engine.client.start(command, ["env"], None, environ, id="r")
    async with Worker(engine.store, [command]):
        await handle.result()
    assert {"a.b=c d", "PLAIN=x"} <= set((await logs(engine))["stdout"])


async def test_code_that_takes_all_threads_of_the_loop_leaves_no_program_unwatched(engine: Engine) -> None:
    over = threading.Event()
    waits = "touch begun; while [ ! -e go ]; do sleep 0.05; done"
    script = f'{waits}; head -c 900000 /dev/zero | tee "$0/1" > "$0/2"; sleep 60'
    handle = await begun(
        engine, ["sh", "-c", f"exec sh -c '{script}' \"$HOLDFAST_WORKSPACE\""], {"disk": "1MB"}
    )
    async with Worker(engine.store, [command]):
        await until((engine.folder / "begun").exists)
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        taken = loop.run_in_executor(None, over.wait)
        (engine.folder / "go").touch()
        try:
            with pytest.raises(RunFailed, match="past the limit"):
                await asyncio.wait_for(handle.result(), 20)
        finally:
            over.set()
            await taken


async def test_a_program_whose_end_nobody_saw_has_not_succeeded(engine: Engine) -> None:
    handle = await begun(engine, ["sh", "-c", "echo $$ > pid; exec sleep 60"])
    async with Worker(engine.store, [command]):
        await until(lambda: lines(engine.folder, "pid"))
        (pid,) = map(int, lines(engine.folder, "pid"))
        waiting = asyncio.get_running_loop().run_in_executor(None, os.waitpid, -1, 0)
        await asyncio.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RunFailed, match=r"was killed by SIGKILL|ended nobody knows how"):
            await handle.result()
        await waiting


# --- its limits -------------------------------------------------------------------------------------------------


async def test_a_program_at_its_memory_limit_fails_as_out_of_memory(engine: Engine) -> None:
    held("memory")
    line = f'{sys.executable} -c "{TAKES}" 200000000'  # whoever waits for it lives
    handle = await begun(engine, ["sh", "-c", f"{line}; exit $?"], {"memory": "60MB"})
    async with Worker(engine.store, [command]):
        with pytest.raises(RunFailed) as failed:
            await handle.result()
    assert failed.value.failure.type == "OutOfMemory"
    assert "sh was killed by the kernel: it was at its memory limit of 60,000,000" in str(failed.value)
    assert (await engine.store.get_run("r")).attempts == 1


async def test_where_memory_is_only_watched_a_program_is_ended_for_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.throttle.groups.find", Ground)
    monkeypatch.setattr(launch, "LOOK_S", 0.1)
    handle = await begun(engine, [sys.executable, "-c", TAKES, "70000000"], {"memory": "60MB"})
    async with Worker(engine.store, [command]):
        with pytest.raises(RunFailed, match=r"was ended, for memory at .* past the limit of 60,000,000"):
            await handle.result()


async def test_a_program_gets_the_cores_that_it_may_have(engine: Engine, ground: str) -> None:
    burns = "import time; b = time.monotonic()\nwhile time.monotonic() - b < 3: pass\nprint(time.process_time() / 3)"
    handle = await begun(engine, [sys.executable, "-c", burns], {"cpu": 0.3})
    async with Worker(engine.store, [command]):
        await handle.result()
    assert float((await logs(engine))["stdout"][0]) <= 0.34


async def test_a_program_that_forks_is_stopped_at_its_limit(engine: Engine) -> None:
    held("processes")
    forks = "import os, time\nn = 0\ntry:\n    while n < 50:\n        if not os.fork(): time.sleep(50); os._exit(0)\n"
    forks += "        n += 1\nexcept OSError: print(n)"
    handle = await begun(engine, [sys.executable, "-c", forks], {"processes": 10})
    async with Worker(engine.store, [command]):
        await handle.result()
    assert (await logs(engine))["stdout"] == ["9"]


async def test_a_program_near_its_limit_is_told_of_and_parked(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "LOOK_S", 0.05)
    monkeypatch.setattr("holdfast.rules.ladder.PATIENCE_US", 0)
    await begun(engine, [sys.executable, "-c", TAKES, "170000000"], {"memory": "190MB"})
    async with Worker(engine.store, [command]):
        await reaches(engine, "r", Reason.PARKED)
    assert (await engine.store.get_run("r")).state is RunState.WAITING
    said = await warnings(engine)
    assert any("memory at" in one and "past the threshold" in one for one in said)
    assert said[-1].endswith("it is asked to end, and waits for you then")


async def test_a_limit_that_nothing_acts_on_is_refused_with_the_reason(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Launcher.__init__

    def without(launcher: Launcher, *args: object) -> None:
        make(launcher, *args)  # type: ignore[arg-type]
        launcher.groups.abilities.limits["memory"] = Mechanism(Strength.REFUSED, "nothing", "it is a toaster")

    monkeypatch.setattr(Launcher, "__init__", without)
    handle = await begun(engine, ["true"], {"memory": "60MB"})
    async with Worker(engine.store, [command]):
        with pytest.raises(
            RunFailed, match=r"Limits\(memory=…\) cannot be held here: nothing it is a toaster"
        ):
            await handle.result()
    bounded = Program("bounded", ["perl", "x.pl"], limits=Limits(memory="60MB"))
    with pytest.raises(Refused, match="it is a toaster"):
        await Worker(engine.store, [bounded]).run()


async def test_a_limit_that_there_is_not_fails_the_run_with_what_was_meant(engine: Engine) -> None:
    handle = await begun(engine, ["true"], {"memmory": "60MB"})
    async with Worker(engine.store, [command]):
        with pytest.raises(RunFailed, match="no limit 'memmory': did you mean 'memory'"):
            await handle.result()


async def test_a_program_in_another_language_has_the_limits_of_its_agent(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held("memory")
    monkeypatch.setattr("holdfast.rules.transitions.CRASH_DELAY_US", 10_000)
    spoken = speaking(tmp_path, "my $all = 'x' x 200_000_000; sleep 100;", "hoards")
    hoards = Program("hoards", spoken.command, limits=Limits(memory="60MB"))
    await engine.client.start(hoards, id="r")
    async with Worker(engine.store, [hoards]):
        await reaches(engine, "r", Reason.POISON)
    run = await engine.store.get_run("r")
    assert run.failure is not None
    assert run.failure.type == "OutOfMemory"
    assert "at its memory limit of 60,000,000 bytes" in run.failure.message


async def test_a_program_in_another_language_is_told_how_near_its_limit_is(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "LOOK_S", 0.05)
    text = (
        "my $all = 'x' x 42_000_000; my $in = '';"
        f'while (sysread($wire, $in, 4096, length $in)) {{ if ($in =~ /"pressure","level":"(\\w+)"/)'
        f" {{ open(my $out, '>', '{tmp_path}/pressed'); print $out \"$1\\n\"; close $out; sleep 100; }} }}"
    )
    spoken = speaking(tmp_path, text, "feels")
    feels = Program("feels", spoken.command, limits=Limits(memory="100MB"))
    handle = await engine.client.start(feels, id="r")
    async with Worker(engine.store, [feels]):
        await until(lambda: lines(tmp_path, "pressed"))
        await handle.cancel()
    assert lines(tmp_path, "pressed")[0] in ("warning", "critical")
    assert any("memory at" in one for one in await warnings(engine)), (
        "it ignores what it is told, and is told of"
    )


# --- the shell --------------------------------------------------------------------------------------------------


def test_limits_of_a_queued_program_are_stored_with_it_and_held_by_any_worker(shell: Shell) -> None:
    held("processes")
    forks = "sleep 5 & sleep 5 & sleep 5 & echo forked"
    shell("start", "--id", "r", "--limit", "processes=2", "--", "sh", "-c", forks)
    assert '"processes": 2' in shell("show", "r").out
    shell("worker", "--commands", "--until-idle")
    assert "forked" not in shell("logs", "r").out
    assert "fork" in shell("logs", "r").out


def test_the_printed_command_has_the_limits_of_its_run(shell: Shell) -> None:
    told = shell("run", "--limit", "memory=200MB", "--limit", "cpu=0.5", "--id", "r", "--", "false", code=1)
    assert "--limit cpu=0.5 --limit memory=200000000 --id r -- false" in told.err
    again = shell("run", "--limit", "memory=200MB", "--limit", "cpu=0.5", "--id", "r", "--", "false", code=1)
    assert "another input" not in again.err


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--limit", "memmory=1", "--", "ls"], "no limit 'memmory': did you mean 'memory'?"),
        (["--limit", "cpu=x", "--", "ls"], "write a number of cores"),
        (["--limit", "memory", "--", "ls"], "write NAME=VALUE, as in memory=200MB"),
        (["--limit", "memory=1", "--", "ls"], "bytes at least"),
        (["--limit", "cpu=1", "--limit", "cpu=2", "--", "ls"], "--limit cpu is given twice"),
        (["--limit", "cpu=1", "agents.py:hello"], "--limit is for a program after `--`"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "start"])
def test_a_limit_that_cannot_be_meant_is_told(shell: Shell, verb: str, typed: list[str], told: str) -> None:
    assert told in shell(verb, *typed, code=2).err
    assert shell("ls", "--json", code=None).out in ("", "[]\n")
