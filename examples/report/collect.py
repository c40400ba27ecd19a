"""Collecting: a stretch of a source becomes a Parquet file of texts, and a tally of what they look like."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import duckdb

from examples.report import duck, sources
from examples.report.model import VALUES_KEPT, Cursor, Job, Part, Source, Tally

CATEGORY_LENGTH = 60  # characters: a longer text is no category


def collect(job: Job, source: Source, cursor: Cursor | None) -> Part:
    """Read on from the cursor; what was read is durable when this returns."""
    chunk = sources.read(source, cursor, job.chunk_bytes, job.memory_mb)
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
        tallies = tally(db, source.columns)
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


def tally(db: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> dict[str, Tally]:
    """What the cells of each column look like."""
    db.execute(duck.MACROS)
    tidied = ", ".join(f"filled(tidy({duck.name(one)})) AS {duck.name(one)}" for one in columns)
    db.execute(f"CREATE TEMP TABLE tidied AS SELECT {tidied} FROM part WHERE _refused IS NULL")
    counted = ", ".join(f"{{{', '.join(counts(duck.name(one)))}}}" for one in columns)
    row = db.execute(f"SELECT {counted} FROM tidied").fetchone()
    assert row is not None
    found = dict(zip(columns, row, strict=True))
    return {one: tally_of(found[one], partial(values_of, db, duck.name(one))) for one in columns}


def counts(x: str) -> Iterator[str]:
    """How many cells there are of each kind, as the fields of a struct."""
    yield f"'filled': count({x})"
    yield f"'numbers': count(*) FILTER (is_number({x}))"
    yield f"'times': count(*) FILTER (is_time({x}))"
    yield f"'day_first': count(*) FILTER (is_day_first({x}))"
    yield f"'month_first': count(*) FILTER (is_month_first({x}))"
    yield f"'longest': coalesce(max(length({x})), 0)"


def tally_of(found: Mapping[str, int], values: Callable[[], dict[str, int] | None]) -> Tally:
    """The tally of one column. What is mostly numbers or times is no category, and its values are not listed."""
    plain = {name: int(found[name]) for name in ("filled", "numbers", "times", "day_first", "month_first")}
    may_be = found["longest"] <= CATEGORY_LENGTH and max(found["numbers"], found["times"]) < found["filled"]
    return Tally(**plain, values=values() if may_be or not found["filled"] else None)


def values_of(db: duckdb.DuckDBPyConnection, column: str) -> dict[str, int] | None:
    """The different values and how often each stands there; None when they are too many to be categories."""
    rows = db.execute(
        f"""
        SELECT {column}, count(*) FROM tidied WHERE {column} IS NOT NULL GROUP BY ALL ORDER BY {column}
        LIMIT {4 * VALUES_KEPT + 1}
        """
    ).fetchall()
    return {str(value): int(count) for value, count in rows} if len(rows) <= 4 * VALUES_KEPT else None
