"""Two versions of one agent side by side: real workers, drained and killed, on both databases."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.shell import Shell, finish
from tests.postgres.server import Databases
from tests.processes.harness import wait_until

LEDGER = """
import asyncio
from dataclasses import dataclass
from pathlib import Path

import holdfast

VERSION = {version!r}


@dataclass
class Done:
    entries: int = 0


def enter(path: str, number: int) -> int:
    with open(path, "a") as file:
        file.write(f"{{number}} {{VERSION}}\\n")
    return number


async def pause() -> None:
    await asyncio.sleep(0.0 if Path("hurry").exists() else 0.05)


@holdfast.agent(version=VERSION, continues={continues!r})
async def ledger(ctx: holdfast.Context, path: str, total: int) -> str:
    done = ctx.restore(Done)
    while done.entries < total:
        await ctx.step(enter, path, done.entries)
        await ctx.step(pause)
        done.entries += 1
        await ctx.checkpoint(done)
    return VERSION
"""
TOTAL = 400


@pytest.fixture(params=["sqlite", "postgres"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    for name, version, continues in (("old", "1", []), ("new", "2", ["1"]), ("newest", "3", ["2"])):
        (tmp_path / f"{name}.py").write_text(LEDGER.format(version=version, continues=continues))
    if request.param == "sqlite":
        yield shell
        return
    databases: Databases = request.getfixturevalue("databases")
    url = databases.fresh()
    shell.environ["HOLDFAST_STORE"] = url
    yield shell
    databases.drop(url)


def entries(shell: Shell) -> list[list[str]]:
    book = shell.folder / "book"
    return [line.split() for line in book.read_text().splitlines()] if book.exists() else []


def serving(shell: Shell, file: str) -> subprocess.Popen[str]:
    process = shell.begin("worker", file, "--name", file)
    wait_until(lambda: shell("workers").out.count(file))
    return process


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_stays_with_its_version_while_a_worker_has_it_and_is_continued_then(
    shell: Shell, how: signal.Signals
) -> None:
    arguments = f'{{"path": "book", "total": {TOTAL}}}'
    shell("start", "old.py:ledger", "--id", "long", "--input", arguments)
    old = shell.begin("worker", "old.py", "--name", "old.py")
    new = None
    try:
        wait_until(lambda: len(entries(shell)) > 3)
        new = serving(shell, "new.py")
        seen = len(entries(shell))
        wait_until(lambda: len(entries(shell)) > seen + 20)
        assert {version for _, version in entries(shell)} == {"1"}
        assert finish(old, how).code == (143 if how is signal.SIGTERM else -signal.SIGKILL)
        wait_until(lambda: entries(shell)[-1][1] == "2", 45)
        shell.hurry()
        ended = shell.until("long", lambda run: run["state"] == "succeeded")
    finally:
        for process in (old, new):
            if process is not None and process.poll() is None:
                finish(process, signal.SIGKILL)
    assert (ended["version"], ended["result"], ended["attempts"], ended["failures"]) == ("2", "2", 2, 0)
    numbers = [int(number) for number, _ in entries(shell)]
    repeats = len(numbers) - len(set(numbers))
    assert set(numbers) == set(range(TOTAL))
    assert repeats <= (0 if how is signal.SIGTERM else 1), "what is recorded is not done again"


def test_a_version_that_nobody_continues_waits_for_its_code(shell: Shell) -> None:
    shell("start", "old.py:ledger", "--id", "left", "--input", '{"path": "book", "total": 1}')
    newest = shell.begin("worker", "newest.py")
    try:
        waiting = shell.until("left", lambda run: run["state"] == "waiting")
        assert waiting["reason"] == "needs_code"
        said = shell("show", "left").out
        assert "no worker has version '1' of agent 'ledger'" in said
        assert "continues=['1']" in said
    finally:
        finish(newest, signal.SIGKILL)


def test_a_run_in_the_shell_itself_is_continued_by_newer_code(shell: Shell) -> None:
    shell("start", "old.py:ledger", "--id", "mine", "--input", '{"path": "book", "total": 2}')
    refused = shell("run", "newest.py:ledger", "--id", "mine", code=None)
    assert refused.code != 0
    assert "@agent(version='3', continues=['1']) goes on with it by this code" in refused.err
    assert shell("run", "new.py:ledger", "--id", "mine").out.strip() == '"2"'
