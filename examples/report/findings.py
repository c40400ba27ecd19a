"""What stands out, in sentences: the first thing that a reader reads. Pure, and the same words for the same figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from examples.report import trend, words
from examples.report.model import Breakdown, Period, Report, Series, Trends

Tone = Literal["plain", "rise", "fall", "warn", "good"]
SHIFTS_TOLD = 2
SAME_EVENT = 2  # periods: shifts as near as that are one event, seen in several groups
MUCH_DROPPED = 0.05
SMALL = 0.001
PERIODS_FOR_A_TREND = 6
MONTHS_FOR_A_PACE = 2  # of data: with less, what it does in a month is not known


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence, with the words that matter first."""

    tone: Tone
    head: str
    text: str


@dataclass(frozen=True, slots=True)
class Pace:
    """How much a series rises (or falls) each period, as a share of its mean."""

    share: float
    each: Period


def title(report: Report) -> str:
    """The brief's, else the name of the only source, else what they have in common."""
    if report.brief.title:
        return report.brief.title
    names = [source.name for source in report.sources]
    return names[0] if len(names) == 1 else f"{names[0]} and {words.many(len(names) - 1, 'more source')}"


def measure(report: Report) -> str:
    return words.label(report.schema.measures[0]) if report.schema.measures else "rows"


def findings(report: Report) -> list[Finding]:
    """All that is worth a sentence, the most important first."""
    return [
        *volume(report),
        *direction(report),
        *shifts(report),
        *shares(report),
        *rhythm(report),
        *strange(report),
        *quality(report),
    ]


def volume(report: Report) -> Iterator[Finding]:
    totals, unit = report.analysis.totals, report.brief.unit
    when = f" {words.span(totals.first, totals.last)}" if totals.first and totals.last else ""
    rows = words.many(totals.rows, "row")
    if not report.schema.measures:
        yield Finding("plain", rows, f"{rows}{when}.")
        return
    yield Finding(
        "plain",
        f"{words.figure(totals.total, unit)} in all",
        f"The total of {measure(report)} is {words.exactly(totals.total, unit)}, in {rows}{when}; "
        f"the average is {words.figure(totals.mean, unit)}.",
    )


def pace(series: Series, trends: Trends) -> Pace | None:
    """How fast a clear trend goes: a month, or, where the data covers less than two, a period."""
    if not series.clear or series.growth is None or len(trends.starts) < PERIODS_FOR_A_TREND:
        return None
    periods = trend.PERIODS_A_MONTH[trends.period]
    if len(trends.starts) < MONTHS_FOR_A_PACE * periods:
        return Pace(series.growth / periods, trends.period)
    return Pace(series.growth, "month")


def direction(report: Report) -> Iterator[Finding]:
    """The trend of the whole."""
    trends = report.analysis.trends
    if trends is None or trends.whole.growth is None or len(trends.starts) < PERIODS_FOR_A_TREND:
        return
    apart = ", apart from one change of level" if trends.whole.shift else ""
    over = f"over {words.many(len(trends.starts), f'whole {trends.period}')}"
    total = f"The {words.EACH[trends.period]} total"
    found = pace(trends.whole, trends)
    if found is None:
        yield Finding("plain", "No clear trend", f"{total} neither rises nor falls clearly {over}.")
        return
    rises = found.share > 0
    yield Finding(
        "rise" if rises else "fall",
        f"{words.change(found.share)} a {found.each}",
        f"{total} {'rises' if rises else 'falls'} by {words.percent(abs(found.share))} of its average each "
        f"{found.each}, {over}{apart}.",
    )


def shifts(report: Report) -> Iterator[Finding]:
    """The levels that changed at once, the largest first; what others show of the same event is not told again."""
    trends = report.analysis.trends
    if trends is None:
        return
    found = [one for one in (trends.whole, *trends.groups) if one.shift is not None]
    found.sort(key=lambda one: -abs(one.shift.share if one.shift else 0.0))
    told: list[int] = []
    for one in found:
        shift = one.shift
        assert shift is not None
        if len(told) == SHIFTS_TOLD or any(abs(shift.index - other) <= SAME_EVENT for other in told):
            continue
        told.append(shift.index)
        rises = shift.share > 0
        yield Finding(
            "rise" if rises else "fall",
            f"{called(one, report)}: {words.change(shift.share)}",
            f"{where(one)} the {words.EACH[trends.period]} total {'jumped' if rises else 'dropped'} by "
            f"{words.percent(abs(shift.share))} in {words.period(shift.at, trends.period)}, from "
            f"{words.figure(shift.before, report.brief.unit)} to {words.figure(shift.after, report.brief.unit)}, "
            "and stayed there.",
        )


def called(series: Series, report: Report) -> str:
    return series.group if series.group is not None else words.title(measure(report))


def where(series: Series) -> str:
    return (
        f"In {words.label(series.by)} {series.group}" if series.by and series.group is not None else "In all,"
    )


def led(report: Report) -> Iterator[Breakdown]:
    """The columns in which one group stands out."""
    total = report.analysis.totals.total
    for breakdown in report.analysis.breakdowns:
        groups = [group for group in breakdown.groups if group.value is not None]
        if len(groups) < 2 or total <= 0 or any(group.total < 0 for group in groups):
            continue
        if groups[0].total >= 1.5 * total / (len(groups) + breakdown.others):
            yield replace(breakdown, groups=tuple(groups))


def shares(report: Report) -> Iterator[Finding]:
    """The largest group of each column, where one stands out."""
    total = report.analysis.totals.total
    for breakdown in led(report):
        first, last = breakdown.groups[0], breakdown.groups[-1]
        least = f", {last.value} {words.percent(last.total / total)}" if last.total >= SMALL * total else ""
        yield Finding(
            "plain",
            f"{first.value}: {words.percent(first.total / total)}",
            f"By {words.label(breakdown.by)}, {first.value} makes {words.percent(first.total / total)} of "
            f"{measure(report)}{least}.",
        )


def rhythm(report: Report) -> Iterator[Finding]:
    """The best and the worst weekday, when they differ."""
    if report.analysis.rhythm is None or not report.analysis.rhythm.weeks:
        return
    days = [0.0] * 7
    for weekday, _, _, total in report.analysis.rhythm.rows:
        days[weekday] += total
    best, worst = max(days), min(days)
    if best <= 0 or worst < 0 or worst > 0.85 * best or report.analysis.totals.rows < 100:
        return
    high, low = words.WEEKDAYS[days.index(best)], words.WEEKDAYS[days.index(worst)]
    yield Finding(
        "plain",
        f"Most on {high}s",
        f"{high} is the strongest weekday with {words.percent(best / sum(days))} of {measure(report)}; "
        f"{low} the weakest with {words.percent(worst / sum(days))}.",
    )


def strange(report: Report) -> Iterator[Finding]:
    """The outliers of the main measure."""
    if not report.analysis.outliers or not report.analysis.outliers[0].rows:
        return
    found = report.analysis.outliers[0]
    where = f" for their {words.label(found.by)}" if found.by else ""
    yield Finding(
        "warn",
        words.many(found.rows, "outlier"),
        f"{words.many(found.rows, 'row')} with {words.label(found.measure)} far outside of what is usual{where} "
        f"{'add' if found.rows > 1 else 'adds'} up to {words.figure(found.total, report.brief.unit)}. "
        "They are set aside: no total, trend or group here counts them.",
    )


def quality(report: Report) -> Iterator[Finding]:
    """What was dropped."""
    gone = report.rows_read - report.rows_kept
    if not report.rows_read:
        return
    if not gone:
        yield Finding(
            "good", "No row dropped", f"All {report.rows_read:,} rows that were read could be used."
        )
        return
    share = gone / report.rows_read
    first = ", ".join(f"{one.reason} ({one.rows:,})" for one in report.dropped[:3])
    yield Finding(
        "warn" if share >= MUCH_DROPPED else "good",
        f"{words.part(1 - share)} of rows used",
        f"Of {report.rows_read:,} rows, {gone:,} ({words.percent(share)}) were dropped, most often: {first}.",
    )
