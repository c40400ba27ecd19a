"""The same report once more, from the sources, in plain Python: no DuckDB, no part of the agent's code but its nouns.

It is slow and simple, and that is its worth: what it says of the data it says for other reasons than the agent does.
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
import sqlite3
import subprocess
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb

from examples.report.model import Column, Outliers, Report, Schema, Source

NOTHING = {"n/a", "na", "#n/a", "null", "none", "nan", "nil", "-", "--", "?"}
BLANKS = re.compile("[\\s\u00a0\u200b\ufeff]+")
PLAIN = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,2})?", re.ASCII)
ISO = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d+))?)?(Z|[-+]\d{2}:?\d{2})?)?",
    re.ASCII,
)
FIGURES = re.compile(r"(\d{1,2})([./])(\d{1,2})\2(\d{4})(?: (\d{1,2}):(\d{2})(?::(\d{2}))?)?", re.ASCII)
WORDED = ("%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y")
Row = tuple[int, list[str | None] | None, str]  # line, cells, and what stood there if it was no row


@dataclass(slots=True)
class Recount:
    """What plain Python finds."""

    read: int = 0
    kept: int = 0
    kept_by_source: list[int] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    sums: dict[str, Decimal] = field(default_factory=dict)  # column → of all kept rows
    filled: Counter[str] = field(default_factory=Counter)
    different: dict[str, int] = field(default_factory=dict)
    outliers: int = 0
    outlier_total: Decimal = Decimal(0)
    total: Decimal = Decimal(0)  # of the main measure, without outliers
    total_by: dict[tuple[str, str | None], Decimal] = field(default_factory=dict)
    total_by_period: dict[str, Decimal] = field(default_factory=dict)


@dataclass(slots=True)
class Kept:
    """A kept row: what the figures need of it."""

    main: Decimal | None
    when: datetime | None
    groups: tuple[str | None, ...]


def recount(report: Report, paths: Sequence[str]) -> Recount:
    """Read every source, clean every row, and add up. `paths` as the agent was told."""
    schema, found = report.schema, Recount()
    seen: dict[bytes, bytes] = {}
    kept: list[Kept] = []
    distinct: dict[str, set[bytes]] = {column.name: set() for column in schema.columns}
    for source, named in zip(report.sources, paths, strict=True):
        before = found.kept
        rows = list(rows_of(source, named)) if source.size < 1 << 20 else rows_of(source, named)
        order = date_order(schema, source, named)
        for _, cells, why in rows:
            found.read += 1
            reason, values = judged(schema, source, cells, why, order)
            if reason is None:
                reason = doubled(schema, values, seen)
            if reason is not None:
                found.dropped[reason] += 1
                continue
            found.kept += 1
            count_cells(schema, values, found, distinct)
            kept.append(kept_row(schema, values))
        found.kept_by_source.append(found.kept - before)
    found.different = {name: len(values) for name, values in distinct.items()}
    add_up(report, kept, found)
    return found


def rows_of(source: Source, named: str) -> Iterator[Row]:
    """Every row of a source, by the plainest means there are."""
    if source.format == "csv":
        yield from csv_rows(Path(named), source)
    elif source.format == "sqlite":
        yield from sqlite_rows(named.partition("::")[0], source.table)
    elif source.format == "parquet":
        for number, row in enumerate(duckdb.connect().execute("FROM read_parquet(?)", [named]).fetchall(), 1):
            yield number, [None if cell is None else mended(str(cell)) for cell in row], ""
    else:
        yield from git_rows(named.removeprefix("git:"), source.digest)


def sqlite_rows(path: str, table: str) -> Iterator[Row]:
    """In the order of the rows' numbers, or of all columns where rows have none."""
    quoted = table.replace('"', '""')
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        columns = [str(row[1]).lower() for row in db.execute(f'PRAGMA table_info("{quoted}")')]
        order = next((name for name in ("rowid", "_rowid_", "oid") if name not in columns), "1")
        try:
            rows = db.execute(f'SELECT * FROM "{quoted}" ORDER BY {order}')
        except sqlite3.OperationalError:  # a view, or a table WITHOUT ROWID
            places = ", ".join(str(place) for place in range(1, len(columns) + 1))
            rows = db.execute(f'SELECT * FROM "{quoted}" ORDER BY {places}')
        for number, row in enumerate(rows, 1):
            yield number, [None if cell is None else mended(plain_text(cell)) for cell in row], ""


def plain_text(cell: object) -> str:
    if not isinstance(cell, bytes):
        return str(cell)
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return cell.decode("cp1252", errors="replace")


def csv_rows(path: Path, source: Source) -> Iterator[Row]:
    def lines() -> Iterator[str]:
        with path.open("rb") as stream:
            for raw in stream:
                yield mended(plain_text(raw))

    reader = csv.reader(lines(), delimiter=source.delimiter)
    next(reader)
    for cells in reader:
        if len(cells) == len(source.columns):
            yield reader.line_num, list(cells), ""
        elif cells:
            yield reader.line_num, None, f"not a row: {len(cells)} cells instead of {len(source.columns)}"


def git_rows(path: str, commit: str) -> Iterator[Row]:
    shown = ("log", "--no-merges", "--no-renames", "--numstat", "--format=commit %H%n%at%n%an", commit)
    said = subprocess.run(
        ["git", "-C", path, "-c", "core.quotePath=false", *shown], capture_output=True, check=True
    ).stdout.decode(errors="replace")
    number = 0
    for block in re.split("(?m)^commit (?=[0-9a-f]{40,64}$)", said)[1:]:
        name, at, author, *changes = block.splitlines()
        when = str(EPOCH + timedelta(seconds=int(at)))
        for change in filter(None, changes):
            added, removed, file = change.split("\t", 2)
            number += 1
            lines = None if added == "-" else str(int(added) + int(removed))
            area = file.split("/")[0] if "/" in file else "(top)"
            kind = Path(file).suffix or "(none)"
            yield number, [name, when, mended(author), mended(file), area, kind, lines, added, removed], ""


EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 -- times of the report have no zone


def mended(text: str) -> str:
    """UTF-8 that was taken for Windows-1252 and encoded again, letter by letter."""
    if text.isascii() or not any(mark in text for mark in "ÂÃÄÅâ"):
        return text
    out, place = "", 0
    while place < len(text):
        for length in (4, 3, 2) if "\u00c2" <= text[place] <= "\u00f4" else ():
            with suppress(UnicodeError):
                whole = text[place : place + length].encode("cp1252").decode()
                if len(whole) == 1 and not whole.isascii() and len(text[place : place + length]) == length:
                    out, place = out + whole, place + length
                    break
        else:
            out, place = out + text[place], place + 1
    return out


def tidy(cell: str | None) -> str | None:
    """The text of a cell, or None where somebody wrote that there is nothing."""
    if cell is None:
        return None
    text = BLANKS.sub(" ", cell).strip(" ")
    return None if not text or text.lower() in NOTHING else text


def number(text: str) -> Decimal | None:
    """A number in any of the ways people write one."""
    for bare in (text, re.sub("[ $€£]|EUR|USD|GBP", "", text)):
        if PLAIN.fullmatch(bare):
            return Decimal(bare)
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", bare, re.ASCII):
        return Decimal(bare.replace(",", ""))
    if re.fullmatch(r"[-+]?\d{1,3}(\.\d{3})+,\d+", bare, re.ASCII):
        return Decimal(bare.replace(".", "").replace(",", "."))
    return Decimal(bare.replace(",", ".")) if re.fullmatch(r"[-+]?\d+,\d+", bare, re.ASCII) else None


def moment(text: str, order: str) -> datetime | str | None:
    """A time in any of the ways people write one; the word "ambiguous" if it could be either of two days."""
    try:
        when = iso(text) or figures(text, order) or worded(text)
    except ValueError:
        return None
    if isinstance(when, datetime):
        return when if 1900 <= when.year <= 2100 else None
    return when


def iso(text: str) -> datetime | None:
    found = ISO.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, part, zone = found.groups()
    when = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0))  # noqa: DTZ001
    when += timedelta(microseconds=int(((part or "") + "000000")[:6]))
    if zone and zone != "Z":
        minutes = int(zone[1:3]) * 60 + int(zone[-2:])
        when -= timedelta(minutes=minutes if zone[0] == "+" else -minutes)
    return when


def figures(text: str, order: str) -> datetime | str | None:
    found = FIGURES.fullmatch(text)
    if found is None:
        return None
    first, mark, second, year = int(found[1]), found[2], int(found[3]), int(found[4])
    day, month = first, second
    if mark == "/" and first <= 12:
        if second <= 12 and first != second and order == "unknown":
            return "ambiguous"
        if second > 12 or order == "month first":
            day, month = second, first
    return datetime(year, month, day, int(found[5] or 0), int(found[6] or 0), int(found[7] or 0))  # noqa: DTZ001


def worded(text: str) -> datetime | None:
    for form in WORDED:
        with suppress(ValueError):
            return datetime.strptime(text, form)  # noqa: DTZ007
    return None


def date_order(schema: Schema, source: Source, named: str) -> str:
    """What 03/04/2024 means in a source: what its other dates cannot mean."""
    if schema.time is None:
        return "unknown"
    place, day, month = source.columns.index(schema.time), False, False
    for _, cells, _ in rows_of(source, named):
        text = tidy(cells[place]) if cells else None
        found = FIGURES.fullmatch(text) if text else None
        if found and found[2] == "/":
            day, month = day or int(found[1]) > 12, month or int(found[3]) > 12
    return "unknown" if day == month else "day first" if day else "month first"


def judged(
    schema: Schema, source: Source, cells: list[str | None] | None, why: str, order: str
) -> tuple[str | None, dict[str, object]]:
    """The first reason to drop a row, or its values."""
    if cells is None:
        return why, {}
    values: dict[str, object] = {}
    reason: str | None = None
    for column in schema.columns:
        text = tidy(cells[source.columns.index(column.name)])
        value = typed(column, text, order)
        if reason is None and column.required:
            if text is None:
                reason = f"no {column.name}"
            elif value == "ambiguous" and column.kind == "time":
                reason = f"{column.name} could be either of two days"
            elif value is None:
                reason = f"{column.name} cannot be read"
        values[column.name] = None if value == "ambiguous" and column.kind == "time" else value
    for column in schema.columns if reason is None else ():
        value = values[column.name]
        if reason is None and isinstance(value, Decimal):
            if column.low is not None and value < Decimal(column.low):
                reason = f"{column.name} below {column.low:g}"
            elif column.high is not None and value > Decimal(column.high):
                reason = f"{column.name} above {column.high:g}"
    return reason, values


def typed(column: Column, text: str | None, order: str) -> object:
    if text is None:
        return None
    if column.kind == "number":
        return number(text)
    if column.kind == "time":
        return moment(text, order)
    return column.spellings.get(text.lower(), text) if column.kind == "category" else text


def doubled(schema: Schema, values: dict[str, object], seen: dict[bytes, bytes]) -> str | None:
    """Whether a row of this key was kept already."""
    content = digest([values[column.name] for column in schema.columns])
    key = digest([values[name] for name in schema.key]) if schema.key else content
    if key not in seen:
        seen[key] = content
        return None
    return "a duplicate" if seen[key] == content else "a second row of the same key, with other values"


def digest(values: Sequence[object]) -> bytes:
    plain = [float(value) if isinstance(value, Decimal) else value for value in values]
    return hashlib.blake2b(repr(plain).encode(), digest_size=12).digest()


def count_cells(
    schema: Schema, values: dict[str, object], found: Recount, distinct: dict[str, set[bytes]]
) -> None:
    for column in schema.columns:
        value = values[column.name]
        if value is None:
            continue
        found.filled[column.name] += 1
        distinct[column.name].add(digest([value]))
        if isinstance(value, Decimal):
            found.sums[column.name] = found.sums.get(column.name, Decimal(0)) + value


def kept_row(schema: Schema, values: dict[str, object]) -> Kept:
    main = values[schema.measures[0]] if schema.measures else Decimal(1)
    when = values[schema.time] if schema.time else None
    return Kept(
        main if isinstance(main, Decimal) else None,
        when if isinstance(when, datetime) else None,
        tuple(None if values[by] is None else str(values[by]) for by in schema.by),
    )


def add_up(report: Report, kept: Sequence[Kept], found: Recount) -> None:
    """Set the outliers aside by fences of our own, then add up."""
    schema = report.schema
    first = report.analysis.outliers[0] if report.analysis.outliers else None
    place = schema.by.index(first.by) if first and first.by else None
    fences = fences_of(first, place, kept) if first else {}
    period = report.analysis.trends.period if report.analysis.trends else "week"
    by: dict[tuple[str, str | None], Decimal] = defaultdict(Decimal)
    periods: dict[str, Decimal] = defaultdict(Decimal)
    for row in kept:
        low, high = fences.get(row.groups[place] if place is not None else None, (-math.inf, math.inf))
        if row.main is not None and not low <= float(row.main) <= high:
            found.outliers += 1
            found.outlier_total += row.main
            continue
        amount = row.main or Decimal(0)
        found.total += amount
        for column, value in zip(schema.by, row.groups, strict=True):
            by[column, value] += amount
        if row.when is not None:
            periods[start_of(row.when, period)] += amount
    found.total_by, found.total_by_period = dict(by), dict(periods)


def fences_of(
    first: Outliers, place: int | None, kept: Sequence[Kept]
) -> dict[str | None, tuple[float, float]]:
    """What is usual in each group, from sorted lists."""
    lists: dict[str | None, array[float]] = defaultdict(lambda: array("d"))
    for row in kept:
        group = row.groups[place] if place is not None else None
        if row.main is not None and (place is None or group is not None):
            lists[group].append(math.log(float(row.main)) if first.logarithmic else float(row.main))
    fences: dict[str | None, tuple[float, float]] = {}
    for group, values in lists.items():
        ordered = sorted(values)
        low, middle, high = (quantile(ordered, q) for q in (0.05, 0.5, 0.95))
        if high > low:
            reach = 5 * (high - low) / 3.2897
            ends = (middle - reach, middle + reach)
            fences[group] = (math.exp(ends[0]), math.exp(ends[1])) if first.logarithmic else ends
    return fences


def quantile(ordered: Sequence[float], q: float) -> float:
    place = q * (len(ordered) - 1)
    low = int(place)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (place - low)


def start_of(when: datetime, period: str) -> str:
    day = when.date()
    if period == "month":
        day = day.replace(day=1)
    elif period == "week":
        day -= timedelta(days=day.weekday())
    return str(day)
