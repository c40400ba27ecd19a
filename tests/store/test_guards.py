"""The database guards the laws again: raw SQL that breaks them is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
from msgspec import structs

from holdfast.clock import SystemClock
from holdfast.model import Answer, Committed, Failed, Failure, FailureKind, NewApproval, RunState
from holdfast.rules import states
from holdfast.store.sqlite import SQLiteStore
from tests.store.shapes import change, claimed, new_run


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    """A store with run 1 running (two entries that ask, the first one answered), run 2 queued, run 3 failed."""
    path = tmp_path / "runs.db"
    async with SQLiteStore(path, clock=SystemClock()) as store:
        running, ends = await claimed(store, "running", "ends")
        asked = NewApproval(question_hash=b"h", segment=0, question="Sure?", options=("yes", "no"))
        asking = structs.replace(change(running), beside=(asked,))
        assert isinstance((await store.commit([asking]))[0], Committed)
        await store.answer_approval("running", 1, Answer(question_hash=b"h", choice="yes", by="ann"))
        other = structs.replace(asked, question_hash=b"i")
        again = structs.replace(asking, position=1, beside=(other,))
        assert isinstance((await store.commit([again]))[0], Committed)
        failure = Failure(kind=FailureKind.FATAL, type="E", message="m")
        await store.commit([structs.replace(change(ends), entries=(), outcome=Failed(failure=failure))])
        await store.create_run(new_run("queued"))
        yield path


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("UPDATE runs SET state = 'asleep' WHERE id = 'queued'", "CHECK|no such move"),
        ("UPDATE runs SET state = 'succeeded', finished_at_us = 1 WHERE id = 'queued'", "no such move"),
        (
            "UPDATE runs SET state = 'running', worker = 1, token = token + 1, finished_at_us = NULL WHERE id = 'ends'",
            "no such move",
        ),
        ("UPDATE runs SET state = 'waiting' WHERE id = 'running'", "CHECK"),
        ("UPDATE runs SET worker = NULL WHERE id = 'running'", "CHECK"),
        ("UPDATE runs SET worker = 1 WHERE id = 'queued'", "CHECK|token"),
        ("UPDATE runs SET state = 'running', worker = 1 WHERE id = 'queued'", "rises with every claim"),
        ("UPDATE runs SET worker = 77, token = token + 1 WHERE id = 'running'", "FOREIGN KEY|never fall"),
        ("UPDATE runs SET state = 'cancelled' WHERE id = 'queued'", "CHECK"),
        ("UPDATE runs SET finished_at_us = NULL WHERE id = 'ends'", "CHECK"),
        ("UPDATE runs SET finished_at_us = 1 WHERE id = 'queued'", "CHECK"),
        ("UPDATE runs SET token = token - 1 WHERE id = 'running'", "never falls"),
        ("UPDATE runs SET position = 0 WHERE id = 'running'", "never fall"),
        ("UPDATE runs SET event_no = event_no - 1 WHERE id = 'running'", "never fall"),
        ("UPDATE live SET position = 0", "never fall"),
        ("UPDATE live SET event_no = event_no - 1", "never fall"),
        ("UPDATE live SET token = token - 1", "that of the run"),
        ("UPDATE live SET token = token + 1", "that of the run"),
        ("UPDATE live SET steps = steps - 1", "never fall"),
        ("UPDATE live SET checkpoint_n = checkpoint_n - 1", "never fall"),
        ("UPDATE live SET position = event_no + 1", "CHECK"),
        ("DELETE FROM live", "keeps its live counters"),
        (
            "INSERT INTO live SELECT key, token, position, event_no, steps, checkpoint_n, step, reason FROM runs"
            " WHERE id = 'queued'",
            "only a run that runs",
        ),
        (
            "UPDATE runs SET state = 'cancelled', worker = NULL, finished_at_us = 1 WHERE id = 'running'",
            "never fall",
        ),
        ("UPDATE runs SET position = event_no + 1 WHERE id = 'running'", "CHECK"),
        ("UPDATE runs SET claimed_position = 99 WHERE id = 'running'", "CHECK"),
        ("UPDATE runs SET id = 'running' WHERE id = 'queued'", "UNIQUE"),
        (
            "INSERT INTO runs (id, agent, version, queue, priority, state, claimable, created_at_us, input_hash)"
            " VALUES ('x', 'a', '0', 'q', 0, 'waiting', 1, 0, x'')",
            "begins as queued",
        ),
        ("UPDATE events SET payload = x'00' WHERE position = 1", "immutable"),
        ("UPDATE events SET type = 'other'", "immutable"),
        ("UPDATE events SET superseded = 1 WHERE position IS NULL", "once and for all"),
        ("UPDATE events SET superseded = 0 WHERE position = 1", "once and for all"),
        ("DELETE FROM events WHERE position = 1", "stay"),
        (
            "INSERT INTO events (run, n, at_us, type, payload) SELECT run, n, 0, 'again', x'' FROM events LIMIT 1",
            "UNIQUE",
        ),
        (
            "INSERT INTO events (run, n, at_us, type, position, payload) VALUES (1, 99, 0, 'x', 9, x'')",
            "CHECK",
        ),
        ("INSERT INTO events (run, n, at_us, type) VALUES (1, 99, 0, 'x')", "CHECK"),
        ("INSERT INTO events (run, n, at_us, type, payload) VALUES (77, 1, 0, 'x', x'')", "FOREIGN KEY"),
        ("DELETE FROM workers", "FOREIGN KEY"),
        ("UPDATE approvals SET question = 'Another?'", "question never changes"),
        ("UPDATE approvals SET options = x'5b5d'", "question never changes"),
        ("UPDATE approvals SET choice = 'no' WHERE status = 'answered'", "answer never changes"),
        (
            "UPDATE approvals SET status = 'open', choice = NULL WHERE status = 'answered'",
            "answer never changes",
        ),
        ("UPDATE approvals SET status = 'answered' WHERE status = 'open'", "CHECK"),
        ("UPDATE approvals SET choice = 'yes' WHERE status = 'open'", "CHECK"),
        ("UPDATE approvals SET status = 'asleep' WHERE status = 'open'", "CHECK"),
        ("UPDATE approvals SET closed_by = 3 WHERE status = 'open'", "CHECK"),
    ],
)
async def test_raw_sql_that_breaks_a_law_is_refused(path: Path, sql: str, why: str) -> None:
    raw = apsw.Connection(str(path))
    try:
        raw.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(apsw.ConstraintError, match=why):
            raw.execute(sql)
    finally:
        raw.close()


async def test_every_move_of_the_database_is_one_of_the_state_table(path: Path) -> None:
    raw = apsw.Connection(str(path))
    guarded = set(raw.execute("SELECT from_state, to_state FROM run_moves").fetchall())
    raw.close()
    table = {
        (str(before), str(after))
        for (before, _), targets in states.TABLE.items()
        for after in targets
        if before is not after
    }
    assert guarded == table
    assert {before for before, _ in guarded} <= set(map(str, RunState))


async def test_deleting_a_final_run_takes_everything_of_it_along(path: Path) -> None:
    async with SQLiteStore(path, clock=SystemClock()) as store:
        key = (await store.get_run("ends")).key
        await store.delete_run("ends")
    raw = apsw.Connection(str(path))
    for table in (
        "events",
        "run_payloads",
        "checkpoints",
        "signals",
        "resolutions",
        "progress",
        "blobs",
        "approvals",
    ):
        assert raw.execute(f"SELECT count(*) FROM {table} WHERE run = ?", (key,)).fetchall() == [(0,)]
    raw.close()
