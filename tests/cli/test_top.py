"""`top` on a real terminal, beside a real worker: every key, every way to end, and what programs get."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import Shell
from tests.cli.terminal import BACK, OURS, Terminal

AGENTS = """
import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import holdfast
from holdfast import Budget, Context


@dataclass
class Place:
    at: int = 0


async def rest(length_s: float) -> None:
    await asyncio.sleep(length_s)


@holdfast.agent(isolation="process", budget=Budget(usd=5))
async def climber(ctx: Context) -> int:
    s = ctx.restore(Place)
    Path(f"climber-{os.getpid()}").touch()
    if not s.at:
        s.at = 1
        await ctx.checkpoint(s, name="base")
    ctx.progress(1, 4, "climbing")
    while True:
        await ctx.step(rest, 0.2)


@holdfast.agent
async def beside(ctx: Context) -> None:
    while True:
        await ctx.step(rest, 0.2)


@holdfast.agent
async def patient(ctx: Context) -> object:
    return await ctx.wait_for("go")
"""

Open = Callable[..., Terminal]


@pytest.fixture
def busy(shell: Shell) -> Iterator[Shell]:
    """A store with a run of each kind, and a worker on it."""
    (shell.folder / "busy.py").write_text(AGENTS)
    for agent, run_id in (("climber", "c1"), ("beside", "b1"), ("patient", "p1")):
        shell("start", f"busy.py:{agent}", "--id", run_id)
    worker = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "worker", "busy.py", "--drain-timeout", "0"],
        cwd=shell.folder,
        env=shell.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        shell.until("c1", lambda one: one["checkpoint"])
        shell.until("p1", lambda one: one["state"] == "waiting")
        yield shell
    finally:
        worker.terminate()
        worker.wait(20)


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens terminals, and closes them."""
    terminals: list[Terminal] = []

    def on(shell: Shell, *arguments: str, size: tuple[int, int] = (150, 24), **environ: str) -> Terminal:
        command = [sys.executable, "-m", "holdfast", *arguments]
        terminals.append(Terminal(command, shell.folder, shell.environ | environ, size))
        return terminals[-1]

    yield on
    for one in terminals:
        one.close()


def on_top(shell: Shell, opened: Open, *arguments: str, **options: Any) -> Terminal:
    terminal = opened(shell, "top", "--interval", "0.3", *arguments, **options)
    terminal.until(lambda text: "this machine" in text)
    return terminal


def select(terminal: Terminal, run_id: str) -> None:
    """Only this run is left to be meant."""
    terminal.press("\x1b")
    time.sleep(0.2)  # an escape is one when nothing follows
    terminal.press(f"/{run_id}\r")
    terminal.until(lambda text: terminal.line(run_id) and f"/{run_id}" in text and "Enter keeps" not in text)


def climbers(shell: Shell) -> set[str]:
    return {path.name for path in shell.folder.glob("climber-*")}


def given_back(terminal: Terminal) -> bool:
    return not terminal.ours and terminal.settings == terminal.before


# --- keys against real runs --------------------------------------------------------------------------------------


def test_what_goes_on_is_shown_with_its_figures_and_signs(busy: Shell, opened: Open) -> None:
    terminal = on_top(busy, opened)
    terminal.until(lambda _: "25 %" in terminal.line("c1") and "MB" in terminal.line("c1"))
    line = terminal.line("c1")
    for said in ("climber", "running", "working", "$0.0000/$5.00"):
        assert said in line, line
    assert "~" in terminal.line("b1") and "~" not in line
    assert "waiting (signal)" in terminal.line("p1")
    assert "2 running  1 waiting  0 queued" in terminal.frame


def test_a_run_is_paused_and_goes_on_by_a_key(busy: Shell, opened: Open) -> None:
    terminal = on_top(busy, opened)
    select(terminal, "b1")
    terminal.press("p")
    terminal.until(lambda _: "waiting (paused)" in terminal.line("b1"))
    terminal.press("p")
    terminal.until(lambda text: "running" in terminal.line("b1"))
    select(terminal, "p1")
    terminal.press("p")
    terminal.until(lambda text: "waiting (paused)" in terminal.line("p1") and "p1: paused" in terminal.text)


def test_runs_are_throttled_and_let_go_by_a_key(busy: Shell, opened: Open) -> None:
    terminal = on_top(busy, opened)
    for run_id in ("c1", "b1"):
        select(terminal, run_id)
        terminal.press("t")
        terminal.until(lambda _, run_id=run_id: "(throttled)" in terminal.line(run_id))
        assert busy("show", run_id, "--json").json["throttled"]
        assert f"holdfast throttle {run_id} --off" in busy("show", run_id).out
        terminal.press("t")
        terminal.until(lambda _, run_id=run_id: "(throttled)" not in terminal.line(run_id))
        assert not busy("show", run_id, "--json").json["throttled"]


def test_a_run_is_killed_by_a_key_only_when_that_was_meant(busy: Shell, opened: Open) -> None:
    terminal = on_top(busy, opened)
    before = climbers(busy)
    select(terminal, "c1")
    terminal.press("x")
    terminal.until(lambda text: "c1: kill its processes: it goes on from its checkpoint?  y / n" in text)
    terminal.press("n")
    terminal.until(lambda text: "nothing was done" in text)
    terminal.press("x")
    terminal.until(lambda text: "y / n" in text)
    terminal.press("y")
    shown = busy.until("c1", lambda one: one["attempts"] == 2 and one["state"] == "running")
    assert (shown["failures"], shown["error"]) == (0, None)
    busy.until("c1", lambda _: climbers(busy) > before)
    assert len(busy("checkpoints", "c1", "--json").json) == 1  # it went on from there
    select(terminal, "b1")
    terminal.press("xy")
    terminal.until(lambda text: "run b1 cannot be killed alone" in text)
    assert busy("show", "b1", "--json").json["attempts"] == 1


def test_a_run_is_cancelled_by_a_key_and_stays_to_be_seen(busy: Shell, opened: Open) -> None:
    terminal = on_top(busy, opened)
    select(terminal, "p1")
    terminal.press("c")
    terminal.until(lambda text: "p1: cancel it: nothing more of it is recorded?" in text)
    terminal.press("y")
    terminal.until(lambda _: "cancelled" in terminal.line("p1"))
    assert busy("show", "p1", "--json").json["state"] == "cancelled"


def test_the_board_is_sorted_moved_through_filtered_and_explained(busy: Shell, opened: Open) -> None:
    terminal = on_top(busy, opened, "--sort", "newest")
    rows = [line[:2] for line in terminal.frame.splitlines()[3:6]]
    assert rows == ["p1", "b1", "c1"]
    for key in ("j", "\x1b[B", "k", "\x1bOA", "G", "g"):
        terminal.press(key)
    terminal.press("s")
    terminal.until(lambda text: "sorted by cpu" in text)
    terminal.press("?")
    terminal.until(lambda text: "any key goes back" in text and "no crash is counted" in text)
    terminal.press("q")
    terminal.until(lambda text: "q quit" in text)
    terminal.press("/pat")
    terminal.until(lambda text: "/pat" in text and terminal.line("p1") and not terminal.line("c1"))
    terminal.press("\x7f\x7f\x7fzz")
    terminal.until(lambda text: "no run fits the filter" in text)
    terminal.press("\x1b")
    terminal.until(lambda _: terminal.line("c1") and terminal.line("b1"))


# --- every way to end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda one: one.press("q"), 0),
        (lambda one: one.press("\x03"), 130),
        (lambda one: os.kill(one.pid, signal.SIGINT), 130),
        (lambda one: os.kill(one.pid, signal.SIGTERM), 143),
        (lambda one: os.kill(one.pid, signal.SIGHUP), 143),
    ],
    ids=["q", "ctrl-c", "SIGINT", "SIGTERM", "SIGHUP"],
)
def test_the_terminal_is_given_back_however_it_ends(
    shell: Shell, opened: Open, end: Callable[[Terminal], object], code: int
) -> None:
    shell("start", "agents.py:hello", "--id", "h1")
    terminal = on_top(shell, opened)
    assert terminal.ours and terminal.settings != terminal.before
    end(terminal)
    assert terminal.ended() == code
    assert given_back(terminal)
    assert terminal.output.count(OURS) == terminal.output.count(BACK) == 1


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(shell: Shell) -> None:
    shell("start", "agents.py:hello", "--id", "h1")
    terminal = Terminal(["/bin/sh", "-i"], shell.folder, shell.environ)  # who stops is somebody's job
    try:
        terminal.press(f"{sys.executable} -m holdfast top --interval 0.3\n")
        terminal.until(lambda text: "this machine" in text)
        for times in (1, 2):
            assert terminal.settings != terminal.before
            terminal.press("\x1a")
            terminal.until(
                lambda _, times=times: not terminal.ours and terminal.text.count("Stopped") == times
            )
            assert given_back(terminal)
            shell("start", "agents.py:hello", "--id", f"new{times}")  # it holds no lock meanwhile
            terminal.press("fg\n")
            terminal.until(lambda _, times=times: terminal.ours and terminal.line(f"new{times}"))
        terminal.press("q")
        terminal.until(lambda _: not terminal.ours)
        terminal.press("echo left with $?; exit\n")
        assert terminal.ended() == 0
        assert "left with 0" in terminal.text
    finally:
        terminal.close()


def test_the_terminal_is_given_back_when_the_code_fails(shell: Shell, opened: Open, tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text(
        "import asyncio\n"
        "from rich.console import Console\n"
        "from holdfast.cli.screen import Screen\n"
        "async def main():\n"
        "    with Screen(Console()) as screen:\n"
        "        screen.draw('here')\n"
        "        raise RuntimeError('broken')\n"
        "asyncio.run(main())\n"
    )
    terminal = Terminal([sys.executable, str(script)], shell.folder, shell.environ)
    try:
        assert terminal.ended() == 1
        assert "broken" in terminal.text and given_back(terminal) and OURS in terminal.output
    finally:
        terminal.close()


def test_it_follows_the_size_of_its_terminal(shell: Shell, opened: Open) -> None:
    shell("start", "agents.py:hello", "--id", "h1")
    terminal = on_top(shell, opened, size=(150, 24))
    assert "AGENT" in terminal.frame
    terminal.resize((30, 6))
    os.kill(terminal.pid, signal.SIGWINCH)
    terminal.until(lambda text: "AGENT" not in text and len(text.splitlines()) == 6)
    assert all(len(line) <= 30 for line in terminal.frame.splitlines())


def test_a_store_that_goes_away_is_said_on_the_board(shell: Shell, opened: Open) -> None:
    shell("start", "agents.py:hello", "--id", "h1")
    terminal = on_top(shell, opened)
    (shell.folder / ".holdfast" / "store.db").rename(shell.folder / "elsewhere.db")
    terminal.press("c")
    terminal.press("y")
    terminal.until(lambda text: "store.db" in text.splitlines()[-1] or terminal.line("h1"))
    terminal.press("q")
    assert terminal.ended() == 0 and given_back(terminal)


# --- without a terminal -------------------------------------------------------------------------------------------


def test_without_a_terminal_it_says_what_to_do(shell: Shell) -> None:
    shell("start", "agents.py:hello", "--id", "h1")
    assert "--once prints a table, --json snapshots" in shell("top", code=2).err
    assert "at least 0.2 s" in shell("top", "--once", "--interval", "0.1", code=2).err
    assert shell("top", "--once", "--store", "nowhere.db", code=7).err.startswith("error: ")


def test_once_is_one_plain_table(shell: Shell) -> None:
    shell("start", "agents.py:hello", "--id", "h1", "--queue", "slow", "--tag", "a=b")
    shell("start", "agents.py:patient", "--id", "p1")
    out = shell("top", "--once").out
    assert "\x1b" not in out and "0 running  0 waiting  2 queued" in out and "this machine" in out
    assert [line.split()[:3] for line in out.splitlines()[3:]] == [
        ["p1", "patient", "queued"],
        ["h1", "hello", "queued"],
    ]
    for chosen in (("--agent", "hello"), ("--queue", "slow"), ("--tag", "a=b"), ("--search", "h1")):
        assert "p1" not in shell("top", "--once", *chosen).out, chosen
    assert "h1" not in shell("top", "--once", "--state", "running").out
    empty = shell("top", "--once", "--agent", "nobody")
    assert "no run goes on here" in empty.err


def test_json_is_a_document_once_and_a_line_each_interval(shell: Shell) -> None:
    shell("start", "agents.py:hello", "--id", "h1")
    once = shell("top", "--once", "--json").json
    assert list(once) == ["at", "totals", "host", "runs", "more"]
    assert [one["id"] for one in once["runs"]] == ["h1"]
    assert once["totals"]["queued"] == 1 and once["host"]["cores"] == os.cpu_count() and not once["more"]
    process = shell.begin("top", "--json", "--interval", "0.2")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert all('"runs": [{"id": "h1"' in line for line in lines)


# --- the same by commands -----------------------------------------------------------------------------------------


def test_runs_are_throttled_and_killed_by_commands(busy: Shell) -> None:
    for _ in range(2):
        assert busy("throttle", "c1").out == "c1: running: it is held back, because a person asked for it\n"
    assert "way on" in busy("show", "c1").out
    assert busy("throttle", "c1", "--off", "--json").json["throttled"] is False
    assert busy("throttle", "p1", "--json").json["throttled"] is True  # when it goes on
    before = climbers(busy)
    said = busy("kill", "c1").out
    assert said.endswith("its processes are killed; it goes on from its checkpoint\n")
    busy.until("c1", lambda one: one["attempts"] == 2 and climbers(busy) > before)
    for refused, why in (("b1", "cannot be killed alone"), ("p1", "no attempt of it runs")):
        assert why in busy("kill", refused, code=6).err
    busy("cancel", "p1")
    for command in ("throttle", "kill"):
        assert "p1 is cancelled" in busy(command, "p1", code=6).err
    assert "say --yes" in busy("kill", "--agent", "climber", code=6).err
    assert "no run 'nobody'" in busy("throttle", "nobody", code=5).err


def test_show_draws_what_a_run_used_and_json_has_all_of_it(busy: Shell, opened: Open) -> None:
    busy.until("c1", lambda one: one["resources"] and not one["resources"]["shared"])
    busy("kill", "c1")
    history = busy.until("c1", lambda one: one["history"])["history"]
    assert set(history[0]) == {
        "at", "span_s", "cpu_percent", "memory_mb", "processes", "read_mb", "written_mb", "workspace_mb",
        "disk_free_mb", "loop_lag_s",
    }  # fmt: skip
    assert all(0.5 < one["span_s"] < 5 and one["memory_mb"] > 5 for one in history)
    wide = busy("show", "c1").out
    assert "used, until " in wide and "█" in wide and "peak" in wide and "\x1b" not in wide
    for size in ((80, 50), (60, 50)):
        terminal = opened(busy, "show", "c1", size=size)
        assert terminal.ended() == 0
        drawn = [line for line in terminal.text.splitlines() if line.startswith("  memory")]
        assert len(drawn) == 1 and "█" in drawn[0] and "MB" in drawn[0] and len(drawn[0].rstrip()) <= size[0]
        assert "\x1b[36m" in terminal.output
    plain = opened(busy, "show", "c1", NO_COLOR="1")
    assert plain.ended() == 0 and "\x1b[36m" not in plain.output and "█" in plain.output
    assert "used, until" not in busy("show", "b1").out
    assert busy("show", "b1", "--json").json["history"] == []
