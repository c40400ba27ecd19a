"""The SQLite store: one file, no server, any number of processes of one machine."""

from __future__ import annotations

from holdfast.store.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
