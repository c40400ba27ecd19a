"""The stores of a demo: a file, or a PostgreSQL of its own that goes with it."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from rich.console import Console

from examples.stage import executions
from examples.stage.chaos import Kill, Killer
from examples.stage.screen import Screen
from examples.stage.shell import Shell
from examples.stage.stores import NoStore, moved, stored

AGENT = """
import holdfast

async def double(number: int) -> int:
    return 2 * number

@holdfast.agent
async def doubler(ctx: holdfast.Context, number: int) -> int:
    return await ctx.step(double, number)
"""


def screen() -> Screen:
    return Screen(Console(file=StringIO()))


def test_a_file_is_the_default(tmp_path: Path):
    for word in ("", "sqlite"):
        with stored(word, tmp_path, screen()) as address:
            assert address == str(tmp_path / "holdfast.db")


def test_an_unknown_store_is_named_with_those_that_there_are(tmp_path: Path):
    said = r"STORE=mysql is no store .*: sqlite, postgres, or postgresql://"
    with pytest.raises(NoStore, match=said), stored("mysql", tmp_path, screen()):
        pass


def test_a_given_database_gets_a_schema_of_its_own_for_each_demo(tmp_path: Path):
    given = "postgresql://me@db.example/agents"
    with (
        stored(given, tmp_path, screen()) as first,
        stored(given + "?sslmode=require", tmp_path, screen()) as second,
    ):
        assert first.startswith(given + "?schema=holdfast_demo_")
        assert second.startswith(given + "?sslmode=require&schema=holdfast_demo_")
        assert first.rpartition("=")[2] != second.rpartition("=")[2]


def test_a_server_of_its_own_is_durable_ends_with_the_demo_and_leaves_the_run_in_a_file(tmp_path: Path):
    (tmp_path / "doubler.py").write_text(AGENT)
    with stored("postgres", tmp_path, screen()) as address:
        with psycopg.connect(address) as database:
            assert database.execute("SHOW fsync").fetchone() == ("on",)
        shell = Shell(address, f"{tmp_path / 'doubler.py'}:doubler")
        shell.start("one", {"number": 21})
        assert shell.worker(tmp_path / "log").wait(60) == 0
        copy = moved(shell, "one", tmp_path, screen())
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(address, connect_timeout=2)
    assert (copy.show("one")["state"], copy.show("one")["result"]) == ("succeeded", 42)


def test_of_several_workers_the_one_at_work_is_killed(tmp_path: Path):
    log = tmp_path / "log"
    crew = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(2)]
    try:
        killer = Killer(log, [Kill(0, None, 0.0)])
        executions.note(log, "verify", "1")  # by this process: none of the workers
        assert killer.look(crew) is None
        log.write_text(log.read_text().replace(f'"pid": {_pid_of(log)}', f'"pid": {crew[1].pid}'))
        killed = killer.look(crew)
        assert killed is not None
        assert (killed.pid, [worker.poll() for worker in crew]) == (crew[1].pid, [None, -9])
    finally:
        for worker in crew:
            worker.kill()
            worker.wait()


def _pid_of(log: Path) -> int:
    return executions.read(log)[-1].pid
