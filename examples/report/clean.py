"""Cleaning: texts become typed rows, and a row that cannot is dropped with its reason; then duplicates.

A row is dropped for the first reason that applies: it could not be read as a row; a required cell is empty, cannot be
read, or could be either of two days; a value lies outside its limits; it stands there already. Any other cell that
cannot be read is emptied, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb

from examples.report import duck
from examples.report.model import Cleaned, Column, Dropped, Example, Job, Part, Repair, Schema

EXAMPLES = 3  # of each reason
DUPLICATE = "a duplicate"
CONFLICT = "a second row of the same key, with other values"


def clean(job: Job, schema: Schema, part: Part, memory_mb: int) -> Cleaned:
    """One part: typed, its repairs counted, its bad rows apart."""
    with duck.opened(memory_mb, job.parts) as db:
        db.execute(duck.MACROS)
        db.execute(f"CREATE TEMP VIEW raw AS FROM read_parquet({duck.text(job.parts / part.file)})")
        db.execute(f"CREATE TEMP TABLE cells AS {cells_query(schema, part.source)}")
        db.execute(f"CREATE TEMP TABLE judged AS {judged_query(schema, part.source)}")
        columns = ", ".join(duck.name(column.name) for column in schema.columns)
        kept = duck.write(
            db, f"SELECT _source, _line, {columns} FROM judged WHERE _reason IS NULL", job.parts
        )
        dropped, reasons = write_dropped(db, "judged WHERE _reason IS NOT NULL", job.parts)
        return Cleaned(
            id=part.id,
            kept=count(db, "judged WHERE _reason IS NULL"),
            file=kept,
            dropped_file=dropped,
            dropped=reasons,
            repairs=tuple(repairs(db, schema)),
        )


def cells_query(schema: Schema, source: int) -> str:
    """Every cell tidied, with its raw text beside it."""
    tidied = ", ".join(
        f"{duck.name(one.name)} AS {raw(one)}, filled(tidy({duck.name(one.name)})) AS {duck.name(one.name)}"
        for one in schema.columns
    )
    return f"SELECT {source} AS _source, _line, _refused, _text, {tidied} FROM raw"


def raw(column: Column) -> str:
    return duck.name(f"_raw {column.name}")


def tidied(column: Column) -> str:
    return duck.name(f"_tidy {column.name}")


def judged_query(schema: Schema, source: int) -> str:
    """Every cell typed, and the first reason to drop its row."""
    typed = ", ".join(
        f"{typed_cell(one, source)} AS {duck.name(one.name)}, {duck.name(one.name)} AS {tidied(one)}, {raw(one)}"
        for one in schema.columns
    )
    inner = f"SELECT _source, _line, _refused, _text, {typed} FROM cells"
    cases, values = [], []
    for when, why, value in reasons_to_drop(schema, source):
        cases.append(f"WHEN {when} THEN {why}")
        values.append(f"WHEN {when} THEN {value}")
    return f"SELECT *, CASE {' '.join(cases)} END AS _reason, CASE {' '.join(values)} END AS _value FROM ({inner})"


def typed_cell(column: Column, source: int) -> str:
    """What the tidied text is, in the column's type."""
    x = duck.name(column.name)
    if column.kind == "number":
        return f"as_number({x})"
    if column.kind == "time":
        return f"as_time({x}, {duck.text(column.orders[source])})"
    if column.kind == "category" and column.spellings:
        folded = sorted(column.spellings)
        spelt = duck.texts(column.spellings[one] for one in folded)
        return f"coalesce(map({duck.texts(folded)}, {spelt})[folded({x})], {x})"
    return x


def reasons_to_drop(schema: Schema, source: int) -> Iterator[tuple[str, str, str]]:
    """When, why, and the text that shows it, in the order in which they are asked."""
    yield "_refused IS NOT NULL", "'not a row: ' || _refused", "_text"
    for column in schema.columns:
        if not column.required:
            continue
        x, text = duck.name(column.name), tidied(column)
        yield f"{text} IS NULL", duck.text(f"no {column.name}"), raw(column)
        if column.kind == "time":
            order = duck.text(column.orders[source])
            ambiguous = f"{x} IS NULL AND is_ambiguous_time({text}, {order})"
            yield ambiguous, duck.text(f"{column.name} could be either of two days"), raw(column)
        yield f"{x} IS NULL", duck.text(f"{column.name} cannot be read"), raw(column)
    for column in schema.columns:
        x = duck.name(column.name)
        if column.low is not None:
            yield f"{x} < {column.low!r}", duck.text(f"{column.name} below {column.low:g}"), raw(column)
        if column.high is not None:
            yield f"{x} > {column.high!r}", duck.text(f"{column.name} above {column.high:g}"), raw(column)


def repairs(db: duckdb.DuckDBPyConnection, schema: Schema) -> Iterator[Repair]:
    """What was mended in the rows that were kept, by column and kind."""
    checks = [(column.name, what, check) for column in schema.columns for what, check in mendings(column)]
    counted = ", ".join(f"count(*) FILTER ({check})" for _, _, check in checks)
    row = db.execute(f"SELECT {counted} FROM judged WHERE _reason IS NULL").fetchone()
    assert row is not None
    for (column, what, _), cells in zip(checks, row, strict=True):
        if cells:
            yield Repair(column, what, int(cells))


def mendings(column: Column) -> Iterator[tuple[str, str]]:
    """The ways in which a cell of this column is mended, each with the condition that finds it."""
    x, text, as_read = duck.name(column.name), tidied(column), raw(column)
    yield "a word for nothing, emptied", f"{text} IS NULL AND tidy({as_read}) IS NOT NULL"
    yield "blanks too many", f"{text} IS NOT NULL AND {text} <> {as_read}"
    if column.kind == "number":
        yield "another way to write a number", f"{x} IS NOT NULL AND NOT is_plain_number({text})"
    if column.kind == "time":
        yield "another way to write a date", f"{x} IS NOT NULL AND NOT is_iso_time({text})"
    if column.kind == "category":
        yield "another spelling", f"{x} <> {text}"
    if column.kind in ("number", "time"):
        yield "not readable, emptied", f"{x} IS NULL AND {text} IS NOT NULL"


def write_dropped(db: duckdb.DuckDBPyConnection, rows: str, folder: Path) -> tuple[str, tuple[Dropped, ...]]:
    """The dropped rows as a file, and what there is to say of them."""
    query = (
        "SELECT _source AS source, _line AS line, _reason AS reason, left(_value, 200) AS value "
        f"FROM {rows} ORDER BY _source, _line"
    )
    file = duck.write(db, query, folder)
    db.execute(f"CREATE OR REPLACE TEMP VIEW dropped AS FROM read_parquet({duck.text(folder / file)})")
    counted = db.execute("SELECT reason, count(*) FROM dropped GROUP BY reason ORDER BY reason").fetchall()
    return file, tuple(Dropped(str(why), int(rows), examples(db, str(why))) for why, rows in counted)


def examples(db: duckdb.DuckDBPyConnection, reason: str) -> tuple[Example, ...]:
    rows = db.execute(
        "SELECT source, line, coalesce(value, '') FROM dropped WHERE reason = ? ORDER BY source, line LIMIT ?",
        [reason, EXAMPLES],
    ).fetchall()
    return tuple(Example(int(source), int(line), str(value)) for source, line, value in rows)


def unique(job: Job, schema: Schema, cleaned: Sequence[Cleaned], bucket: int, buckets: int) -> Cleaned:
    """The rows of one bucket without duplicates: of several, the first in the order of sources and lines stays."""
    names = [duck.name(column.name) for column in schema.columns]
    key = ", ".join([duck.name(column) for column in schema.key] or names)
    files = duck.texts(job.parts / one.file for one in cleaned)
    content = f"md5(concat_ws(chr(31), {', '.join(f'coalesce({x}::VARCHAR, chr(30))' for x in names)}))"
    telling = [duck.name(column) for column in schema.key] or names[:3]
    shown = f"concat_ws(' · ', {', '.join(f'{x}::VARCHAR' for x in telling)})"
    with duck.opened(job.memory_mb, job.parts) as db:
        where = f"WHERE hash({key}) % {buckets} = {bucket}" if buckets > 1 else ""
        db.execute(f"CREATE TEMP VIEW rows AS FROM read_parquet({files}) {where}")
        db.execute(
            f"""
            CREATE TEMP TABLE numbered AS
            SELECT _source, _line, row_number() OVER same AS _n, first_value(_content) OVER same = _content AS _equal
            FROM (SELECT *, {content} AS _content FROM rows)
            WINDOW same AS (PARTITION BY {key} ORDER BY _source, _line)
            """
        )
        kept = duck.write(
            db,
            f"SELECT _source, _line, {', '.join(names)} FROM rows "
            "SEMI JOIN (FROM numbered WHERE _n = 1) AS first USING (_source, _line) ORDER BY _source, _line",
            job.parts,
        )
        gone, reasons = write_dropped(
            db,
            f"(SELECT _source, _line, CASE WHEN _equal THEN '{DUPLICATE}' ELSE '{CONFLICT}' END AS _reason, "
            f"{shown} AS _value FROM rows JOIN (FROM numbered WHERE _n > 1) AS more USING (_source, _line))",
            job.parts,
        )
        kept_by_source = db.execute(
            "SELECT _source, count(*) FROM numbered WHERE _n = 1 GROUP BY _source ORDER BY _source"
        ).fetchall()
        return Cleaned(
            id=f"{bucket + 1} of {buckets}",
            kept=count(db, "numbered WHERE _n = 1"),
            file=kept,
            dropped_file=gone,
            dropped=reasons,
            kept_by_source={int(source): int(rows) for source, rows in kept_by_source},
        )


def count(db: duckdb.DuckDBPyConnection, rows: str) -> int:
    row = db.execute(f"SELECT count(*) FROM {rows}").fetchone()
    assert row is not None
    return int(row[0])


def added_reasons(cleaned: Sequence[Cleaned]) -> tuple[Dropped, ...]:
    """The reasons of several parts as one list, the commonest first. Pure."""
    rows: dict[str, int] = {}
    shown: dict[str, list[Example]] = {}
    for one in cleaned:
        for dropped in one.dropped:
            rows[dropped.reason] = rows.get(dropped.reason, 0) + dropped.rows
            shown.setdefault(dropped.reason, []).extend(dropped.examples)
    order = sorted(rows, key=lambda reason: (-rows[reason], reason))
    first = {
        reason: tuple(sorted(shown[reason], key=lambda one: (one.source, one.line))[:EXAMPLES])
        for reason in order
    }
    return tuple(Dropped(reason, rows[reason], first[reason]) for reason in order)


def added_repairs(cleaned: Sequence[Cleaned]) -> tuple[Repair, ...]:
    """The repairs of several parts as one list, the commonest first. Pure."""
    cells: dict[tuple[str, str], int] = {}
    for one in cleaned:
        for repair in one.repairs:
            known = cells.get((repair.column, repair.what), 0)
            cells[repair.column, repair.what] = known + repair.cells
    order = sorted(cells, key=lambda kind: (-cells[kind], kind))
    return tuple(Repair(column, what, cells[column, what]) for column, what in order)
