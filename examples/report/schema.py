"""What the columns are taken for: decided by the tallies of all parts, and by the brief where it says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from examples.report.model import VALUES_KEPT, Brief, Column, DateOrder, Kind, Part, Schema, Source, Tally

MOSTLY = 0.9  # of the filled cells: the rest are slips
ROWS_A_VALUE = 10  # on average, or it is no category
MEASURES, CATEGORIES = 3, 4  # that the report looks at, unless the brief names others
ROWS_A_MB = 2_500  # of memory, where duplicates are looked for
NO_MEASURE = ("id", "no", "nr", "number", "code", "zip", "year", "phone")  # figures that nobody adds up


class NoReport(Exception):
    """The sources do not go together, or the brief names what is not there."""


def common_columns(sources: Sequence[Source]) -> tuple[str, ...]:
    """The columns that every source has, in the order of the first. Raises NoReport when there are none."""
    shared = [
        column for column in sources[0].columns if all(column in source.columns for source in sources[1:])
    ]
    if not shared:
        listed = "; ".join(f"{source.name}: {', '.join(source.columns)}" for source in sources)
        raise NoReport(f"the sources have no column in common, make a report of each: {listed}")
    return tuple(shared)


def decide(brief: Brief, sources: Sequence[Source], parts: Sequence[Part]) -> Schema:
    """Every column's kind, and which ones the report is about."""
    names = common_columns(sources)
    whole = {name: added(part.tallies[name] for part in parts) for name in names}
    for name in (*brief.key, *brief.measures, *brief.by, *brief.required, *brief.limits):
        known(name, names)
    if brief.time is not None:
        known(brief.time, names)
    kinds = {name: kind_of(name, whole[name], brief) for name in names}
    if not any(tally.filled for tally in whole.values()):
        raise NoReport("the sources have no rows with anything in them")
    time = brief.time or next((name for name in names if kinds[name] == "time"), None)
    measures = brief.measures or tuple(name for name in names if is_measure(name, kinds[name]))[:MEASURES]
    by = brief.by or tuple(name for name in names if kinds[name] == "category")[:CATEGORIES]
    required = brief.required or (*brief.key, *([time] if time else []), *measures[:1])
    columns = tuple(
        Column(
            name=name,
            kind=kinds[name],
            required=name in required,
            low=brief.limits.get(name, (None, None))[0],
            high=brief.limits.get(name, (None, None))[1],
            orders=orders_of(name, sources, parts) if kinds[name] == "time" else (),
            spellings=spellings_of(whole[name]) if kinds[name] == "category" else {},
        )
        for name in names
    )
    return Schema(columns=columns, key=brief.key, time=time, measures=measures, by=by)


def added(tallies: Iterable[Tally]) -> Tally:
    """The tallies of all parts as one."""
    whole = Tally()
    for tally in tallies:
        whole += tally
    return whole


def known(name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise NoReport(f"the brief names the column {name}; the sources have {', '.join(names)}")


def kind_of(name: str, tally: Tally, brief: Brief) -> Kind:
    """The brief's word, else what nine cells of ten look like."""
    if name in brief.key:
        return "key"
    if name == brief.time:
        return "time"
    if name in brief.measures or name in brief.limits:
        return "number"
    if name in brief.by:
        return "category"
    if tally.filled and tally.times >= MOSTLY * tally.filled:
        return "time"
    if tally.filled and tally.numbers >= MOSTLY * tally.filled:
        return "number"
    few = tally.values is not None and 1 < len({value.lower() for value in tally.values}) <= VALUES_KEPT
    if few and tally.values is not None and tally.filled >= ROWS_A_VALUE * len(tally.values):
        return "category"
    return "text"


def is_measure(name: str, kind: Kind) -> bool:
    return kind == "number" and name.split("_")[-1] not in NO_MEASURE


def orders_of(name: str, sources: Sequence[Source], parts: Sequence[Part]) -> tuple[DateOrder, ...]:
    """What 03/04/2024 means in each source: what its other dates say that cannot be read the other way."""
    return tuple(
        order_of(added(part.tallies[name] for part in parts if part.source == source.number))
        for source in sources
    )


def order_of(tally: Tally) -> DateOrder:
    if bool(tally.day_first) == bool(tally.month_first):
        return "unknown"
    return "day first" if tally.day_first else "month first"


def spellings_of(tally: Tally) -> dict[str, str]:
    """Each value without regard to case → its commonest spelling."""
    best: dict[str, tuple[int, str]] = {}
    for value, count in sorted((tally.values or {}).items()):
        folded = value.lower()
        if folded not in best or count > best[folded][0]:
            best[folded] = (count, value)
    return {folded: value for folded, (_, value) in best.items()}


def buckets_of(rows: int, memory_mb: int) -> int:
    """In how many buckets duplicates are looked for: one of them fits under the limit without spilling much."""
    return max(1, -(-rows // (memory_mb * ROWS_A_MB)))
