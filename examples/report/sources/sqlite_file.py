"""SQLite: read by rowid, or by primary key where a table has none. With apsw: one SQLite library is enough."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import apsw

from examples.report import duck
from examples.report.model import Cursor, Source
from examples.report.sources.chunk import Chunk, Unreadable, cell_of

BYTES_A_CELL = 16
LAST_ROWID = 2**63 - 1  # SQLite has no row behind it


def connect(path: Path | str) -> apsw.Connection:
    """For reading alone."""
    return apsw.Connection(
        f"file:{quote(str(path))}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    )


def only_table(path: Path) -> str:
    """The table, if there is but one."""
    found = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    db = connect(path)
    tables = [str(row[0]) for row in db.execute(found)]
    db.close()
    if len(tables) != 1:
        listed = ", ".join(tables) or "none"
        raise Unreadable(f"{path.name} has {len(tables)} tables ({listed}); name one: {path.name}::TABLE")
    return tables[0]


def columns(path: Path, table: str) -> list[str]:
    """The names of the columns."""
    db = connect(path)
    names = [str(row[0]) for row in db.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    db.close()
    if not names:
        raise Unreadable(f"{path.name} has no table {table}")
    return names


def rowid_of(db: apsw.Connection, table: str) -> str | None:
    """A name of the row's number that no column has taken. A table made WITHOUT ROWID has none, nor has a view."""
    taken = {str(row[0]).lower() for row in db.execute("SELECT name FROM pragma_table_info(?)", (table,))}
    for name in ("rowid", "_rowid_", "oid"):
        if name in taken:
            continue
        try:
            db.execute(f"SELECT {name} FROM {duck.name(table)} LIMIT 0").fetchall()
        except apsw.SQLError:
            return None
        return name
    return None


def first_row(path: Path, table: str) -> int:
    """Where to begin: a row's number may be below zero."""
    db = connect(path)
    try:
        rowid = rowid_of(db, table)
        least = db.execute(f"SELECT min({rowid}) FROM {duck.name(table)}").get if rowid else None
    finally:
        db.close()
    return least if isinstance(least, int) else 0


def read(source: Source, cursor: Cursor, limit_bytes: int, memory_mb: int) -> Chunk:
    """So many rows from a rowid on, or, where there is none, from a place in the order of all columns."""
    chunk, wanted = Chunk(), max(1, limit_bytes // (BYTES_A_CELL * len(source.columns)))
    db = connect(source.path)
    try:
        table = duck.name(source.table)
        rowid = rowid_of(db, source.table)
        if rowid:
            query = f"SELECT {rowid}, * FROM {table} WHERE {rowid} >= ? ORDER BY {rowid} LIMIT ?"
        else:
            order = ", ".join(str(number + 2) for number in range(len(source.columns)))
            query = f"SELECT 0, * FROM {table} ORDER BY {order} LIMIT ?2 OFFSET ?1"
        last = cursor.position
        for number, row in enumerate(db.execute(query, (cursor.position, wanted))):
            last = int(row[0]) if rowid else cursor.position + number
            mended = [cell_of(value) for value in row[1:]]
            chunk.recoded += any(was for _, was in mended)
            chunk.add(last if rowid else last + 1, [text for text, _ in mended])
    finally:
        db.close()
    if len(chunk.rows) == wanted and last < LAST_ROWID:
        chunk.next = Cursor(last + 1, cursor.line + wanted)
    return chunk
