"""The shell when things go wrong around it: code that does not listen, stores and folders that cannot be used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.shell import Shell, finish

STUBBORN = '''
from __future__ import annotations
import asyncio
import holdfast
from holdfast import Context

@holdfast.agent
async def stubborn(ctx: Context, path: str) -> str:
    """Swallows every attempt to end it, the first time."""
    import os
    first = not os.path.exists(path)
    open(path, "a").close()
    while first:
        try:
            await asyncio.sleep(0.1)
        except BaseException:
            pass
    return "listened"

@holdfast.agent
async def edited(ctx: Context) -> list[object]:
    return [await ctx.step(ONE, 1), await ctx.wait_for("go")]

def one(n: int) -> str:
    return f"one {n}"

def renamed(n: int) -> str:
    return f"renamed {n}"
'''


def agents(shell: Shell, step: str = "one") -> None:
    (shell.folder / "more.py").write_text(STUBBORN.replace("ONE", step))


def test_a_held_run_shows_both_sides_and_a_retry_leads_out(shell: Shell) -> None:
    agents(shell)
    shell("run", "more.py:edited", "--id", "e1", code=4)
    shell("signal", "e1", "go", "--data", "5")
    agents(shell, "renamed")
    held = shell("run", "more.py:edited", "--id", "e1", code=4)
    for said in (
        "'renamed'",
        "'one'",
        "--accept 1",
        "--insert",
        "--rerun 1",
        "--drop 1",
        "--from-checkpoint",
    ):
        assert said in held.err, said
    assert shell("show", "e1", "--json").json["reason"] == "mismatch"
    shell("retry", "e1", "--accept", "7", code=6)
    shell("retry", "e1", "--accept", "1", "--insert", code=2)
    shell("retry", "e1", "--accept", "1")
    assert shell("run", "more.py:edited", "--id", "e1").json == ["one 1", 5]


def test_a_second_signal_ends_a_worker_whose_code_does_not_listen_and_counts_nothing(shell: Shell) -> None:
    agents(shell)
    given = json.dumps({"path": str(shell.folder / "seen")})
    shell("start", "more.py:stubborn", "--input", given, "--id", "s1")
    worker = shell.begin("worker", "more.py")
    shell.until("s1", lambda run: run["state"] == "running")
    while not (shell.folder / "seen").exists():
        time.sleep(0.02)
    worker.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    ended = finish(worker, signal.SIGTERM)
    assert ended.code == 143, ended.err
    assert "does not listen" in ended.err
    shown = shell("show", "s1", "--json").json
    assert (shown["state"], shown["failures"]) == ("queued", 0)
    shell("worker", "more.py", "--until-idle")
    assert shell("show", "s1", "--json").json["result"] == "listened"


def test_a_run_whose_cancelled_code_does_not_listen_leaves_by_itself(shell: Shell) -> None:
    """The process is replaced by a fresh one, which finds the run cancelled and says so."""
    agents(shell)
    given = json.dumps({"path": str(shell.folder / "seen")})
    running = shell.begin("run", "more.py:stubborn", "--input", given, "--id", "s1")
    shell.until("s1", lambda run: run["state"] == "running")
    while not (shell.folder / "seen").exists():
        time.sleep(0.02)
    shell("cancel", "s1")
    ended = finish(running, within_s=40)
    assert ended.code == 3, ended.err
    assert "does not listen" in ended.err


def test_a_store_that_is_no_store_is_named(shell: Shell) -> None:
    (shell.folder / "text.db").write_text("this is not a database, and long enough to be looked at" * 50)
    for command in (("ls",), ("start", "agents.py:hello"), ("run", "agents.py:hello")):
        ended = shell(*command, "--store", "text.db", code=7)
        assert "text.db" in ended.err
        assert ended.out == ""


def test_a_folder_nobody_may_write_is_named(shell: Shell) -> None:
    if os.geteuid() == 0:  # root may write everywhere but here
        folder = Path("/proc/none")
    else:
        folder = shell.folder / "locked"
        folder.mkdir(mode=0o500)
    ended = shell("start", "agents.py:hello", "--store", str(folder / "runs.db"), code=7)
    assert str(folder) in ended.err


def test_doctor_finds_a_damaged_file(shell: Shell) -> None:
    for n in range(3):
        shell("start", "agents.py:hello", "--id", f"h{n}")
    file = shell.folder / ".holdfast" / "store.db"
    whole = bytearray(file.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 40_000] = b"\xff" * 40_000
    file.write_bytes(whole)
    ended = shell("doctor", "--json", code=7)
    found = {one["check"]: one for one in ended.json}
    assert "fail" in {found.get(check, {}).get("verdict") for check in ("integrity", "opens")}


def test_a_worker_says_when_it_is_ready_as_json(shell: Shell) -> None:
    ready = shell("worker", "agents.py", "--until-idle", "--json", "--name", "w1").json_lines[0]
    assert (ready["type"], ready["worker"]) == ("ready", "w1")
    assert {"agent": "hello", "version": "0"} in ready["serves"]


def test_a_worker_logs_what_it_does_and_names_the_run_of_each_line(shell: Shell) -> None:
    shell("start", "agents.py:hello", "--id", "h1")
    ended = shell("worker", "agents.py", "--until-idle")
    assert "run h1: attempt 1 begins" in ended.err
    assert "[h1] greeter: greeting world" in ended.err
    assert "run h1: succeeded" in ended.err


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("top <&-", 2, "this is none: --once prints a table"),
        ("top --once >&-", 0, ""),
        ("delete r <&-", 0, ""),
        ("gc --older-than 0s <&-", 6, "say --yes, or look with --dry-run"),
    ],
)
def test_a_closed_stream_is_no_error(shell: Shell, line: str, code: int, said: str) -> None:
    shell("run", "--id", "r", "--", "true")
    ended = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m holdfast {line}"], cwd=shell.folder, env=shell.environ,
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert "Traceback" not in ended.stderr and "a bug of" not in ended.stderr
    assert said in ended.stderr
    assert ended.returncode == code
