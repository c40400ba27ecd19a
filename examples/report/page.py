"""The page: one file, nothing loaded from elsewhere, no script. Pure: the same report gives the same bytes.

Every text in it is escaped: names and values come from sources that nobody has vouched for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from examples.report import charts, findings, words
from examples.report.model import Breakdown, Group, Outliers, Profile, Report, Series, Source, Trends

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"

CELL_CHARS = 60  # of an example

Reach = tuple[float, float, bool]  # from, to, and whether by ratio


def page(report: Report) -> str:
    """The whole page."""
    title = escape(findings.title(report))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<p class="eyebrow">Data analysis report</p>
<h1>{title}</h1>
<p class="lead">{escape(subtitle(report))}</p>
</header>
{summary(report)}
{tiles(report)}
{found(report)}
{over_time(report)}
{"".join(by_group(report, one) for one in report.analysis.breakdowns)}
{moments(report)}
{distributions(report)}
{strange(report)}
{quality(report)}
{columns(report)}
{provenance(report)}
</main>
</body>
</html>
"""


def subtitle(report: Report) -> str:
    totals = report.analysis.totals
    days = list(dict.fromkeys(words.day(one) for one in (totals.first, totals.last) if one))
    when = f"{' – '.join(days)} · " if days else ""
    return f"{when}{words.many(report.rows_kept, 'row')} from {words.many(len(report.sources), 'source')}"


def section(title: str, lead: str, body: str, kind: str = "") -> str:
    told = f'<p class="lead">{lead}</p>' if lead else ""
    return (
        f"<section{f' class={kind!r}' if kind else ''}><h2>{title}</h2>{told}{body}</section>" if body else ""
    )


def table(heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table; each head has a class that its whole column wears. The cells are HTML already."""
    listed = list(rows)
    if not listed:
        return ""
    head = "".join(f'<th scope="col"{class_of(name)}>{escape(text)}</th>' for text, name in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td{class_of(name)} data-label="{escape(text)}">{cell}</td>'
            for (text, name), cell in zip(heads, row, strict=True)
        )
        + "</tr>"
        for row in listed
    )
    inside = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll"><table{class_of(kind)}>{inside}</table></div>'


def figure(value: float, unit: str) -> str:
    """A figure as HTML: a unit is somebody's text."""
    return escape(words.figure(value, unit))


def exactly(value: float, unit: str) -> str:
    return escape(words.exactly(value, unit))


def class_of(name: str) -> str:
    return f' class="{name}"' if name else ""


def tiles(report: Report) -> str:
    """The figures that one wants to have seen."""
    totals, unit = report.analysis.totals, report.brief.unit
    name = escape(findings.measure(report))
    figures: list[tuple[str, str, str]] = []
    if report.schema.measures:
        figures.append(("", words.figure(totals.total, unit), f"{name} in all"))
        figures.append(("", words.figure(totals.mean, unit), "on average a row"))
    figures.append(("", f"{totals.rows:,}", "rows in the figures"))
    trends = report.analysis.trends
    pace = findings.pace(trends.whole, trends) if trends else None
    if pace:
        figures.append(("rise" if pace.share > 0 else "fall", words.change(pace.share), f"a {pace.each}"))
    used = report.rows_kept / report.rows_read if report.rows_read else 0.0
    figures.append(("", words.part(used), "of the rows used"))
    cells = "".join(
        f'<div class="tile {kind}"><strong>{escape(value)}</strong><span>{said}</span></div>'
        for kind, value, said in figures
    )
    return f'<div class="tiles">{cells}</div>'


def summary(report: Report) -> str:
    """What one reads who reads nothing else; a model's words are said to be its own."""
    told = report.summary
    body = "".join(f"<p>{escape(one)}</p>" for one in told.paragraphs)
    note = told.note
    if told.model:
        note = f"In the words of {told.model}. Every figure in them is one of the findings below."
    return f'<section class="summary">{body}{f"<small>{escape(note)}</small>" if note else ""}</section>'


def found(report: Report) -> str:
    listed = "".join(
        f'<li class="{one.tone}"><strong>{escape(one.head)}</strong><span>{escape(one.text)}</span></li>'
        for one in findings.findings(report)
    )
    return section("Findings", "", f'<ul class="findings">{listed}</ul>')


def over_time(report: Report) -> str:
    """The whole over time, then each group as small as a word."""
    trends = report.analysis.trends
    if trends is None or len(trends.starts) < 2:
        return ""
    name, unit = words.title(findings.measure(report)), report.brief.unit
    legend = f'<span class="key line">{escape(name)} a {trends.period}</span>'
    if trends.whole.clear:
        legend += '<span class="key trend">trend</span>'
    if trends.whole.shift is not None:
        legend += '<span class="key shift">level changed</span>'
    drawn = charts.over_time(trends.whole, trends.starts, trends.period, unit)
    lead = f"By {trends.period}; a {trends.period} that the data covers in part is left out."
    return section(f"{escape(name)} over time", lead, charts.figure(f"{name} over time", drawn, legend))


def by_group(report: Report, found: Breakdown) -> str:
    """A row a group: its total, its course, and how its values are spread."""
    if not found.groups:
        return ""
    unit, total = report.brief.unit, report.analysis.totals.total
    trends = report.analysis.trends
    traced = {
        one.group: one
        for one in (trends.groups if trends and len(trends.starts) > 1 else ())
        if one.by == found.by
    }
    largest = max(abs(group.total) for group in found.groups) or 1.0
    reach = reach_of(found, bool(report.analysis.outliers and report.analysis.outliers[0].logarithmic))
    rows = [
        group_row(group, course(traced.get(group.value), trends), largest, total, reach, unit)
        for group in found.groups
    ]
    heads: list[tuple[str, str]] = [
        (words.label(found.by), "name"),
        (findings.measure(report), "bars"),
        ("share", "figure"),
        ("rows", "figure optional"),
        ("average", "figure"),
        ("course", "picture"),
        ("middle half of the rows", "picture optional"),
    ]
    if not traced:
        place = heads.index(("course", "picture"))
        del heads[place]
        for row in rows:
            del row[place]
    more = f"{words.many(found.others, 'more value')} are not shown. " if found.others else ""
    shifted = any(one.shift for one in traced.values())
    more += "The upright line in a course is where its level changed at once." if shifted else ""
    return section(f"By {escape(words.label(found.by))}", more, table(heads, rows, "groups"))


def reach_of(found: Breakdown, logarithmic: bool) -> Reach:
    """From where to where the boxes of all groups are drawn, so that they can be compared."""
    at = [value for group in found.groups for value in group.quantiles]
    low, high = min(at, default=0.0), max(at, default=1.0)
    return (low, high, True) if logarithmic and low > 0 else (min(0.0, low), high, False)


def course(series: Series | None, trends: Trends | None) -> str:
    """A group over time, and what is to be said of it."""
    if series is None or trends is None:
        return ""
    drawn = charts.sparkline(series.totals, series.shift.index if series.shift else None)
    if series.shift:
        return f'{drawn}<small class="shift">{words.change(series.shift.share)}</small>'
    pace = findings.pace(series, trends)
    return f"{drawn}<small>{words.change(pace.share)} a {pace.each}</small>" if pace else drawn


def group_row(group: Group, course: str, largest: float, total: float, reach: Reach, unit: str) -> list[str]:
    length = max(0.5, 100 * abs(group.total) / largest)
    name = escape(group.value) if group.value is not None else "<em>nothing</em>"
    bar = f'<div class="hbar"><i style="width:{length:.1f}%"></i><b>{figure(group.total, unit)}</b></div>'
    return [
        name,
        bar,
        words.percent(group.total / total) if total else "",
        f"{group.rows:,}",
        figure(group.mean, unit),
        course,
        charts.spread(group, *reach),
    ]


def moments(report: Report) -> str:
    rhythm = report.analysis.rhythm
    if rhythm is None or not rhythm.weeks:
        return ""
    name = words.title(findings.measure(report))
    day, hour, _, most = max(rhythm.rows, key=lambda one: (one[3], -one[0], -one[1]))
    peak = f"{figure(most, report.brief.unit)} on {words.WEEKDAYS[day]}s from {hour}:00"
    lead = f"The stronger the colour, the more in all; the most is {peak}." if rhythm.hours else ""
    title = "Weekdays and hours" if rhythm.hours else "Weekdays"
    drawn = charts.figure(f"{name} by weekday", charts.week(rhythm, report.brief.unit))
    return section(title, lead, drawn)


def distributions(report: Report) -> str:
    """How each measure is spread."""
    profiles = {one.column: one for one in report.analysis.profiles}
    drawn = []
    for place, measure in enumerate(report.schema.measures):
        profile = profiles.get(measure)
        if profile is None or not profile.bins:
            continue
        unit = report.brief.unit if place == 0 else ""
        drawn.append(
            f"<h3>{escape(words.title(measure))}</h3>"
            + charts.figure(
                f"Distribution of {measure}", charts.histogram(profile, unit), spread_in_words(profile, unit)
            )
        )
    body = "".join(drawn)
    if report.analysis.relations:
        rows = [
            [
                escape(f"{words.label(one.left)} and {words.label(one.right)}"),
                f"{one.correlation:+.2f}".replace("-", "−"),
            ]
            for one in report.analysis.relations
        ]
        body += "<h3>What goes together</h3>" + table(
            [("measures", "name"), ("correlation", "figure")], rows, "small"
        )
    return section(
        "How the values are spread",
        "Outliers are part of this, but values far away are not drawn.",
        body,
    )


def spread_in_words(profile: Profile, unit: str) -> str:
    low, quarter, _, three, high = profile.quantiles
    return (
        f"Half lie between {figure(quarter, unit)} and {figure(three, unit)}, nine in ten between "
        f"{figure(low, unit)} and {figure(high, unit)}."
    )


def strange(report: Report) -> str:
    """The outliers, the farthest first, each with its place in its source."""
    return "".join(
        outlier_table(report, found, place == 0)
        for place, found in enumerate(report.analysis.outliers)
        if found.rows
    )


def outlier_table(report: Report, found: Outliers, main: bool) -> str:
    unit = report.brief.unit if main else ""
    heads = [
        (words.label(found.measure), "figure"),
        ("usual", "figure"),
        ("where", "name"),
        ("what", "wide"),
    ]
    rows = [
        [
            exactly(one.value, unit),
            figure(one.usual, unit),
            escape(place_of(report.sources, one.source, one.line)),
            escape(" · ".join(map(words.short, one.cells.values()))),
        ]
        for one in found.listed
    ]
    than = f"of their {escape(words.label(found.by))}" if found.by else "of all"
    how = "by ratio" if found.logarithmic else "by difference"
    lead = (
        f"{words.many(found.rows, 'row')} more than five deviations from the median {than}, measured {how}; "
        f"together {figure(found.total, unit)}. "
        + ("They are set aside from the figures above. " if main else "")
        + (f"The {len(rows)} farthest:" if found.rows > len(rows) else "")
    )
    return section(f"Outliers of {escape(words.label(found.measure))}", lead, table(heads, rows, "outliers"))


def place_of(sources: Sequence[Source], number: int, line: int) -> str:
    source = sources[number]
    unit = {"csv": "line", "parquet": "row", "sqlite": "row", "git": "row"}[source.format]
    return f"{source.name}, {unit} {line:,}"


def quality(report: Report) -> str:
    """What was dropped, and why; what was mended, and how."""
    read, kept = report.rows_read, report.rows_kept
    gone = read - kept
    bar = (
        f'<div class="stack" role="img" aria-label="{kept:,} of {read:,} rows kept">'
        f'<i class="kept" style="width:{100 * kept / read if read else 0:.2f}%"></i>'
        + (f'<i class="gone" style="width:{100 * gone / read:.2f}%"></i>' if gone else "")
        + "</div>"
        f'<p class="legend"><span class="key kept">{kept:,} rows kept</span>'
        f'<span class="key gone">{gone:,} dropped</span></p>'
    )
    return section(
        "How clean the data was",
        f"{words.many(read, 'row')} were read. A row is dropped for the first reason that applies.",
        bar + drops(report) + repairs(report),
    )


def cut(text: str) -> str:
    """A cell's text for a table; that it goes on is shown."""
    return text if len(text) <= CELL_CHARS else f"{text[:CELL_CHARS]}…"


def reason(report: Report, why: str) -> str:
    """Why rows were dropped, as HTML; a column stands there by its name."""
    for column in report.schema.columns:
        name = f"<code>{escape(column.name)}</code>"
        if why == f"no {column.name}":
            return f"No {name}"
        if why.startswith(f"{column.name} "):
            return name + escape(why[len(column.name) :])
    return escape(why[:1].upper() + why[1:])


def drops(report: Report) -> str:
    rows = [
        [
            reason(report, one.reason),
            f"{one.rows:,}",
            words.percent(one.rows / report.rows_read),
            "<br>".join(
                f"<code>{escape(cut(example.value)) or '(empty)'}</code> "
                f"<small>{escape(place_of(report.sources, example.source, example.line))}</small>"
                for example in one.examples
            ),
        ]
        for one in report.dropped
    ]
    heads = [
        ("why rows were dropped", "name"),
        ("rows", "figure"),
        ("of all", "figure"),
        ("for example", "wide"),
    ]
    return table(heads, rows, "drops")


def repairs(report: Report) -> str:
    rows = [
        [escape(words.title(one.what)), escape(words.label(one.column)), f"{one.cells:,}"]
        for one in report.repairs
    ]
    if report.recoded:
        rows.append(["Another encoding than UTF-8, or encoded twice", "whole rows", f"{report.recoded:,}"])
    return table([("what was mended", "name"), ("column", "name"), ("cells", "figure")], rows, "repairs")


def columns(report: Report) -> str:
    """Every column of the cleaned rows."""
    heads = [
        ("column", "name"),
        ("taken for", ""),
        ("filled", "figure"),
        ("different", "figure"),
        ("what is in it", "wide"),
    ]
    rows = [
        [
            f"<code>{escape(one.column)}</code>",
            one.kind,
            words.percent(one.filled / one.rows) if one.rows else "",
            f"{one.distinct:,}",
            escape(content(one, report)),
        ]
        for one in report.analysis.profiles
    ]
    return section(
        "The columns", "After cleaning, before outliers are set aside.", table(heads, rows, "columns")
    )


def content(profile: Profile, report: Report) -> str:
    if profile.kind == "number" and profile.mean is not None and profile.deviation is not None:
        unit = report.brief.unit if profile.column in report.schema.measures[:1] else ""
        return (
            f"{words.exactly(float(profile.least), unit)} to {words.exactly(float(profile.greatest), unit)}, "
            f"mean {words.figure(profile.mean, unit)} ± {words.figure(profile.deviation, unit)}"
        )
    if profile.common and profile.common[0][1] > 1:
        return ", ".join(f"{value} ({count:,})" for value, count in profile.common)
    if profile.common:
        return ", ".join(value for value, _ in profile.common[:3]) + " …"
    return f"{words.short(profile.least)} to {words.short(profile.greatest)}" if profile.least else ""


def provenance(report: Report) -> str:
    """Where every figure comes from."""
    rows = [
        [
            escape(source.name),
            f"{read:,}",
            f"{kept:,}",
            words.many(source.size, "commit") if source.format == "git" else words.size(source.size),
            f"<code>{source.digest}</code>",
        ]
        for source, read, kept in zip(
            report.sources, report.read_by_source, report.kept_by_source, strict=True
        )
    ]
    heads = [
        ("source", "name"),
        ("rows read", "figure"),
        ("kept", "figure"),
        ("size", "figure"),
        ("sha256 or commit", "wide hash"),
    ]
    told = report.summary
    again = (
        "The same sources give these figures again; the summary may then have other words."
        if told.model or told.note
        else "The same sources give this page again, byte for byte."
    )
    method = (
        '<p class="lead">Sums are exact. Trends are least squares over whole periods; a level counts as changed when '
        "the step is six standard errors beside that trend. Outliers are judged by the median and the middle "
        f"nine tenths of the group that explains the measure best. {again}</p>"
    )
    return section("Where the figures come from", "", table(heads, rows, "sources") + method)
