"""Runs move from one kind of database to the other and back, and stay the same to the last byte."""

from __future__ import annotations

import io
from pathlib import Path

from holdfast.moving import import_runs
from holdfast.store import open_store
from holdfast.store.postgres import PostgresStore
from holdfast.testing.conformance import MovableClock
from holdfast.testing.conformance.moving import exported
from holdfast.testing.conformance.population import everything, populate
from tests.conformance.test_sqlite import SqlitePlace
from tests.postgres.server import Databases


async def test_runs_come_to_postgresql_and_back_as_they_were(tmp_path: Path, databases: Databases) -> None:
    place = SqlitePlace(tmp_path / "from.db", MovableClock())
    url = databases.fresh()
    try:
        store = await place.open()
        ids = await populate(store, place)
        file = await exported(store)
        await store.sweep(1_000)
        async with PostgresStore(url, clock=place.clock) as there:
            assert set((await import_runs(there, io.BytesIO(file), "file")).imported) == set(ids)
            for run_id in ids:
                assert await everything(there, run_id) == await everything(store, run_id)
            again = await exported(there)
        async with open_store(tmp_path / "to.db", clock=place.clock) as back:
            assert set((await import_runs(back, io.BytesIO(again), "file")).imported) == set(ids)
        assert sorted(again.splitlines()[1:-1]) == sorted(file.splitlines()[1:-1])
        done = await import_runs(store, io.BytesIO(again), "file")
        assert set(done.here) == set(ids)  # by the hash of their lines
    finally:
        await place.close()
        databases.drop(url)
