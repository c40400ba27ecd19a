"""The database guards runs that are on their way in, too: raw SQL that breaks a law is refused."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from holdfast.clock import SystemClock
from holdfast.model.moving import MovedRun
from holdfast.moving import export_runs, import_runs
from holdfast.moving.lines import Reader
from holdfast.store.sqlite import SQLiteStore
from holdfast.testing.conformance.place import new_run


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    """A store where run 1 was imported, run 2 is on its way in, and run 3 is of its own."""
    out = io.BytesIO()
    async with SQLiteStore(tmp_path / "from.db", clock=SystemClock()) as store:
        await store.create_run(new_run("a"))
        await export_runs(store, ["a"], out, timeout_s=0)
    path = tmp_path / "runs.db"
    async with SQLiteStore(path, clock=SystemClock()) as store:
        await import_runs(store, io.BytesIO(out.getvalue()), "file")
        run = next(iter(Reader(io.BytesIO(out.getvalue()), "file").parts()))
        assert isinstance(run, MovedRun)
        await store.begin_import(
            MovedRun(**{name: getattr(run, name) for name in run.__struct_fields__} | {"id": "b"})
        )
        await store.create_run(new_run("c"))
        yield path


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("UPDATE runs SET reason = NULL WHERE key = 2", "is being imported"),
        ("UPDATE runs SET state = 'cancelled', finished_at_us = 1 WHERE key = 2", "is being imported"),
        ("UPDATE runs SET claimable = 1, available_at_us = 1 WHERE key = 2", "is being imported"),
        ("UPDATE runs SET event_no = event_no + 1 WHERE key = 2", "is being imported"),
        ("UPDATE runs SET reason = 'importing' WHERE key = 3", "is not imported"),
        ("UPDATE runs SET state = 'succeeded', finished_at_us = 1 WHERE key = 3", "no such move"),
        ("UPDATE runs SET state = 'succeeded', finished_at_us = 1 WHERE key = 1", "no such move"),
        ("UPDATE imports SET lines = 9 WHERE run = 1", "ends once"),
        ("UPDATE imports SET sha256 = NULL WHERE run = 1", "ends once"),
        ("UPDATE imports SET sha256 = x'00' WHERE run = 2", "CHECK"),
        ("INSERT INTO imports (run, lines, state, claimable) VALUES (3, 1, 'running', 1)", "CHECK"),
        ("INSERT INTO imports (run, lines, state, claimable) VALUES (99, 1, 'failed', 1)", "FOREIGN KEY"),
    ],
)
async def test_raw_sql_that_breaks_a_law_of_imports_is_refused(path: Path, sql: str, why: str) -> None:
    raw = apsw.Connection(str(path))
    try:
        raw.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(apsw.ConstraintError, match=why):
            raw.execute(sql)
    finally:
        raw.close()
