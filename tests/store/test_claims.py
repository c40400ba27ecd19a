"""Claims find their runs by index, and a dead process by its lock."""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.model import NewRun
from holdfast.store.sql import statements
from holdfast.store.sqlite import SQLiteStore, schema
from holdfast.store.sqlite.connection import Connection
from holdfast.store.transactions import runs, workers
from tests.store.shapes import HOUR_US, SERVES, claimed, new_run, new_worker

STATEMENTS = statements("holdfast.store.sqlite")

HOLDER = """
import fcntl, os, sys
held = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


async def test_a_killed_process_is_found_dead_by_its_lock_and_its_lock_removed(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "runs.db", clock=SystemClock()) as store:
        folder = store.lock_folder
        assert folder is not None
        folder.mkdir()
        lock = folder / "one.lock"
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        first = await store.register_worker(new_worker(str(lock)), HOUR_US)
        second = await store.register_worker(new_worker(), HOUR_US)
        await store.create_run(new_run())
        assert len(await store.claim(first, SERVES, 1)) == 1
        assert await store.claim(second, SERVES, 1) == []
        holder.kill()
        holder.communicate()
        (taken,) = await store.claim(second, SERVES, 1)
        assert (taken.run.worker, taken.run.token, taken.run.crashes) == (second, 2, 1)
        await store.sweep(10)
        assert [each.key for each in await store.list_workers()] == [second]
        assert not lock.exists()


def test_asking_a_lock_never_takes_it_and_never_makes_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert workers.lock_is_free(lock) is None
    assert not lock.exists()
    lock.touch()
    assert [workers.lock_is_free(lock), workers.lock_is_free(lock)] == [True, True]


def test_two_that_ask_a_lock_at_once_get_the_same_answer(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    with lock.open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert workers.lock_is_free(lock) is True
    with lock.open() as holding:
        fcntl.flock(holding, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert workers.lock_is_free(lock) is False


def test_only_files_beside_the_store_are_removed_as_locks(tmp_path: Path) -> None:
    place, store = tmp_path / "place", tmp_path / "place" / "runs.db"
    place.mkdir()
    for path in (store, tmp_path / "precious", place / "lock"):
        path.touch()
    for lock in (tmp_path / "precious", place / ".." / "precious", store, Path("lock"), place / "lock"):
        workers.remove_lock(store, lock)
    assert sorted(each.name for each in tmp_path.rglob("*") if each.is_file()) == ["precious", "runs.db"]


async def test_all_runs_of_a_dead_worker_fell_beside_each_other_whoever_takes_them_over(
    tmp_path: Path,
) -> None:
    async with SQLiteStore(tmp_path / "runs.db", clock=SystemClock()) as store:
        fallen = await claimed(store, "a", "b")
        assert fallen[0].run.worker is not None
        await store.retire_worker(fallen[0].run.worker, counted=True)
        crashes: list[tuple[int, int]] = []
        for _ in range(2):
            worker = await store.register_worker(new_worker(), HOUR_US)
            (taken,) = await store.claim(worker, SERVES, 1)
            crashes.append((taken.run.crashes, taken.run.crashes_alone))
        assert crashes == [(1, 0), (1, 0)]


async def test_a_claim_reads_no_run_that_it_does_not_take(tmp_path: Path) -> None:
    """Flat at any number of rows: counted in SQLite's own steps, which no clock disturbs."""
    async with SQLiteStore(tmp_path / "runs.db", clock=SystemClock(), inline=True) as store:
        worker = await store.register_worker(new_worker(), HOUR_US)
        steps: list[int] = []
        for total in (100, 3_000):
            with store._engine._writer.transaction():
                for n in range(total):
                    delay_us = 1 << 60 if n % 2 else 0
                    new = NewRun(
                        id=f"{total}-{n}",
                        agent="a",
                        version="0",
                        input=b"{}",
                        priority=n % 3,
                        delay_us=delay_us,
                    )
                    runs.create(store._engine._writer, new, n)
            counted = 0

            def count() -> bool:
                nonlocal counted
                counted += 1
                return False

            await store.list_workers()  # opens a connection that reads
            for each in (store._engine._writer, store._engine._readers[0]):
                each._raw.set_progress_handler(count, 100)
            assert len(await store.claim(worker, SERVES, 2)) == 2
            for each in (store._engine._writer, store._engine._readers[0]):
                each._raw.set_progress_handler(None)
            steps.append(counted)
        assert steps[1] <= steps[0] * 1.3 + 5


@pytest.mark.parametrize(
    "file",
    [
        "children",
        "claim",
        "commit",
        "decisions",
        "journal",
        "payloads",
        "reading",
        "runs",
        "sweep",
        "workers",
    ],
)
def test_no_statement_reads_a_whole_table_of_runs_or_events(tmp_path: Path, file: str) -> None:
    path = tmp_path / "runs.db"
    schema.prepare(path, SystemClock()).close()
    connection = Connection(path)
    mine = {name: sql for name, sql in STATEMENTS.items() if name.startswith(f"{file}.")}
    assert mine
    for name, sql in mine.items():
        numbered = re.findall(r"\?(\d+)", sql)
        values = [None] * (max(map(int, numbered)) if numbered else sql.count("?"))
        plan = [row[3] for row in connection.rows(f"EXPLAIN QUERY PLAN {sql}", values)]
        scans = [step for step in plan if re.match(r"SCAN (runs|events|signals|checkpoints|blobs)\b", step)]
        assert [step for step in scans if "INDEX" not in step] == [], name
    connection.close()
