"""`holdfast.run`: the one blocking call of a script, and what it refuses."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast import Context, FatalError, RunCancelled, RunFailed, agent, open_store
from holdfast.client import Client
from holdfast.errors import Conflict, Refused, UsageError

SCRIPT = """
import holdfast
from agents import count
print(holdfast.run(count, "notes", 400, 0.05, id="c1"))
"""

calls: list[int] = []


def double(n: int) -> int:
    calls.append(n)
    return n * 2


@agent
async def doubled(ctx: Context, n: int) -> int:
    return await ctx.step(double, n)


@agent
async def hopeless(ctx: Context) -> None:
    raise FatalError("no hope")


@agent
async def waiting(ctx: Context) -> object:
    return await ctx.wait_for("go")


@agent(name="doubled", version="2")
async def doubled_again(ctx: Context, n: int) -> int:
    return n


@pytest.fixture
def store(tmp_path: Path) -> str:
    calls.clear()
    return str(tmp_path / "runs.db")


def test_run_returns_the_result_and_the_same_id_again_repeats_nothing(store: str) -> None:
    assert holdfast.run(doubled, 4, id="d", store=store) == 8
    assert holdfast.run(doubled, 4, id="d", store=store) == 8
    assert calls == [4]
    with pytest.raises(Conflict):
        holdfast.run(doubled, 5, id="d", store=store)


def test_run_without_an_id_is_a_new_run_each_time_once_the_last_one_is_done(store: str) -> None:
    assert holdfast.run(doubled, 4, store=store) == 8
    assert holdfast.run(doubled, 4, store=store) == 8
    assert calls == [4, 4]


def test_run_raises_the_failure_and_the_cancellation(store: str) -> None:
    with pytest.raises(RunFailed, match="no hope"):
        holdfast.run(hopeless, id="h", store=store)
    with pytest.raises(Refused, match="waits for the signal 'go'"):
        holdfast.run(waiting, id="w", store=store)
    with pytest.raises(Refused, match=r"unfinished run .* w "):
        holdfast.run(waiting, store=store)

    async def cancel() -> None:
        async with open_store(f"sqlite:///{store}") as opened:
            await (await Client(opened).get("w")).cancel()

    asyncio.run(cancel())
    with pytest.raises(RunCancelled):
        holdfast.run(waiting, id="w", store=store)


@agent(queue="slow")
async def slow(ctx: Context) -> str:
    return "slow"


@agent
async def calling(ctx: Context) -> str:
    return await ctx.call(slow, id="child")


@pytest.mark.parametrize("limited", ["slow", "*"])
def test_run_does_not_wait_for_a_child_that_no_worker_may_begin(store: str, limited: str) -> None:
    async def limit(most: int | None) -> None:
        async with open_store(f"sqlite:///{store}") as opened:
            await opened.limit_queue(limited, most)

    asyncio.run(limit(0))
    with pytest.raises(Refused) as refused:
        holdfast.run(calling, id="r", store=store)
    assert "its child child, which is queued: the queue" in str(refused.value)
    assert (
        f"is limited to 0: `holdfast queue {limited if limited == 'slow' else repr(limited)} --unlimited`"
        in str(refused.value)
    )
    assert holdfast.run(slow, id="alone", store=store) == "slow"  # what is executed here keeps to no limit
    asyncio.run(limit(1))
    assert holdfast.run(calling, id="r", store=store) == "slow"


def test_run_refuses_a_run_of_another_version(store: str) -> None:
    async def start() -> None:
        async with open_store(f"sqlite:///{store}") as opened:
            await Client(opened).start(doubled, 4, id="d")

    asyncio.run(start())
    with pytest.raises(Refused, match="version '0'"):
        holdfast.run(doubled_again, 4, id="d", store=store)
    assert holdfast.run(doubled, 4, id="d", store=store) == 8


async def test_run_inside_a_running_loop_says_what_to_do_instead(store: str) -> None:
    with pytest.raises(UsageError, match="async with Worker"):
        holdfast.run(doubled, 4, store=store)


def test_a_script_killed_at_any_moment_goes_on_when_it_is_started_again(tmp_path: Path) -> None:
    from tests.cli.shell import Shell

    shell = Shell(tmp_path)
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py"]
    for wanted, number in ((5, signal.SIGKILL), (15, signal.SIGINT)):
        process = subprocess.Popen(
            command, cwd=tmp_path, env=shell.environ, stderr=subprocess.PIPE, text=True
        )
        executes = process.pid  # the one before may have come that far already

        def far_enough(run: Any, wanted: int = wanted, executes: int = executes) -> bool:
            return run["steps"] > wanted and run["worker"] is not None and run["worker"]["pid"] == executes

        shell.until("c1", far_enough)
        os.kill(process.pid, number)
        _, err = process.communicate(timeout=30)
        assert process.returncode != 0, err
    assert shell("show", "c1", "--json").json["reason"] == "parked"
    shell.hurry()
    done = subprocess.run(
        command, cwd=tmp_path, env=shell.environ, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "400\n"
    notes = [int(line) for line in (tmp_path / "notes").read_text().split()]
    assert sorted(set(notes)) == list(range(400))
    assert len(notes) <= 401  # one kill, one step in flight
