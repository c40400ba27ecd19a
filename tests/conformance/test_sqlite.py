"""The SQLite store keeps every promise of the protocol."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import apsw
import pytest

from holdfast.store.protocol import Store
from holdfast.store.sqlite import SQLiteStore
from holdfast.testing import blank
from holdfast.testing.conformance import MovableClock, Place, StoreConformance
from tests.conformance.damaged import Damageable
from tests.conformance.machine import StoreMachine, try_sequences


class SqlitePlace(Damageable):
    """One SQLite file."""

    def __init__(self, path: Path, clock: MovableClock) -> None:
        super().__init__(clock)
        self.path = blank.lay(path)

    def handle(self) -> Store:
        return SQLiteStore(self.path, clock=self.clock)

    def elsewhere(self) -> Place:
        return SqlitePlace(self.path.with_name("elsewhere.db"), self.clock)

    def changed(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        connection = apsw.Connection(str(self.path))
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()


class TestSqliteStore(StoreConformance):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return SqlitePlace(tmp_path / "runs.db", MovableClock())


class SqliteMachine(StoreMachine):
    def new_place(self) -> Place:
        memory = Path("/dev/shm")  # what the disk does to a commit is proved elsewhere
        self.folder = Path(
            tempfile.mkdtemp(prefix="holdfast-machine-", dir=memory if memory.is_dir() else None)
        )
        return SqlitePlace(self.folder / "runs.db", MovableClock())

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.folder)


def test_any_sequence_of_operations_leaves_store_and_model_equal() -> None:
    try_sequences(SqliteMachine, 70)
