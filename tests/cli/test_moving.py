"""`holdfast export` and `holdfast import`, as people call them."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import time

import pytest

from tests.cli.shell import Shell, finish
from tests.cli.terminal import Terminal

pytestmark = pytest.mark.timeout(180)  # up to ten processes each, one after another


def test_a_run_is_carried_to_another_store_and_goes_on_there(shell: Shell) -> None:
    shell("run", "agents.py:patient", "--id", "p", code=4)
    shell("run", "agents.py:hello", "--id", "h")
    told = shell("export", "--all", "runs.jsonl")
    assert told.out == ""
    assert "runs.jsonl: 2 runs, " in told.err
    assert "1 run of these will go on, and stay paused here" in told.err
    assert "waiting (paused)" in shell("ls").out
    assert (
        "runs.jsonl is whole: 2 runs, 1 of them unfinished; nothing was done"
        in shell("import", "runs.jsonl", "--dry-run").err
    )
    told = shell("import", "runs.jsonl", "--store", "new.db", "--resume")
    assert "imported: 2 of 2 runs" in told.err
    assert "resumed: 1 run" in told.err
    shell("signal", "p", "go", "--data", "7", "--store", "new.db")
    shell("worker", "agents.py", "--until-idle", "--store", "new.db")
    assert shell("show", "p", "--store", "new.db", "--json").json["result"] == 7
    again = shell("import", "runs.jsonl", "--store", "new.db")
    assert "imported: 0 of 2 runs (2 already here)" in again.err


def test_a_person_can_read_the_file_and_nobody_else(shell: Shell) -> None:
    shell("run", "agents.py:hello", "--id", "h", "--input", '{"name": "kelp"}')
    shell("export", "h", "runs.jsonl")
    file = shell.folder / "runs.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [lines[0]["holdfast_export"], lines[1]["input"], lines[1]["result"]] == [
        1,
        {"name": "kelp"},
        "hello kelp",
    ]
    assert {"event", "entry", "progress", "end", "footer"} <= {line["part"] for line in lines}


def test_runs_pass_through_a_pipe(shell: Shell) -> None:
    shell("run", "agents.py:hello", "--id", "h")
    text = shell("export", "h", "-").out
    told = shell("import", "-", "--store", "new.db", "--json", stdin=text)
    assert told.json == {"imported": ["h"], "here": [], "refused": [], "resumed": [], "unfinished": []}
    assert shell("import", "-", "--store", "new.db", "--dry-run", "--json", stdin=text).json["runs"] == 1


def test_another_run_of_the_id_is_refused_by_name_and_the_code_says_so(shell: Shell) -> None:
    for name in ("a", "b"):
        shell("run", "agents.py:hello", "--id", name)
    shell("export", "--all", "runs.jsonl", "--json")
    shell("run", "agents.py:hello", "--id", "a", "--store", "new.db")
    told = shell("import", "runs.jsonl", "--store", "new.db", code=6)
    assert told.out.startswith("a: not imported: run a is here already, and is not what the file says")
    assert "imported: 1 of 2 runs (1 refused)" in told.err


def test_what_cannot_be_is_one_clear_line(shell: Shell) -> None:
    shell("run", "agents.py:hello", "--id", "h")
    assert "name the runs and the file" in shell("export", "runs.jsonl", code=2).err
    assert "or say --all" in shell("export", "h", "runs.jsonl", "--all", code=2).err
    assert "no run 'nobody'" in shell("export", "nobody", "runs.jsonl", code=5).err
    assert "among the JSON" in shell("export", "h", "-", "--json", code=2).err
    assert "nowhere/x: No such file" in shell("export", "h", "nowhere/x", code=2).err
    assert "gone.jsonl: No such file" in shell("import", "gone.jsonl", code=2).err
    (shell.folder / "runs.jsonl").write_text("{}\n")
    assert (
        "runs.jsonl, line 1: this is no file of `holdfast export`"
        in shell("import", "runs.jsonl", code=2).err
    )


def test_a_run_that_comes_to_no_safe_point_in_time_leaves_no_file(shell: Shell) -> None:
    shell("start", "agents.py:count", "--id", "c", "--input", '{"path": "x", "total": 1, "pause_s": 30}')
    worker = shell.begin("worker", "agents.py")
    try:
        shell.until("c", lambda run: run["state"] == "running" and (shell.folder / "x").exists())
        (shell.folder / "runs.jsonl").write_text("what was there")
        told = shell("export", "c", "runs.jsonl", "--timeout", "0.5s", code=6)
        assert "waiting until 1 run can be paused: c" in told.err
        assert "run c reached no safe point in 0.5 s" in told.err
        assert (shell.folder / "runs.jsonl").read_text() == "what was there"
        assert [path.name for path in shell.folder.glob(".runs*")] == []
    finally:
        finish(worker, signal.SIGKILL)


def test_a_run_that_is_not_whole_is_shown_as_such_and_can_be_given_up(shell: Shell) -> None:
    shell("run", "agents.py:hello", "--id", "h")
    shell("export", "h", "runs.jsonl")
    half = """
import asyncio, sys
from holdfast import open_store
from holdfast.moving.lines import Reader
async def main():
    with open("runs.jsonl", "rb") as file:
        run = next(iter(Reader(file, "f").parts()))
    async with open_store("new.db") as store:
        await store.begin_import(run)
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", half], cwd=shell.folder, env=shell.environ, check=True)
    assert "queued (importing)" in shell("ls", "--store", "new.db").out
    shown = shell("show", "h", "--store", "new.db").out
    assert "it is being imported, and is not whole yet" in shown
    assert "holdfast import FILE" in shown
    refused = shell("cancel", "h", "--store", "new.db", code=6).err
    assert "holdfast delete h gives it up" in refused
    assert (
        "it is being imported"
        in shell("run", "agents.py:hello", "--id", "h", "--store", "new.db", code=6).err
    )
    shell("delete", "h", "--store", "new.db")
    assert "imported: 1 of 1 run" in shell("import", "runs.jsonl", "--store", "new.db").err


def test_a_terminal_shows_how_far_it_is(shell: Shell) -> None:
    shell("run", "agents.py:hello", "--id", "h")
    command = [sys.executable, "-m", "holdfast", "export", "--all", "runs.jsonl"]
    terminal = Terminal(command, shell.folder, shell.environ)
    ends_s = time.monotonic() + 20
    while "runs.jsonl: 1 run" not in terminal.output and time.monotonic() < ends_s:
        terminal.read()
    assert "export" in terminal.output
    assert "runs.jsonl: 1 run" in terminal.output
    terminal.close()
