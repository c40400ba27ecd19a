"""The PostgreSQL store keeps every promise of the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from holdfast.store.postgres import PostgresStore
from holdfast.store.protocol import Store
from holdfast.testing.conformance import MovableClock, Place, StoreConformance
from tests.conformance.damaged import Damageable
from tests.conformance.machine import StoreMachine, try_sequences
from tests.postgres.server import Databases, plain


class PostgresPlace(Damageable):
    """One database."""

    def __init__(self, databases: Databases, clock: MovableClock, url: str | None = None) -> None:
        super().__init__(clock)
        self._databases = databases
        self.url = url or databases.fresh()

    def elsewhere(self) -> Place:
        return PostgresPlace(self._databases, self.clock)

    def handle(self) -> Store:
        return PostgresStore(self.url, clock=self.clock)

    def changed(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(
            plain(self.url), autocommit=True, options="-c search_path=holdfast"
        ) as connection:
            done = connection.execute(statement.replace("?", "%s"), values)
            return done.fetchall() if done.description else []


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
    PostgresMachine.databases = databases
    try_sequences(PostgresMachine, 100)
