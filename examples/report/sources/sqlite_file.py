"""SQLite: read by rowid, or by primary key where a table has none. With apsw: one SQLite library is enough."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import apsw

from examples.report import duck
from examples.report.model import Cursor, Source
from examples.report.sources.chunk import Chunk, Unreadable, cell_of

BYTES_A_CELL = 16


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


def has_rowid(db: apsw.Connection, table: str) -> bool:
    """A table made WITHOUT ROWID has none, nor has a view."""
    try:
        db.execute(f"SELECT rowid FROM {duck.name(table)} LIMIT 0").fetchall()
    except apsw.SQLError:
        return False
    return True


def read(source: Source, cursor: Cursor, limit_bytes: int, memory_mb: int) -> Chunk:
    """So many rows behind a rowid."""
    chunk, wanted = Chunk(), max(1, limit_bytes // (BYTES_A_CELL * len(source.columns)))
    db = connect(source.path)
    try:
        table = duck.name(source.table)
        by_rowid = has_rowid(db, source.table)
        if by_rowid:
            query = f"SELECT rowid, * FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT ?"
        else:
            order = ", ".join(str(number + 2) for number in range(len(source.columns)))
            query = f"SELECT 0, * FROM {table} ORDER BY {order} LIMIT ?2 OFFSET ?1"
        last = cursor.position
        for number, row in enumerate(db.execute(query, (cursor.position, wanted))):
            last = int(row[0]) if by_rowid else cursor.position + number + 1
            mended = [cell_of(value) for value in row[1:]]
            chunk.recoded += any(was for _, was in mended)
            chunk.add(last, [text for text, _ in mended])
    finally:
        db.close()
    if len(chunk.rows) == wanted:
        chunk.next = Cursor(last, last + 1)
    return chunk
