"""Analysing: what the cleaned rows say. Each function is one question, asked of DuckDB under its memory limit.

Sums are of decimals, and what must be in order is sorted by it: the figures do not depend on how rows were stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import TypedDict

import duckdb

from examples.report import duck, trend
from examples.report.model import (
    QUANTILES,
    Bin,
    Breakdown,
    Cleaned,
    Column,
    Fence,
    Group,
    Job,
    Outlier,
    Outliers,
    Period,
    Profile,
    Relation,
    Rhythm,
    Schema,
    Series,
    Totals,
    Trends,
)

LISTED = 12  # outliers on the page
FAR = 5.0  # deviations from the median: an outlier
NINE_TENTHS = 3.2897  # standard deviations that the middle nine tenths of a normal distribution span
SKEWED = 3.0  # the 95th percentile over the median: what is counted in ratios, not in differences
GROUPS_SHOWN, GROUPS_TRACED = 12, 6
BINS = 40
COMMON = 5
WEEKS_FOR_A_RHYTHM = 4


@contextmanager
def rows_of(job: Job, cleaned: Sequence[Cleaned]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with the cleaned rows as `rows`."""
    with duck.opened(job.memory_mb, job.parts) as db:
        files = duck.texts(job.parts / one.file for one in cleaned)
        db.execute(f"CREATE TEMP VIEW rows AS FROM read_parquet({files})")
        yield db


def set_aside(db: duckdb.DuckDBPyConnection, schema: Schema, outliers: Outliers | None) -> None:
    """`usual`: the rows without the outliers of the main measure."""
    db.execute(f"CREATE OR REPLACE TEMP VIEW usual AS FROM rows WHERE {within(outliers)}")


def within(outliers: Outliers | None) -> str:
    """The condition that a row is no outlier."""
    if outliers is None or not outliers.fences:
        return "true"
    x = duck.name(outliers.measure)
    if outliers.by is None:
        fence = outliers.fences[0]
        return f"({x} IS NULL OR {x} BETWEEN {fence.low!r}::DOUBLE AND {fence.high!r}::DOUBLE)"
    whens = " ".join(
        f"WHEN {duck.text(fence.group)} THEN {x} BETWEEN {fence.low!r}::DOUBLE AND {fence.high!r}::DOUBLE"
        for fence in outliers.fences
    )
    return f"({x} IS NULL OR CASE {duck.name(outliers.by)} {whens} ELSE true END)"


def one(db: duckdb.DuckDBPyConnection, query: str) -> tuple[object, ...]:
    row = db.execute(query).fetchone()
    assert row is not None
    return tuple(row)


def number(value: object) -> float:
    """A figure of DuckDB's as Python's; nothing counts as 0."""
    return 0.0 if value is None else float(value)  # type: ignore[arg-type]


def exact(expression: str, scale: int) -> str:
    """A sum that is the same in every order: of decimals."""
    return f"sum(({expression})::DECIMAL(38, {scale}))"


def scale_for(largest: float, rows: int) -> int:
    """How many decimals a sum can have without running over 38 digits."""
    digits = math.ceil(math.log10(max(largest, 1.0))) + math.ceil(math.log10(max(rows, 1))) + 2
    return max(0, min(10, 38 - digits))


def scale_of(db: duckdb.DuckDBPyConnection, x: str, rows: str = "rows") -> int:
    largest, count = one(db, f"SELECT max(abs({x})), count({x}) FROM {rows}")
    return scale_for(number(largest), int(number(count)))


def quantiles(
    db: duckdb.DuckDBPyConnection, x: str, at: Sequence[float], group: str | None = None, rows: str = "rows"
) -> dict[str | None, tuple[float, ...]]:
    """Exact quantiles of each group, by a sort that may spill: at position q·(n − 1), between two values by share."""
    g = group or "NULL::VARCHAR"
    where = f"WHERE {x} IS NOT NULL" + (f" AND {group} IS NOT NULL" if group else "")
    counted = db.execute(f"SELECT {g} AS _g, count(*) FROM {rows} {where} GROUP BY 1 ORDER BY 1").fetchall()
    places: dict[int, float] = {}
    begin = 0
    for _, n in counted:
        for q in at:
            low = math.floor(q * (n - 1))
            places[begin + low] = places[begin + min(low + 1, n - 1)] = 0.0
        begin += n
    if not places:
        return {}
    listed = ", ".join(str(place + 1) for place in sorted(places))
    found = db.execute(
        f"SELECT _n, _x FROM (SELECT {x} AS _x, row_number() OVER (ORDER BY {g}, {x}) AS _n FROM {rows} {where}) "
        f"WHERE _n IN ({listed})"
    ).fetchall()
    places = {int(n) - 1: float(value) for n, value in found}
    answer: dict[str | None, tuple[float, ...]] = {}
    begin = 0
    for value, n in counted:
        answer[value] = tuple(between(places, begin, int(n), q) for q in at)
        begin += n
    return answer


def between(places: dict[int, float], begin: int, n: int, q: float) -> float:
    place = q * (n - 1)
    low = math.floor(place)
    left, right = places[begin + low], places[begin + min(low + 1, n - 1)]
    return left + (right - left) * (place - low)


def find_outliers(job: Job, schema: Schema, cleaned: Sequence[Cleaned], measure: str) -> Outliers:
    """The rows whose measure lies more than FAR deviations from the median of its group.

    The group is that of the column whose values explain the measure best. What is skewed and above zero is taken by
    its logarithm.
    """
    with rows_of(job, cleaned) as db:
        x = duck.name(measure)
        least = one(db, f"SELECT min({x}) FROM rows")[0]
        spread = quantiles(db, x, (0.5, 0.95)).get(None)
        if least is None or spread is None:
            return Outliers(measure, None, False, 0, 0.0, (), ())
        logarithmic = number(least) > 0 and spread[1] > SKEWED * spread[0]
        y = f"ln({x})" if logarithmic else x
        by = best_explained(db, schema, y)
        g = duck.name(by) if by else None
        fences = tuple(
            fence_of(group, at, logarithmic)
            for group, at in sorted(
                quantiles(db, y, (0.05, 0.5, 0.95), g).items(), key=lambda item: item[0] or ""
            )
            if at[2] > at[0]
        )
        found = Outliers(measure, by, logarithmic, 0, 0.0, fences, ())
        outside = f"rows WHERE NOT {within(found)}"
        scale = scale_of(db, x)
        count, total = one(db, f"SELECT count(*), {exact(x, scale)} FROM {outside}")
        listed = tuple(list_outliers(db, schema, found))
        return Outliers(measure, by, logarithmic, int(number(count)), number(total), fences, listed)


def chosen(group: str | None, values: dict[str | None, float]) -> str:
    """The value of a row's group."""
    if group is None:
        return f"{values[None]!r}::DOUBLE"
    whens = " ".join(f"WHEN {duck.text(one)} THEN {value!r}::DOUBLE" for one, value in values.items())
    return f"(CASE {group} {whens} END)"


def fence_of(group: str | None, at: Sequence[float], logarithmic: bool) -> Fence:
    """What is usual in a group: its deviation is that of the middle nine tenths, which outliers do not reach."""
    low, median, high = at
    reach = FAR * (high - low) / NINE_TENTHS
    back = math.exp if logarithmic else float
    return Fence(group, back(median - reach), back(median + reach), back(median))


def best_explained(db: duckdb.DuckDBPyConnection, schema: Schema, y: str) -> str | None:
    """The category whose groups explain the largest share of the measure's variance, if it is more than a tenth."""
    best: tuple[float, str] | None = None
    for column in schema.by:
        g = duck.name(column)
        rows = db.execute(
            f"SELECT count({y}), sum(({y})::DECIMAL(38, 10)) FROM rows WHERE {y} IS NOT NULL AND {g} IS NOT NULL "
            f"GROUP BY {g} ORDER BY {g}"
        ).fetchall()
        n, total = sum(row[0] for row in rows), math.fsum(number(row[1]) for row in rows)
        if not n or len(rows) < 2:
            continue
        mean = total / n
        squares = one(
            db,
            f"SELECT sum((({y}) - {mean!r}::DOUBLE) * (({y}) - {mean!r}::DOUBLE)) FROM rows WHERE {g} IS NOT NULL",
        )[0]
        groups = math.fsum(row[0] * (number(row[1]) / row[0] - mean) ** 2 for row in rows)
        share = round(groups / number(squares), 6) if number(squares) else 0.0
        if share > 0.1 and (best is None or share > best[0]):
            best = (share, column)
    return best[1] if best else None


def list_outliers(db: duckdb.DuckDBPyConnection, schema: Schema, found: Outliers) -> Iterator[Outlier]:
    """The farthest from what is usual, by ratio or by difference."""
    x = duck.name(found.measure)
    medians: dict[str | None, float] = {fence.group: fence.median for fence in found.fences}
    if not medians:
        return
    usual = chosen(duck.name(found.by) if found.by else None, medians)
    far = f"abs(ln({x} / {usual}))" if found.logarithmic else f"abs({x} - {usual})"
    cells = [column.name for column in schema.columns if column.name != found.measure][:5]
    shown = ", ".join(f"{duck.name(column)}::VARCHAR" for column in cells)
    group = duck.name(found.by) if found.by else "NULL"
    rows = db.execute(
        f"SELECT _source, _line, {group}, {x}, {usual}{', ' + shown if shown else ''} FROM rows "
        f"WHERE NOT {within(found)} ORDER BY {far} DESC, _source, _line LIMIT {LISTED}"
    ).fetchall()
    for source, line, of, value, median, *rest in rows:
        told = {column: str(cell) for column, cell in zip(cells, rest, strict=True) if cell is not None}
        yield Outlier(int(source), int(line), of, float(value), float(median), told)


def totals(job: Job, schema: Schema, cleaned: Sequence[Cleaned], outliers: Outliers | None) -> Totals:
    """The main measure as a whole, outliers set aside; without a measure, the rows themselves."""
    with rows_of(job, cleaned) as db:
        set_aside(db, schema, outliers)
        time = duck.name(schema.time) if schema.time else "NULL::TIMESTAMP"
        measure, scale = measured(db, schema)
        rows, total, first, last = one(
            db, f"SELECT count({measure}), {exact(measure, scale)}, min({time}), max({time}) FROM usual"
        )
        n = int(number(rows))
        return Totals(n, number(total), number(total) / n if n else 0.0, stamp(first), stamp(last))


def measured(db: duckdb.DuckDBPyConnection, schema: Schema) -> tuple[str, int]:
    """The main measure and the decimals of its sums; where there is none, rows are counted."""
    if not schema.measures:
        return "1::DOUBLE", 0
    x = duck.name(schema.measures[0])
    return x, scale_of(db, x)


def stamp(moment: object) -> str | None:
    return None if moment is None else str(moment)


def profile(job: Job, cleaned: Sequence[Cleaned], column: Column) -> Profile:
    """What one column holds."""
    with rows_of(job, cleaned) as db:
        x = duck.name(column.name)
        rows, filled, least, greatest = one(db, f"SELECT count(*), count({x}), min({x}), max({x}) FROM rows")
        distinct = one(db, f"SELECT count(*) FROM (SELECT {x} FROM rows WHERE {x} IS NOT NULL GROUP BY {x})")[
            0
        ]
        found = Profile(
            column=column.name,
            kind=column.kind,
            rows=int(number(rows)),
            filled=int(number(filled)),
            distinct=int(number(distinct)),
            least=shown(least),
            greatest=shown(greatest),
        )
        if column.kind == "number" and found.filled:
            return number_profile(db, x, found, number(least), number(greatest))
        return found if column.kind in ("key", "time") else text_profile(db, x, found)


def shown(value: object) -> str:
    """The least or greatest value, short enough for a table."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:60]


def number_profile(
    db: duckdb.DuckDBPyConnection, x: str, found: Profile, least: float, greatest: float
) -> Profile:
    """Mean, deviation, quantiles and a histogram of what lies between the 5th and the 95th percentile and around."""
    largest = max(abs(least), abs(greatest))
    total = number(one(db, f"SELECT {exact(x, scale_for(largest, found.filled))} FROM rows")[0])
    mean = total / found.filled
    scale = scale_for((greatest - least) ** 2, found.filled)
    squares = number(
        one(db, f"SELECT {exact(f'({x} - {mean!r}::DOUBLE) * ({x} - {mean!r}::DOUBLE)', scale)} FROM rows")[0]
    )
    deviation = math.sqrt(max(0.0, squares) / max(1, found.filled - 1))
    at = quantiles(db, x, QUANTILES)[None]
    return Profile(
        **{name: getattr(found, name) for name in ("column", "kind", "rows", "filled", "distinct")},
        least=found.least,
        greatest=found.greatest,
        mean=mean,
        deviation=deviation,
        quantiles=at,
        **histogram(db, x, at, least, greatest),
    )


class Bars(TypedDict):
    """The bars of a histogram, and whether they are equal in ratio."""

    bins: tuple[Bin, ...]
    logarithmic: bool


def histogram(
    db: duckdb.DuckDBPyConnection, x: str, at: Sequence[float], least: float, greatest: float
) -> Bars:
    """A bar for each whole number if they are few; else equal bars, in ratio where the values are skewed."""
    low, high = reach(at, least, greatest)
    whole = one(db, f"SELECT coalesce(bool_and({x} = floor({x})), false) FROM rows WHERE {x} IS NOT NULL")[0]
    y, logarithmic = x, False
    if whole and high - low < BINS:
        low, high, bars = (
            math.floor(low) - 0.5,
            math.floor(high) + 0.5,
            math.floor(high) - math.floor(low) + 1,
        )
    else:
        bars = BINS
        if least > 0 and at[4] > SKEWED * at[2]:
            logarithmic, y = True, f"ln({x})"
            low, high = math.log(least), math.log(min(greatest, at[4] * at[4] / at[2]))
    width = (high - low) / bars
    if width <= 0:
        return Bars(bins=(), logarithmic=False)
    counted = dict(
        db.execute(
            f"SELECT least({bars - 1}, floor(({y} - {low!r}::DOUBLE) / {width!r}::DOUBLE))::INTEGER AS _bin, count(*) "
            f"FROM rows WHERE {y} BETWEEN {low!r}::DOUBLE AND {high!r}::DOUBLE GROUP BY _bin ORDER BY _bin"
        ).fetchall()
    )
    edges = [low + width * place for place in range(bars + 1)]
    if logarithmic:
        edges = [math.exp(edge) for edge in edges]
    bins = tuple(Bin(edges[n], edges[n + 1], int(counted.get(n, 0))) for n in range(bars))
    return Bars(bins=bins, logarithmic=logarithmic)


def reach(at: Sequence[float], least: float, greatest: float) -> tuple[float, float]:
    """What a histogram shows: all, or, where far values would squeeze the rest into one bar, the usual range."""
    span = at[4] - at[0]
    return max(least, at[0] - span), min(greatest, at[4] + span)


def text_profile(db: duckdb.DuckDBPyConnection, x: str, found: Profile) -> Profile:
    """The commonest values."""
    common = db.execute(
        f"SELECT {x}, count(*) AS _n FROM rows WHERE {x} IS NOT NULL GROUP BY {x} ORDER BY _n DESC, {x} LIMIT {COMMON}"
    ).fetchall()
    return Profile(
        **{name: getattr(found, name) for name in ("column", "kind", "rows", "filled", "distinct")},
        common=tuple((str(value)[:60], int(n)) for value, n in common),
    )


def trends(job: Job, schema: Schema, cleaned: Sequence[Cleaned], outliers: Outliers | None) -> Trends | None:
    """The main measure by whole periods: in all, and for the largest groups of each category."""
    if schema.time is None:
        return None
    with rows_of(job, cleaned) as db:
        set_aside(db, schema, outliers)
        time = duck.name(schema.time)
        first, last = one(db, f"SELECT min({time}), max({time}) FROM usual")
        if not isinstance(first, datetime) or not isinstance(last, datetime):
            return None
        period = trend.period_of((last - first).days)
        starts = whole_periods(first, last, period)
        if not starts:
            return None
        measure, scale = measured(db, schema)

        def sums(where: str = "true") -> list[float]:
            rows = db.execute(
                f"SELECT date_trunc('{period}', {time})::DATE AS _start, {exact(measure, scale)} FROM usual "
                f"WHERE {where} GROUP BY _start ORDER BY _start"
            ).fetchall()
            found = {start: number(total) for start, total in rows if start is not None}
            return [found.get(start, 0.0) for start in starts]

        groups = [
            series(sums(f"{duck.name(column)} = {duck.text(value)}"), starts, period, column, value)
            for column in schema.by
            for value in largest(db, duck.name(column), measure, scale)
        ]
        return Trends(
            period,
            tuple(map(str, starts)),
            series(sums(), starts, period, None, None),
            tuple(groups),
        )


def largest(db: duckdb.DuckDBPyConnection, column: str, measure: str, scale: int) -> list[str]:
    rows = db.execute(
        f"SELECT {column}, {exact(measure, scale)} AS _total FROM usual WHERE {column} IS NOT NULL "
        f"GROUP BY {column} ORDER BY _total DESC NULLS LAST, {column} LIMIT {GROUPS_TRACED}"
    ).fetchall()
    return [str(value) for value, _ in rows]


def whole_periods(first: datetime, last: datetime, period: Period) -> list[date]:
    """The starts of the periods that lie wholly within the data: half a week looks like a fall."""
    start = start_of(first.date(), period)
    if start < first.date():
        start = following(start, period)
    starts = []
    while following(start, period) <= last.date() + timedelta(days=1):
        starts.append(start)
        start = following(start, period)
    return starts


def start_of(day: date, period: Period) -> date:
    if period == "day":
        return day
    return day - timedelta(days=day.weekday()) if period == "week" else day.replace(day=1)


def following(start: date, period: Period) -> date:
    if period == "month":
        return (start.replace(day=28) + timedelta(days=4)).replace(day=1)
    return start + timedelta(days=1 if period == "day" else 7)


def series(
    values: Sequence[float], starts: Sequence[date], period: Period, by: str | None, group: str | None
) -> Series:
    """A series with its trend and its shift."""
    found = trend.line(values)
    shift = trend.shift(values, list(map(str, starts)))
    slope, t = (shift.slope, shift.slope_t) if shift else (found.slope, found.t)
    return Series(
        by=by,
        group=group,
        totals=tuple(values),
        slope=found.slope,
        intercept=found.intercept,
        growth=trend.growth(slope, values, period),
        clear=abs(t) >= trend.CLEAR_T,
        shift=shift,
    )


def breakdown(
    job: Job, schema: Schema, cleaned: Sequence[Cleaned], outliers: Outliers | None, by: str
) -> Breakdown:
    """The main measure by the values of a column, the largest first."""
    with rows_of(job, cleaned) as db:
        set_aside(db, schema, outliers)
        measure, scale = measured(db, schema)
        g = duck.name(by)
        rows = db.execute(
            f"SELECT {g} AS _value, count({measure}), {exact(measure, scale)} AS _total FROM usual "
            "GROUP BY _value ORDER BY _total DESC NULLS LAST, _value"
        ).fetchall()
        spread = quantiles(db, measure, QUANTILES, g, "usual")
        outside = dict(
            db.execute(f"SELECT {g}, count(*) FROM rows WHERE NOT {within(outliers)} GROUP BY 1").fetchall()
        )
        groups = tuple(
            Group(
                value=value,
                rows=int(n),
                total=number(total),
                mean=number(total) / n if n else 0.0,
                quantiles=spread.get(value, ()),
                outliers=int(outside.get(value, 0)),
            )
            for value, n, total in rows[:GROUPS_SHOWN]
        )
        return Breakdown(by, groups, max(0, len(rows) - GROUPS_SHOWN))


def rhythm(job: Job, schema: Schema, cleaned: Sequence[Cleaned], outliers: Outliers | None) -> Rhythm | None:
    """Weekdays and hours."""
    if schema.time is None:
        return None
    with rows_of(job, cleaned) as db:
        set_aside(db, schema, outliers)
        measure, scale = measured(db, schema)
        time = duck.name(schema.time)
        rows = db.execute(
            f"SELECT isodow({time}) - 1, hour({time}), count(*), {exact(measure, scale)} FROM usual "
            f"WHERE {time} IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"
        ).fetchall()
        found = tuple((int(day), int(hour), int(n), number(total)) for day, hour, n, total in rows)
        first, last = one(db, f"SELECT min({time}), max({time}) FROM usual")
        days = (last - first).days if isinstance(first, datetime) and isinstance(last, datetime) else 0
        return Rhythm(found, len({hour for _, hour, _, _ in found}) > 1, days >= WEEKS_FOR_A_RHYTHM * 7)


def relations(
    job: Job, schema: Schema, cleaned: Sequence[Cleaned], outliers: Outliers | None
) -> tuple[Relation, ...]:
    """How the measures go together, two by two (Pearson, outliers of the main one set aside)."""
    with rows_of(job, cleaned) as db:
        set_aside(db, schema, outliers)
        found = []
        for left, right in combinations(schema.measures, 2):
            x, y = duck.name(left), duck.name(right)
            rows, correlation = one(
                db, f"SELECT count(*), corr({x}, {y}) FROM usual WHERE {x} IS NOT NULL AND {y} IS NOT NULL"
            )
            if correlation is not None and math.isfinite(number(correlation)):
                found.append(Relation(left, right, int(number(rows)), round(number(correlation), 6)))
        return tuple(found)


def dropped_rows(job: Job, cleaned: Sequence[Cleaned], sources: Sequence[str], target: Path) -> None:
    """Every dropped row with its reason, as a CSV for those who want to look."""
    with duck.opened(job.memory_mb, job.parts) as db:
        files = duck.texts(job.parts / one.dropped_file for one in cleaned)
        names = f"{duck.texts(sources)}[source + 1]"
        db.execute(
            f"COPY (SELECT {names} AS source, line, reason, value FROM read_parquet({files}) AS gone "
            f"ORDER BY gone.source, line) TO {duck.text(target)} (FORMAT csv, HEADER)"
        )
