"""Parquet: read by the number of the row."""

from __future__ import annotations

from pathlib import Path

from examples.report import duck
from examples.report.model import Cursor, Source
from examples.report.sources.chunk import Chunk, cell_of

BYTES_A_CELL = 16  # about: a stretch of Parquet takes as long as a stretch of CSV


def columns(path: Path) -> list[str]:
    """The names of the columns."""
    with duck.opened(memory_mb=64) as db:
        return [
            str(row[0]) for row in db.execute(f"DESCRIBE FROM read_parquet({duck.text(path)})").fetchall()
        ]


def read(source: Source, cursor: Cursor, limit_bytes: int, memory_mb: int) -> Chunk:
    """So many rows from a number on."""
    chunk, wanted = Chunk(), max(1, limit_bytes // (BYTES_A_CELL * len(source.columns)))
    until = cursor.position + wanted
    with duck.opened(memory_mb) as db:
        names = [
            row[0] for row in db.execute(f"DESCRIBE FROM read_parquet({duck.text(source.path)})").fetchall()
        ]
        cells = ", ".join(f"CAST({duck.name(one)} AS VARCHAR)" for one in names)
        rows = db.execute(
            f"SELECT {cells} FROM read_parquet({duck.text(source.path)}, file_row_number = true) "
            f"WHERE file_row_number >= {cursor.position} AND file_row_number < {until} ORDER BY file_row_number"
        )
        line = cursor.line
        while several := rows.fetchmany(10_000):
            for row in several:
                mended = [cell_of(value) for value in row]
                chunk.recoded += any(was for _, was in mended)
                chunk.add(line, [text for text, _ in mended])
                line += 1
    if len(chunk.rows) == wanted:
        chunk.next = Cursor(until, line)
    return chunk
