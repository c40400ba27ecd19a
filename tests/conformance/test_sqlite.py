"""The SQLite store keeps every promise of the protocol."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from holdfast.store.protocol import Store
from holdfast.store.sqlite import SQLiteStore
from holdfast.testing import blank
from holdfast.testing.conformance import MovableClock, Place, StoreConformance
from tests.conformance.machine import StoreMachine

EXAMPLES = int(os.environ.get("HOLDFAST_MACHINE_EXAMPLES", "0"))
"""How many random sequences the state machine tries; 0: the few dozen fixed ones of every test run."""


class SqlitePlace(Place):
    """One SQLite file."""

    def __init__(self, path: Path, clock: MovableClock) -> None:
        super().__init__(clock)
        self.path = blank.lay(path)

    def handle(self) -> Store:
        return SQLiteStore(self.path, clock=self.clock)

    async def damage_checkpoint(self, run_key: int, n: int) -> None:
        self._damage("checkpoints", "state", "run = ? AND n = ?", run_key, n)

    async def damage_chunk(self, content_id: str, n: int) -> None:
        chunk = (
            "key = (SELECT chunk FROM content_chunks JOIN contents ON contents.key = content "
            "WHERE sha256 = ? AND n = ?)"
        )
        self._damage("chunks", "body", chunk, bytes.fromhex(content_id), n)

    async def damage_state_of(self, owner: str) -> None:
        self._damage("states", "state", "owner = ?", owner)

    async def damage_checkpoint_of(self, owner: str, n: int) -> None:
        self._damage("owned_checkpoints", "state", "owner = ? AND n = ?", owner, n)

    def elsewhere(self) -> Place:
        return SqlitePlace(self.path.with_name("elsewhere.db"), self.clock)

    def _damage(self, table: str, column: str, where: str, *values: bytes | int | str) -> None:
        connection = apsw.Connection(str(self.path))
        try:
            ((body,),) = connection.execute(f"SELECT {column} FROM {table} WHERE {where}", values).fetchall()
            middle = len(body) // 2
            damaged = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (damaged, *values))
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
    SqliteMachine.seen.clear()
    wanted = settings(
        max_examples=EXAMPLES or 70,
        stateful_step_count=80 if EXAMPLES else 50,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(SqliteMachine, settings=wanted)
    missed = {
        "accepted",
        "refused",
        "running",
        "succeeded",
        "failed",
        "cancelled",
        "waiting poison",
    } - SqliteMachine.seen.keys()
    assert not missed, f"the machine never came to {missed}: {SqliteMachine.seen}"
