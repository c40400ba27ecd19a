"""Fresh stores on a PostgreSQL: each test has a database of its own."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg


def database(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def plain(url: str) -> str:
    """The URL without the words that are ours, for a driver that knows none of them."""
    return url.partition("?")[0]


class Databases:
    """Fresh stores on one server, each a copy of one that was made before."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._template: str | None = None
        self._made: list[str] = []

    def fresh(self) -> str:
        """The URL of a store that nobody has used."""
        name = f"hf_{uuid.uuid4().hex}"
        with psycopg.connect(self._url, autocommit=True) as admin:
            if self._template is None:
                self._template = self._make(admin)
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        self._made.append(name)
        return database(self._url, name) + "?durability=unchecked"

    def empty(self) -> str:
        """The URL of a database with nothing in it."""
        name = f"hf_{uuid.uuid4().hex}"
        with psycopg.connect(self._url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        self._made.append(name)
        return database(self._url, name) + "?durability=unchecked"

    def _make(self, admin: psycopg.Connection[Any]) -> str:
        from holdfast.store.postgres import schema
        from holdfast.store.postgres.connection import Connection
        from holdfast.store.postgres.target import target

        name = f"hf_template_{uuid.uuid4().hex}"
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        self._made.append(name)
        connection = Connection(target(database(self._url, name) + "?durability=unchecked"), None)
        schema.prepare(connection)
        connection.close()
        return name

    def drop(self, url: str | None = None) -> None:
        """Drop one, or all of them."""
        names = self._made if url is None else [urlsplit(url).path.strip("/")]
        with psycopg.connect(self._url, autocommit=True) as admin:
            for name in list(names):
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                self._made.remove(name)
