"""The PostgreSQL store keeps every promise of the protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from holdfast.store.postgres import PostgresStore
from holdfast.store.protocol import Store
from holdfast.testing.conformance import MovableClock, Place, StoreConformance
from tests.conformance.machine import StoreMachine
from tests.postgres.server import Databases

EXAMPLES = int(os.environ.get("HOLDFAST_MACHINE_EXAMPLES", "0"))
"""How many random sequences the state machine tries; 0: the few dozen fixed ones of every test run."""


class PostgresPlace(Place):
    """One database."""

    def __init__(self, databases: Databases, clock: MovableClock, url: str | None = None) -> None:
        super().__init__(clock)
        self._databases = databases
        self.url = url or databases.fresh()

    def elsewhere(self) -> Place:
        return PostgresPlace(self._databases, self.clock)

    def handle(self) -> Store:
        return PostgresStore(self.url, clock=self.clock)

    async def damage_checkpoint(self, run_key: int, n: int) -> None:
        self._damage("checkpoints", "state", "run = %s AND n = %s", run_key, n)

    async def damage_chunk(self, content_id: str, n: int) -> None:
        chunk = (
            "key = (SELECT chunk FROM holdfast.content_chunks JOIN holdfast.contents ON contents.key = content "
            "WHERE sha256 = %s AND n = %s)"
        )
        self._damage("chunks", "body", chunk, bytes.fromhex(content_id), n)

    async def damage_state_of(self, owner: str) -> None:
        self._damage("states", "state", "owner = %s", owner)

    async def damage_checkpoint_of(self, owner: str, n: int) -> None:
        self._damage("owned_checkpoints", "state", "owner = %s AND n = %s", owner, n)

    def _damage(self, table: str, column: str, where: str, *values: bytes | int | str) -> None:
        plain = self.url.partition("?")[0]
        with psycopg.connect(plain, autocommit=True) as connection:
            ((body,),) = connection.execute(f"SELECT {column} FROM holdfast.{table} WHERE {where}", values)
            middle = len(body) // 2
            damaged = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
            connection.execute(f"UPDATE holdfast.{table} SET {column} = %s WHERE {where}", (damaged, *values))


class TestPostgresStore(StoreConformance):
    @pytest.fixture
    def place(self, databases: Databases) -> Iterator[Place]:
        place = PostgresPlace(databases, MovableClock())
        yield place
        databases.drop(place.url)


class PostgresMachine(StoreMachine):
    databases: Databases

    def new_place(self) -> Place:
        self.made = PostgresPlace(self.databases, MovableClock())
        return self.made

    def teardown(self) -> None:
        super().teardown()
        self.databases.drop(self.made.url)


@pytest.mark.timeout(600)
def test_any_sequence_of_operations_leaves_store_and_model_equal(databases: Databases) -> None:
    PostgresMachine.seen.clear()
    PostgresMachine.databases = databases
    wanted = settings(
        max_examples=EXAMPLES or 100,
        stateful_step_count=80 if EXAMPLES else 50,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(PostgresMachine, settings=wanted)
    missed = {
        "accepted",
        "refused",
        "running",
        "succeeded",
        "failed",
        "cancelled",
        "waiting poison",
    } - PostgresMachine.seen.keys()
    assert not missed, f"the machine never came to {missed}: {PostgresMachine.seen}"
