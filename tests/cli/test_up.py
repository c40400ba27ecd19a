"""`up`: a store is kept going where no worker is."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from holdfast.cli.options import RetentionType
from tests.cli.shell import Shell, finish


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_schedules_fire_and_deadlines_end_runs_where_no_worker_is(
    shell: Shell, number: signal.Signals, code: int
) -> None:
    shell("schedule", "add", "often", "agents.py:hello", "--every", "1s")
    (shell.folder / "late.py").write_text(
        "import holdfast\n\n\n@holdfast.agent(deadline='1s')\nasync def late(ctx: holdfast.Context) -> None: ...\n"
    )
    shell("start", "late.py:late", "--id", "late")
    up = shell.begin("up", "--json")
    try:
        assert up.stdout is not None
        ready = json.loads(up.stdout.readline())
        assert ready["type"] == "ready" and ready["pid"] == up.pid
        assert shell.until("late", lambda run: run["state"] == "failed")["error"]["type"] == "DeadlinePassed"
        while not (queued := shell("ls", "--agent", "hello", "--json").json):
            pass
        assert queued[0]["state"] == "queued"
        assert shell("workers", "--json").json == []
    finally:
        ended = finish(up, number)
    assert ended.code == code, ended.err


def test_what_ended_longer_ago_than_the_retention_is_deleted(shell: Shell) -> None:
    shell("run", "agents.py:hello", "--id", "old")
    up = shell.begin("up", "--retention", "0s")
    ends_at = time.monotonic() + 30
    while shell("show", "old", code=None).code == 0 and time.monotonic() < ends_at:
        pass
    finish(up, signal.SIGTERM)
    assert "no run 'old'" in shell("show", "old", code=5).err


def test_never_is_a_retention() -> None:
    kind = RetentionType()
    assert [kind.convert(text, None, None) for text in ("never", "7d", "90s")] == [None, 7 * 86_400, 90]


def test_a_retention_that_is_no_duration_says_what_one_is(shell: Shell) -> None:
    refused = shell("up", "--retention", "soon", code=2)
    assert "'soon' is not a duration" in refused.err and "or never" in refused.err
    assert "--retention" in shell("worker", "agents.py", "--retention", "ever", code=2).err
