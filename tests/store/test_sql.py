"""Statements have names, and names are unique."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import holdfast.store
from holdfast.errors import StoreRefused
from holdfast.store import migrate
from holdfast.store.sql import parse, statements

SOURCES = Path(holdfast.store.__file__).parent


def test_a_statement_is_what_stands_under_its_name() -> None:
    found = parse("-- about all\n-- name: one\n-- why\nSELECT 1; -- really\n\n-- name: two\nSELECT\n  2;\n")
    assert dict(found) == {"one": "SELECT 1", "two": "SELECT\n  2"}


def test_two_statements_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two SQL statements are named 'one'"):
        parse("-- name: one\nSELECT 1\n-- name: one\nSELECT 2\n")


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_every_statement_is_used_and_every_use_has_a_statement(store: str) -> None:
    named = {name for name in statements(f"holdfast.store.{store}") if not name.startswith("hot.")}
    files = {name.partition(".")[0] for name in named}
    used = {
        name
        for file in (SOURCES / "transactions").glob("*.py")
        for name in re.findall(r'"(\w+\.\w+)"', file.read_text())
        if name.partition(".")[0] in files
    }
    assert used == named


def test_two_databases_write_the_same_statements_each_in_its_own_words() -> None:
    sqlite, postgres = statements("holdfast.store.sqlite"), statements("holdfast.store.postgres")
    own = {name for name in postgres if name.startswith("hot.")}  # what lies below the transactions
    assert own
    assert sqlite.keys() == postgres.keys() - own
    for name, text in sqlite.items():
        values = set(re.findall(r"\?\d+", text)) or range(text.count("?"))
        theirs = set(re.findall(r"\$\d+", postgres[name])) or range(postgres[name].count("?"))
        assert len(values) == len(theirs), name


def test_every_transaction_that_writes_takes_the_lock_first() -> None:
    begins = [
        word
        for file in (SOURCES / "sqlite").rglob("*.py")
        for word in re.findall(r'"BEGIN\s*(\w*)', file.read_text())
    ]
    assert sorted(begins) == ["DEFERRED", "IMMEDIATE"]  # DEFERRED is `moment`, for connections that only read


def test_only_one_library_opens_the_file() -> None:
    for file in SOURCES.rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (sqlite3|aiosqlite)", file.read_text(), re.M), file


def test_migrations_are_applied_from_where_the_store_is() -> None:
    known = [migrate.Migration(n, f"m{n}", "", f"hash{n}") for n in (1, 2, 3)]
    assert migrate.pending(known, {}, "here") == known
    assert migrate.pending(known, {1: "hash1"}, "here") == known[1:]
    assert migrate.pending(known, {1: "hash1", 2: "hash2", 3: "hash3"}, "here") == []
    with pytest.raises(StoreRefused, match="upgrade holdfast"):
        migrate.pending(known[:2], {1: "hash1", 2: "hash2", 3: "hash3"}, "here")
