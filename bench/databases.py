"""A PostgreSQL server for the benchmarks, and fresh databases on it. It keeps what it acknowledges: `fsync` is on."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import psycopg

from tests.postgres.server import database, serving

SETTINGS = ("fsync=on", "synchronous_commit=on")


def server() -> contextlib.AbstractContextManager[str]:
    """The URL of a server that runs meanwhile; HOLDFAST_TEST_POSTGRES, the URL of another, takes its place."""
    return serving(settings=SETTINGS)


@contextlib.contextmanager
def fresh(url: str) -> Iterator[str]:
    """The URL of a database with nothing in it, gone afterwards."""
    name = f"hf_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield database(url, name)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
