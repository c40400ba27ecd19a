"""Makes the schema and applies the migrations: safe from many processes at once; and looks whether the server keeps
what it acknowledges."""

from __future__ import annotations

from typing import Final

import psycopg

from holdfast.errors import StoreRefused
from holdfast.store import migrate
from holdfast.store.postgres.connection import Connection
from holdfast.store.postgres.errors import translate
from holdfast.store.postgres.target import target

OLDEST_SERVER: Final = 140_000
_LOCK_WAIT: Final = "SET LOCAL lock_timeout = '60s'"
"""For the migrations of somebody else: their own lock, and the tables that running workers use."""


def known() -> list[migrate.Migration]:
    """The migrations of this version of holdfast."""
    return migrate.migrations("holdfast.store.postgres.migrations")


def prepare(connection: Connection) -> None:
    """Give the database the newest schema. Idempotent; the others wait while one does it.

    Raises StoreRefused or StoreCorrupt, and whatever psycopg raises.
    """
    check_server(connection)
    if versions(connection) != {each.version: each.sha256 for each in known()}:
        apply(connection, known())


def standing(url: str) -> migrate.Standing:
    """How far the store is; nothing is changed. Raises as `prepare` does, and StoreUnavailable."""
    where = target(url)
    connection = Connection(where, None)
    try:
        return migrate.Standing(max(versions(connection), default=0), len(known()))
    except psycopg.Error as error:
        raise translate(error, where.where) from error
    finally:
        connection.close()


def apply(connection: Connection, wanted: list[migrate.Migration]) -> None:
    """Apply what is missing, each migration with its version row in a transaction of its own."""
    schema = connection.target.schema
    for _ in wanted:
        connection.script(
            f"BEGIN; {_LOCK_WAIT}; SELECT pg_advisory_xact_lock({connection.target.lock('schema')})"
        )
        try:
            left = migrate.pending(wanted, versions(connection), connection.where)
            if not left:
                return
            first = left[0]
            if not connection.ask("SELECT to_regnamespace($1::text)", (schema,))[0][0]:
                connection.script(f"CREATE SCHEMA {schema}")
            connection.script(
                f"CREATE TABLE IF NOT EXISTS {schema}.holdfast_schema (version bigint PRIMARY KEY, name text NOT NULL,"
                " sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
            )
            connection.script(connection.target.text(first.sql))
            connection.ask(
                f"INSERT INTO {schema}.holdfast_schema (version, name, sha256)"  # noqa: S608 - a checked name
                " VALUES ($1, $2, $3) RETURNING version",
                (first.version, first.name, first.sha256),
            )
            connection.script("COMMIT")
        finally:
            connection.rollback()


def versions(connection: Connection) -> dict[int, str]:
    """The hash of each migration that the store has. Raises StoreRefused for what is not ours, or newer."""
    schema = connection.target.schema
    kept = f"{schema}.holdfast_schema"
    (ours, others) = connection.ask(
        "SELECT to_regclass($1::text) IS NOT NULL, EXISTS (SELECT FROM pg_class WHERE relnamespace ="
        " to_regnamespace($2::text))",
        (kept, schema),
    )[0]
    if not ours:
        if others:
            raise StoreRefused(
                f"{connection.where}: the schema {schema} belongs to another program; name another: ?schema=NAME"
            )
        return {}
    applied: dict[int, str] = dict(connection.ask(f"SELECT version, sha256 FROM {kept}"))  # noqa: S608 - a checked name
    migrate.pending(known(), applied, connection.where)
    return applied


def check_server(connection: Connection) -> None:
    """Raise StoreRefused for a server that is too old, or that loses at a power cut what it acknowledged."""
    version, fsync, commit, encoding, strings = connection.ask(
        "SELECT current_setting('server_version_num')::int, current_setting('fsync'),"
        " current_setting('synchronous_commit'), current_setting('server_encoding'),"
        " current_setting('standard_conforming_strings')"
    )[0]
    if version < OLDEST_SERVER:
        raise StoreRefused(
            f"{connection.where} is PostgreSQL {version // 10_000}; holdfast needs 14 or newer: upgrade the server"
        )
    if encoding != "UTF8":
        raise StoreRefused(
            f"{connection.where} keeps text as {encoding}, which lacks characters of ours:"
            " createdb -E UTF8 -T template0 NAME"
        )
    if strings != "on":
        raise StoreRefused(f"{connection.where} has standard_conforming_strings = off: turn it on")
    if not connection.target.unchecked and "off" in (fsync, commit):
        named = "fsync" if fsync == "off" else "synchronous_commit"
        raise StoreRefused(
            f"{connection.where} has {named} = off: it would lose at a power cut what it acknowledged; turn it on, or,"
            " where that is fine (tests), add durability=unchecked to the URL"
        )
