"""Any program as a durable run: logs, progress, codes, retries, and nothing of it that stays behind."""

from __future__ import annotations

import asyncio
import re
import resource
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from holdfast import RunFailed, Worker
from holdfast.client import RunHandle
from holdfast.client.view import event_payload
from holdfast.commands import program
from holdfast.commands.agent import Exited, command
from holdfast.model import FailureKind
from holdfast.process.launch import Launcher
from tests.cli.shell import Shell, finish
from tests.faults import Engine
from tests.isolation.test_isolation import alive, until
from tests.processes.harness import lines, wait_until


async def start(engine: Engine, script: str, **options: Any) -> RunHandle[Exited]:
    """A run of a line of shell, in the folder of the test."""
    order = {"cwd": str(engine.folder), "env": None, "progress": None, "timeout_s": None, "retries": 0}
    order |= options
    run_id = order.pop("id", "r")
    codes = order.pop("ok_codes", None)
    return await engine.client.start(command, ["sh", "-c", script], *order.values(), codes, id=run_id)


async def logs(engine: Engine, run_id: str = "r") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"stdout": [], "stderr": []}
    for event in await engine.store.read_events(run_id, 0, 1000):
        if event.type == "log":
            told = event_payload(event)
            found[str(told["logger"])] += str(told["message"]).splitlines()
    return found


async def test_the_lines_of_a_program_are_logs_of_its_run(engine: Engine) -> None:
    handle = await start(
        engine, r"echo one; echo two; printf 'a\377b\n1%%\r2%%\n'; echo three >&2; printf end"
    )
    async with Worker(engine.store, [command]):
        assert await handle.result() == Exited(0)
    assert await logs(engine) == {"stdout": ["one", "two", "a\ufffdb", "2%", "end"], "stderr": ["three"]}


async def test_lines_are_logged_while_the_program_runs(engine: Engine) -> None:
    handle = await start(engine, "echo early; sleep 100")
    async with Worker(engine.store, [command]):
        async with asyncio.timeout(20):
            while (await logs(engine))["stdout"] != ["early"]:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.05)
        await handle.cancel()


async def test_progress_is_read_from_what_a_program_writes(engine: Engine) -> None:
    script = "for n in 1 2 3; do printf '%d/3\\r' $n; sleep 0.2; done"
    handle = await start(engine, script, progress=r"(?P<current>\d+)/(?P<total>\d+)")
    async with Worker(engine.store, [command]):
        await handle.result()
    progress = (await handle.status()).progress
    assert progress is not None
    assert (progress.current, progress.total) == (3, 3)


async def test_a_program_that_fails_says_its_code_and_its_last_words(engine: Engine) -> None:
    handle = await start(engine, "echo begins >&2; echo 'no such table' >&2; exit 3")
    async with Worker(engine.store, [command]):
        with pytest.raises(RunFailed) as failed:
            await handle.result()
    assert failed.value.failure.message == (
        "sh exited with code 3: no such table\nits stderr before that:\nbegins"
    )


async def test_a_program_that_is_killed_says_by_which_signal(engine: Engine) -> None:
    handle = await start(engine, "kill -SEGV $$")
    async with Worker(engine.store, [command]):
        with pytest.raises(RunFailed, match="sh was killed by SIGSEGV"):
            await handle.result()


async def test_codes_that_count_as_success_are_the_result(engine: Engine) -> None:
    handle = await start(engine, "exit 3", ok_codes=[0, 3])
    async with Worker(engine.store, [command]):
        assert await handle.result() == Exited(3)


async def test_a_program_is_tried_again_as_often_as_asked(engine: Engine) -> None:
    handle = await start(engine, "echo x >> tries; test $(wc -l < tries) = 3", retries=2)
    async with Worker(engine.store, [command]):
        assert await handle.result() == Exited(0)
    assert lines(engine.folder, "tries") == ["x", "x", "x"]


async def test_a_program_is_told_its_workspace_and_stays_in_its_folder(engine: Engine) -> None:
    handle = await start(engine, 'pwd -P > here; touch "$HOLDFAST_WORKSPACE/there"')
    async with Worker(engine.store, [command]):
        await handle.result()
    folder = (await handle.status()).workspace
    assert folder is not None
    assert [one.name for one in Path(folder).iterdir()] == ["there"]
    assert lines(engine.folder, "here") == [str(engine.folder.resolve())]


async def test_a_program_in_its_workspace_finds_its_files_when_it_is_tried_again(engine: Engine) -> None:
    script = ["sh", "-c", "echo x >> tries; test $(wc -l < tries) = 2"]
    handle = await engine.client.start(command, script, None, None, None, None, 1, None, None, True, id="r")
    async with Worker(engine.store, [command]):
        assert await handle.result() == Exited(0)
    folder = (await handle.status()).workspace
    assert folder is not None
    assert lines(Path(folder), "tries") == ["x", "x"]


async def test_a_program_is_in_one_folder(engine: Engine) -> None:
    handle = await engine.client.start(command, ["true"], "/", None, None, None, 0, None, None, True, id="r")
    async with Worker(engine.store, [command]):
        with pytest.raises(RunFailed, match="cannot be in its workspace and in /"):
            await handle.result()


def test_the_shell_executes_a_program_in_its_workspace_names_it_and_removes_it(shell: Shell) -> None:
    script = 'pwd -P; test "$PWD" = "$HOLDFAST_WORKSPACE" && echo kept > file'
    ran = shell("run", "--workspace", "--id", "r", "--", "sh", "-c", script)
    folder = shell("show", "r", "--json").json["workspace"]
    assert ran.out.split() == [str(Path(folder).resolve())]
    assert lines(Path(folder), "file") == ["kept"]
    assert re.search(rf"workspace +{re.escape(folder)}", shell("show", "r").out)
    again = shell("run", "--workspace", "--cwd", ".", "--", "true", code=2)
    assert "a program is executed in one folder" in again.err
    shell("run", "--workspace", "--id", "gone", "--", "true")
    shell("delete", "gone", "--yes")
    assert len(list(Path(folder).parent.iterdir())) == 1
    assert shell("gc", "--older-than", "0", "--yes", "--json").json["workspaces"] == 1
    assert not Path(folder).exists()


def test_an_interrupted_program_goes_on_in_its_workspace(shell: Shell) -> None:
    script = "echo x >> tries; test $(wc -l < tries) = 2 || { echo begun; sleep 100; }"
    first = shell.begin("run", "--workspace", "--id", "r", "--", "sh", "-c", script)
    assert first.stdout is not None
    assert first.stdout.readline() == "begun\n"
    first.send_signal(signal.SIGINT)
    told = finish(first)
    assert "--workspace --id r" in told.err
    shell("run", "--workspace", "--id", "r", "--", "sh", "-c", script)


async def test_a_program_that_cannot_be_started_is_not_tried_again(engine: Engine) -> None:
    handle = await engine.client.start(command, ["no-such-program"], None, None, None, None, 5, id="r")
    async with Worker(engine.store, [command]):
        with pytest.raises(RunFailed, match="cannot be started"):
            await handle.result()
    assert (await engine.store.get_run("r")).attempts == 1


async def test_a_program_that_takes_too_long_is_asked_to_end_and_then_killed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "GRACE_S", 0.5)
    script = "trap 'echo asked >> told' TERM; echo $$ >> pids; while :; do sleep 0.05; done"
    handle = await start(engine, script, timeout_s=0.5)
    async with Worker(engine.store, [command]):
        with pytest.raises(RunFailed) as failed:
            await handle.result()
    assert failed.value.failure.kind is FailureKind.TIMED_OUT
    assert lines(engine.folder, "told")[0] == "asked"
    assert not alive(int(lines(engine.folder, "pids")[0]))


STAYING = """
sleep 1000 & echo $! >> pids
sh -c "trap '' TERM HUP; echo \\$\\$ >> pids; while :; do sleep 0.1; done" &
python3 -c "
import os, time
os.setpgid(0, 0)
open('pids', 'a').write(f'{os.getpid()}\\n')
time.sleep(1000)" &
echo $$ >> pids
while [ $(wc -l < pids) -lt 4 ]; do sleep 0.02; done
"""
"""Leaves three: one that ends when asked, one that does not listen, one in a group of its own."""


@pytest.mark.parametrize("how", ["ends", "cancelled"])
async def test_nothing_in_the_session_of_a_program_outlives_its_attempt(
    engine: Engine, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "GRACE_S", 0.5)
    monkeypatch.setattr(program, "LINGER_S", 0.2)
    handle = await start(engine, STAYING + ("" if how == "ends" else "sleep 1000"))
    async with Worker(engine.store, [command]) as worker:
        await until(lambda: len(lines(engine.folder, "pids")) == 4)
        pids = [int(line) for line in lines(engine.folder, "pids")]
        if how == "ends":
            assert await handle.result() == Exited(0)
        else:
            await handle.cancel()
            await until(lambda: worker.active == 0)
        assert not [pid for pid in pids if alive(pid)]


def test_a_worker_that_is_killed_takes_its_programs_along(shell: Shell) -> None:
    shell("start", "--id", "r", "--", "sh", "-c", STAYING + "echo $HOLDFAST_SOCKET > socket; sleep 1000")
    worker = shell.begin("worker", "--commands")
    wait_until(lambda: lines(shell.folder, "socket"))
    pids = [int(line) for line in lines(shell.folder, "pids")]
    assert all(map(alive, pids))
    socket = Path(lines(shell.folder, "socket")[0])
    assert socket.is_socket() and socket.parent.stat().st_mode & 0o777 == 0o700
    finish(worker, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, pids)), 5)
    wait_until(lambda: not socket.parent.exists(), 5)


async def test_a_program_that_writes_without_end_needs_no_more_memory(engine: Engine) -> None:
    handle = await start(engine, "yes 0123456789012345678901234567890123456789 | head -c 30000000")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with Worker(engine.store, [command]):
        assert await handle.result() == Exited(0)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 20_000  # KiB
    said = (await logs(engine))["stdout"]
    assert any(re.fullmatch(r"… \d+ lines left out: too many at once for a log", line) for line in said)
    assert not any("dropped" in line for line in said)


# --- the shell --------------------------------------------------------------------------------------------------


def test_run_shows_what_a_program_writes_where_it_writes_it(shell: Shell) -> None:
    ended = shell("run", "--id", "r", "--", "sh", "-c", r"printf '1%%\r2%%\n'; echo talk >&2")
    assert ended.out == "1%\n2%\n"  # universal newlines: \r is one, too
    assert "talk" in ended.err and "✓ r succeeded" in ended.err
    assert "2%" in shell("logs", "r").out
    again = shell("run", "--id", "r", "--", "sh", "-c", r"printf '1%%\r2%%\n'; echo talk >&2")
    assert again.out == ""


def test_run_of_a_program_as_json_has_a_document_on_stdout(shell: Shell) -> None:
    ended = shell("run", "--json", "--id", "r", "--", "echo", "hello")
    assert ended.json["result"] == {"code": 0}
    assert "hello" in ended.err


def test_run_of_a_program_that_fails_leaves_with_1(shell: Shell) -> None:
    ended = shell("run", "--id", "r", "--", "sh", "-c", "exit 9", code=1)
    assert "sh exited with code 9" in ended.err
    shell("run", "--ok-codes", "0,9", "--id", "s", "--", "sh", "-c", "exit 9")


def test_a_reader_that_fails_is_no_end_of_the_program(shell: Shell) -> None:
    told = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m holdfast run --id f -- sh -c 'echo a; sleep 0.3; echo b' > /dev/full"],
        cwd=shell.folder, env=shell.environ, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert shell("show", "f", "--json").json["state"] == "succeeded", told.stderr


@pytest.mark.parametrize("how", ["program", "process"])
def test_whoever_inherits_that_children_are_not_heard_of_hears_of_them(shell: Shell, how: str) -> None:
    (shell.folder / "alone.py").write_text(ALONE)
    what = "-- echo hi" if how == "program" else "alone.py:hello"
    told = subprocess.run(
        ["sh", "-c", f"trap '' CHLD; exec {sys.executable} -m holdfast run --id c {what}"],
        cwd=shell.folder, env=shell.environ, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr


ALONE = """
import holdfast

@holdfast.agent(isolation="process")
async def hello(ctx: holdfast.Context) -> str:
    return "hello"
"""


async def test_a_flood_ends_with_its_last_line(engine: Engine) -> None:
    handle = await start(engine, "seq 1 60000; echo THE LAST LINE")
    await engine.work(command)
    await handle.result()
    assert (await logs(engine))["stdout"][-1] == "THE LAST LINE"


async def test_a_program_that_cannot_be_looked_after_is_not_left_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("wait for"):
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    before = {child.pid for child in psutil.Process().children()}
    launcher = Launcher()
    with pytest.raises(RuntimeError, match="new thread"):
        launcher.launch(["sleep", "1000"])
    await launcher.close()
    assert {child.pid for child in psutil.Process().children()} <= before


def test_ctrl_c_parks_a_program_and_the_printed_command_goes_on_with_its_run(shell: Shell) -> None:
    script = "echo $$ >> pids; while test -e wait; do sleep 0.1; done; echo ended"
    (shell.folder / "wait").touch()
    begun = shell.begin("run", "--env", "A=b c", "--", "sh", "-c", script)
    wait_until(lambda: lines(shell.folder, "pids"))
    ended = finish(begun, signal.SIGINT)
    assert ended.code == 130
    assert not alive(int(lines(shell.folder, "pids")[0]))
    (run,) = shell("ls", "--json").json
    assert (run["state"], run["reason"]) == ("waiting", "parked")
    (shell.folder / "wait").unlink()
    on = shlex.split(next(line for line in ended.err.splitlines() if line.startswith("  holdfast run ")))
    assert shell(*on[1:]).out == "ended\n"
    assert len(shell("ls", "--json").json) == 1


def test_a_second_ctrl_c_kills_a_program_that_does_not_end(shell: Shell) -> None:
    script = "trap 'echo asked >> told' TERM; echo $$ >> pids; while :; do sleep 0.1; done"
    begun = shell.begin("run", "--id", "r", "--", "sh", "-c", script)
    wait_until(lambda: lines(shell.folder, "pids"))
    begun.send_signal(signal.SIGINT)
    wait_until(lambda: lines(shell.folder, "told"))
    assert finish(begun, signal.SIGINT, within_s=4).code == 130
    pid = int(lines(shell.folder, "pids")[0])
    wait_until(lambda: not alive(pid), 5)


def test_only_a_worker_that_is_told_to_executes_programs_of_the_store(shell: Shell) -> None:
    shell("start", "--id", "r", "--", "touch", "made")
    shell("worker", "agents.py", "--until-idle")
    assert not (shell.folder / "made").exists()
    assert shell("show", "r", "--json").json["state"] != "succeeded"
    assert "--commands" in shell("worker", code=2).err
    shell("worker", "--commands", "--until-idle")
    assert (shell.folder / "made").exists()


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["run"], "name an agent, FILE.py:NAME, or a program after `--`"),
        (["run", "--"], "after `--` stands a program"),
        (["run", "agents.py:hello", "--", "ls"], "name an agent or a program"),
        (["run", "--retry", "2", "agents.py:hello"], "--retry is for a program"),
        (["run", "--input", "{}", "--", "ls"], "--input is for an agent"),
        (["run", "--", "no-such-program"], "no program 'no-such-program' on the PATH"),
        (["run", "--progress", "(", "--", "ls"], "no regular expression"),
        (["run", "--ok-codes", "x", "--", "ls"], "no list of exit codes"),
        (["run", "--cwd", "nowhere", "--", "ls"], "there is no folder"),
        (["run", "--env", "A", "--", "ls"], "write NAME=VALUE"),
        (["start", "--"], "after `--` stands a program"),
    ],
)
def test_what_cannot_be_meant_is_told(shell: Shell, typed: list[str], told: str) -> None:
    assert told in shell(*typed, code=2).err
    assert shell("ls", "--json", code=None).out in ("", "[]\n")


def test_a_file_that_imports_the_agent_serves_it(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text("from holdfast import command\n")
    shell("start", "--id", "r", "--", "touch", "made")
    shell("worker", "mine.py", "--until-idle")
    assert (shell.folder / "made").exists()


def test_step_and_progress_are_completed_in_a_shell(shell: Shell) -> None:
    told = shell(_HOLDFAST_COMPLETE="bash_complete", COMP_WORDS="holdfast st", COMP_CWORD="1").out
    assert {"plain,start", "plain,step", "plain,state", "plain,steps"} <= set(told.split())
    told = shell(_HOLDFAST_COMPLETE="bash_complete", COMP_WORDS="holdfast step --", COMP_CWORD="2").out
    assert {"plain,--retry", "plain,--timeout"} <= set(told.split())
