"""Collecting: a stretch of a source becomes a Parquet file of texts, and a tally of what they look like."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import duckdb

from examples.report import duck, sources
from examples.report.model import VALUES_KEPT, Cursor, Job, Part, Source, Tally

CATEGORY_LENGTH = 60  # characters: a longer text is no category


def collect(job: Job, source: Source, cursor: Cursor | None) -> Part:
    """Read on from the cursor; what was read is durable when this returns."""
    chunk = sources.read(source, cursor, job.chunk_bytes)
    job.parts.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="collect-", dir=job.parts) as scratch,
        duck.opened(job.memory_mb, Path(scratch)) as db,
    ):
        texts = Path(scratch, "rows.csv")
        write_texts(texts, chunk, len(source.columns))
        db.execute(f"CREATE TEMP VIEW texts AS FROM {reading(texts, source)}")
        file = duck.write(db, "FROM texts", job.parts)
        db.execute(f"CREATE TEMP VIEW part AS FROM read_parquet({duck.text(job.parts / file)})")
        tallies = {column: tally(db, column) for column in source.columns}
    line = cursor.line if cursor else 0
    return Part(
        id=f"{source.number}@{line}",
        source=source.number,
        file=file,
        rows=len(chunk.rows),
        recoded=chunk.recoded,
        tallies=tallies,
        next=chunk.next,
    )


def write_texts(path: Path, chunk: sources.Chunk, width: int) -> None:
    """The rows as a CSV of one certain form; a row that could not be one keeps its text for the examples."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        empty = [None] * width
        writer.writerows(
            [line, None, None, *cells] if why is None else [line, why, cells[0], *empty]
            for line, why, cells in chunk.rows
        )


def reading(path: Path, source: Source) -> str:
    """The same as a table of texts, with nothing left to guess."""
    columns = {"_line": "BIGINT", "_refused": "VARCHAR", "_text": "VARCHAR"}
    columns |= dict.fromkeys(source.columns, "VARCHAR")
    listed = ", ".join(f"{duck.text(column)}: '{kind}'" for column, kind in columns.items())
    return (
        f"read_csv({duck.text(path)}, columns = {{{listed}}}, auto_detect = false, header = false, delim = ',', "
        "quote = '\"', escape = '\"', nullstr = '', new_line = '\\n', parallel = false, max_line_size = 16777216)"
    )


def tally(db: duckdb.DuckDBPyConnection, column: str) -> Tally:
    """What the cells of one column look like."""
    x = duck.name(column)
    row = db.execute(
        f"""
        WITH cells AS (SELECT filled(tidy({x})) AS x FROM part WHERE _refused IS NULL)
        SELECT count(x),
               count(*) FILTER (as_number(x) IS NOT NULL),
               count(*) FILTER (is_time(x)),
               count(*) FILTER (is_slashed_time(x) AND first_figure(x) > 12),
               count(*) FILTER (is_slashed_time(x) AND second_figure(x) > 12),
               coalesce(max(length(x)), 0)
        FROM cells
        """
    ).fetchone()
    assert row is not None
    filled, numbers, times, day_first, month_first, longest = (int(figure) for figure in row)
    values = None
    if (longest <= CATEGORY_LENGTH and max(numbers, times) < filled) or not filled:
        values = values_of(db, x)
    return Tally(filled, numbers, times, day_first, month_first, values)


def values_of(db: duckdb.DuckDBPyConnection, column: str) -> dict[str, int] | None:
    """The different values and how often each stands there; None when they are too many to be categories."""
    rows = db.execute(
        f"""
        SELECT filled(tidy({column})) AS x, count(*) FROM part WHERE x IS NOT NULL AND _refused IS NULL
        GROUP BY x ORDER BY x LIMIT {4 * VALUES_KEPT + 1}
        """
    ).fetchall()
    return {str(value): int(count) for value, count in rows} if len(rows) <= 4 * VALUES_KEPT else None
