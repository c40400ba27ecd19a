"""Compatibility data: what is stored by these names is read by every later version.

`golden.txt` changes by intent only: HOLDFAST_REWRITE_GOLDEN=1 pytest tests/conformance/test_golden.py, and the
diff is reviewed. A name may be added; one that was released is never renamed or removed.
"""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import apsw

from holdfast import errors, model
from holdfast.store.transactions import rows
from holdfast.testing.conformance import MovableClock
from tests.conformance.test_sqlite import SqlitePlace

GOLDEN = Path(__file__).parent / "golden.txt"
REWRITE = "HOLDFAST_REWRITE_GOLDEN"
SOURCE = Path(errors.__file__).parent
WRITERS = {"Note": 0, "_add_note": 2}
"""The calls that write an event, and which of their arguments is its type."""


def section(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"[{title}]", *sorted(lines), ""])


def enums() -> Iterable[str]:
    for name, kind in inspect.getmembers(model, inspect.isclass):
        if issubclass(kind, StrEnum) and kind is not StrEnum:
            yield from (f"{name}.{member.name} = {member.value}" for member in kind)


def event_types() -> set[str]:
    states = {f"run.{state}" for state in model.RunState}
    written = {
        kind for path in SOURCE.rglob("*.py") if "testing" not in path.parts for kind in literals(path)
    }
    return states | {str(kind) for kind in rows.ENTRY_EVENTS.values()} | written


def literals(path: Path) -> Iterable[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            at = WRITERS.get(name, len(node.args))
            if at < len(node.args) and isinstance(kind := node.args[at], ast.Constant):
                yield str(kind.value)


def columns(path: Path) -> Iterable[str]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in tables:
            if not table.startswith("sqlite_"):
                for name, kind in connection.execute("SELECT name, type FROM pragma_table_info(?)", (table,)):
                    yield f"{table}.{name} {kind}"
    finally:
        connection.close()


def error_names() -> Iterable[str]:
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, BaseException) and kind.__module__ == errors.__name__:
            yield f"{name}({', '.join(base.__name__ for base in kind.__bases__)})"


async def test_stored_names_are_those_of_every_version_before(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path / "runs.db", MovableClock())
    await place.open()
    await place.close()
    found = "\n".join(
        [
            section("event types", event_types()),
            section("enums", enums()),
            section("columns of the SQLite store", columns(tmp_path / "runs.db")),
            section("errors", error_names()),
        ]
    )
    if os.environ.get(REWRITE):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text(), (
        f"stored names changed; if that is meant: {REWRITE}=1 and review the diff"
    )
