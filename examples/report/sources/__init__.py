"""Where rows come from. Each kind is read in stretches, from a cursor to the next: a resume goes on where it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from examples.report.model import Cursor, Format, Source
from examples.report.sources import csv_file, git_log, parquet_file, sqlite_file
from examples.report.sources.chunk import Chunk, Unreadable
from examples.stage import durable

__all__ = ["Chunk", "Unreadable", "inspect", "read"]

SUFFIXES: Final[dict[str, Format]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".db": "sqlite",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
}
READERS: Final[dict[Format, Callable[[Source, Cursor, int, int], Chunk]]] = {
    "csv": csv_file.read,
    "parquet": parquet_file.read,
    "sqlite": sqlite_file.read,
    "git": git_log.read,
}


def inspect(number: int, named: str) -> Source:
    """Find a source and its columns: `orders.csv`, `orders.parquet`, `shop.db::orders`, `git:PATH`.

    Raises Unreadable when it is not there, or is nothing that can be read.
    """
    if named.startswith("git:"):
        return git_log.inspect(number, Path(named.removeprefix("git:")).expanduser().resolve())
    place, _, table = named.partition("::")
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise Unreadable(f"there is no source at {path}")
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise Unreadable(f"{path.name} is none of {', '.join(SUFFIXES)}, nor git:PATH")
    status = path.stat()
    if kind == "csv":
        delimiter, columns, begin = csv_file.header(path)
    elif kind == "parquet":
        delimiter, columns, begin = ",", parquet_file.columns(path), 0
    else:
        table = table or sqlite_file.only_table(path)
        delimiter, columns, begin = ",", sqlite_file.columns(path, table), sqlite_file.first_row(path, table)
    return Source(
        number=number,
        name=path.name if not table else f"{path.name}::{table}",
        format=kind,
        path=str(path),
        size=status.st_size,
        modified_ns=status.st_mtime_ns,
        digest=durable.sha256_of(path),
        columns=tidy_names(columns),
        table=table,
        delimiter=delimiter,
        begin=begin,
    )


def read(source: Source, cursor: Cursor | None, limit_bytes: int, memory_mb: int = 200) -> Chunk:
    """Read about so much from the cursor on, where DuckDB does it within its limit.

    Raises Unreadable when the source is not as it was.
    """
    if source.format != "git":
        status = Path(source.path).stat()
        if (status.st_size, status.st_mtime_ns) != (source.size, source.modified_ns):
            raise Unreadable(
                f"{source.path} was changed while it was being read: half a report would be of the old rows and "
                "half of the new. Put it back, or start a new run"
            )
    first_line = 2 if source.format == "csv" else 1
    return READERS[source.format](source, cursor or Cursor(source.begin, first_line), limit_bytes, memory_mb)


def tidy_names(columns: list[str]) -> tuple[str, ...]:
    """Names as the report uses them: small letters, one word each, all different; `_` begins only those of our own."""
    names: list[str] = []
    for number, column in enumerate(columns, 1):
        plain = "_".join(column.strip().lower().split()).lstrip("_") or f"column_{number}"
        while plain in names:
            plain += "_again"
        names.append(plain)
    return tuple(names)
