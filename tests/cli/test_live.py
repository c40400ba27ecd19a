"""What people see of a run that moves, drawn on a terminal and as plain lines."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from msgspec import structs
from msgspec.structs import replace
from rich.console import Console

from holdfast.cli.lines import event_line, log_line
from holdfast.cli.live import Picture
from holdfast.cli.terminal import TerminalShow
from holdfast.model import Event, Reason, Run, RunState
from tests.cli.shell import Shell

AT_US = 1_767_323_045_000_000
RUN = Run(
    key=1, id="r1", agent="a", version="0", queue="default", priority=0, state=RunState.RUNNING, reason=None,
    created_at_us=AT_US, started_at_us=AT_US,
)  # fmt: skip


def event(kind: str, n: int = 1, after_s: float = 0.0, **told: object) -> Event:
    return Event(
        run="r1", n=n, at_us=AT_US + round(after_s * 1e6), type=kind, payload=msgspec.json.encode(told)
    )


def drawn(picture: Picture, after_s: float) -> str:
    show = TerminalShow(picture, lambda: AT_US + round(after_s * 1e6), stderr=False)
    console = Console(file=io.StringIO(), width=100)
    console.print(show._draw())
    text: Any = console.file
    return text.getvalue()


def test_the_picture_shows_state_bar_step_eta_and_the_last_log_lines() -> None:
    picture = Picture(RUN)
    picture.apply(event("progress", current=1, total=10, description="first"))
    picture.apply(event("progress", after_s=20, current=4, total=10, description="fourth"))
    picture.apply(event("step.started", after_s=20, name="fetch"))
    for n in range(8):
        picture.apply(event("log", level="info", logger="app", message=f"line {n}"))
    text = drawn(picture, 25)
    assert "r1" in text and "running" in text and "25s" in text
    assert "4/10 40%" in text and "left" in text and "fourth" in text
    assert "fetch 5.0s" in text
    assert "line 7" in text and "line 3" in text and "line 2" not in text


def test_a_total_that_is_unknown_or_zero_is_drawn() -> None:
    picture = Picture(RUN)
    picture.apply(event("progress", current=7, total=None, phase="collect"))
    assert "7" in drawn(picture, 1) and "collect" in drawn(picture, 1) and "%" not in drawn(picture, 1)
    picture.apply(event("progress", current=0, total=0))
    assert "0/0 100%" in drawn(picture, 1)


def test_a_glance_corrects_the_picture() -> None:
    picture = Picture(RUN)
    picture.glance(
        structs.replace(RUN, state=RunState.WAITING, reason=Reason.SLEEP, steps=12, step=None), AT_US
    )
    assert "waiting (sleep)" in drawn(picture, 1) and "12 recorded" in drawn(picture, 1)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (event("run.running", attempt=2, reason=None), "03:04:05  run.running      attempt 2"),
        (
            event("run.waiting", reason="signal", signal="go"),
            "03:04:05  run.waiting      (signal) waits for 'go'",
        ),
        (
            event("step.retried", name="get", key="k", error={"type": "OSError", "message": "gone"}),
            "03:04:05  step.retried     get[k]: OSError: gone",
        ),
        (event("checkpoint.saved", n=3, name="half"), "03:04:05  checkpoint.saved 1 'half'"),
        (event("progress", current=1, total=2.5, description="x"), "03:04:05  progress         1/2.50  x"),
        (event("warning", code="c", message="look out"), "03:04:05  warning          look out"),
        (event("log", level="info", logger="root", message="hi"), "03:04:05  log              INFO     hi"),
        (event("run.succeeded"), "03:04:05  run.succeeded"),
        (event("new.kind", a=1, b=None), "03:04:05  new.kind         a=1"),
    ],
)
def test_an_event_is_one_plain_line(told: Event, line: str) -> None:
    if told.type == "checkpoint.saved":
        told = replace(told, payload=b'{"n": 1, "name": "half"}')
    assert event_line(told) == line


def test_a_log_line_names_level_and_logger() -> None:
    assert log_line(event("log", level="warning", logger="app", message="careful")) == (
        "03:04:05  WARNING  app: careful"
    )


def on_a_terminal(shell: Shell, *arguments: str, **environ: str) -> tuple[int, str]:
    """Run with stderr and stdout on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", *arguments],
        cwd=shell.folder,
        env=shell.environ | {"TERM": "xterm-256color", "COLUMNS": "100"} | environ,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        seen += part
    os.close(ours)
    return process.wait(timeout=30), seen.decode(errors="replace")


def test_a_terminal_gets_a_live_display_and_colour_unless_no_color_is_set(shell: Shell) -> None:
    given = json.dumps({"path": "notes", "total": 8, "pause_s": 0.1})
    code, seen = on_a_terminal(shell, "run", "agents.py:count", "--input", given, "--id", "c1")
    assert code == 0, seen
    assert "\x1b[" in seen and "8/8" not in seen.split("✓")[1]
    assert "✓" in seen and "succeeded" in seen and "c1" in seen
    assert "\x1b[32m" in seen
    code, plain = on_a_terminal(shell, "ls", NO_COLOR="1")
    assert code == 0 and "c1" in plain
    assert "\x1b[32m" not in plain


def test_watch_on_a_terminal_ends_with_the_run(shell: Shell) -> None:
    shell("run", "agents.py:hello", "--id", "h1")
    code, seen = on_a_terminal(shell, "watch", "h1")
    assert code == 0
    assert "run.succeeded" in seen


def test_ctrl_c_ends_watch_and_not_the_run(shell: Shell) -> None:
    shell("start", "agents.py:hello", "--id", "h1")
    watching = shell.begin("watch", "h1")
    assert watching.stdout is not None
    assert "run.queued" in watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=20)
    assert watching.returncode == 130, err
    assert "Traceback" not in err
    assert shell("show", "h1", "--json").json["state"] == "queued"
