"""The PostgreSQL store: one database, any number of hosts. It needs `pip install 'holdfast[postgres]'`."""

from __future__ import annotations

from holdfast.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
