"""Checks a finished report from outside: against the sources, against the truth, and the page as a page.

    python -m examples.report.verify WORKSPACE SOURCE… [--truth truth.json] [--json]

The sources are read again and counted in plain Python (`recount.py`). Leaves with 1 if anything is not so.
"""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import click
import msgspec
from rich.console import Console

from examples.report import words
from examples.report.model import Report
from examples.report.recount import Recount, recount
from examples.stage import durable
from examples.stage.proof import Proof, proven

VOID = {"meta", "link", "br", "img", "hr", "input"}
OUTSIDE = re.compile(
    r"""(?:src|href|action|data|srcset|poster)\s*=|url\(|@import|<script|<link|<iframe|https?:""", re.I
)
FIGURE = re.compile(r"\d(?:[\d.,]*\d)?%?")
CLOSE = 1e-9


def load(workspace: Path) -> Report:
    """The report that a run has left for programs."""
    return msgspec.json.decode((workspace / "report.json").read_bytes(), type=Report)


def proofs(workspace: Path, sources: Sequence[str], truth: Path | None) -> list[Proof]:
    """Every claim about a finished report."""
    report, text = load(workspace), (workspace / "report.html").read_text(encoding="utf-8")
    counted = recount(report, sources)
    found = [
        claim("the sources are those that were read", sources_differ(report, sources), "by sha256 or commit"),
        claim("every row is accounted for", rows_differ(report, counted), told_rows(report)),
        claim("totals, groups and periods add up", sums_differ(report, counted), told_sums(report)),
        claim(
            "outliers, trend and columns are as counted",
            statistics_differ(report, counted),
            told_statistics(report),
        ),
        claim("the list of dropped rows is whole", dropped_differ(report, workspace), "dropped.csv"),
        claim("the page is well formed and loads nothing", page_faults(text), words.size(len(text.encode()))),
        claim(
            "the page says what was found",
            unsaid(report, text),
            f"{len(said_in_page(report))} figures looked up",
        ),
        claim("the summary has no figure of its own", invented(text), told_summary(report)),
    ]
    if truth is not None:
        planted = json.loads(truth.read_text(encoding="utf-8"))
        found.append(claim("it found what was planted", truth_differs(report, planted), told_truth(planted)))
    return found


def claim(what: str, faults: Iterator[str] | Sequence[str], evidence: str) -> Proof:
    listed = list(faults)
    return Proof(what, not listed, "; ".join(listed[:4]) if listed else evidence)


def differ(what: str, said: object, counted: object) -> Iterator[str]:
    """A fault if two are not equal; numbers may differ by the last bits of a float."""
    if isinstance(said, float | int) and isinstance(counted, float | int | Decimal):
        if math.isclose(said, float(counted), rel_tol=CLOSE, abs_tol=1e-6):
            return
    elif said == counted:
        return
    yield f"{what}: the report says {said}, the count {counted}"


def sources_differ(report: Report, sources: Sequence[str]) -> Iterator[str]:
    for source, named in zip(report.sources, sources, strict=True):
        if source.format != "git":
            yield from differ(source.name, source.digest, durable.sha256_of(Path(named.partition("::")[0])))


def rows_differ(report: Report, counted: Recount) -> Iterator[str]:
    yield from differ("rows read", report.rows_read, counted.read)
    yield from differ("rows kept", report.rows_kept, counted.kept)
    yield from differ("kept by source", list(report.kept_by_source), counted.kept_by_source)
    yield from differ("reasons", {one.reason: one.rows for one in report.dropped}, dict(counted.dropped))
    gone = sum(one.rows for one in report.dropped)
    yield from differ("read − dropped", report.rows_read - gone, report.rows_kept)


def told_rows(report: Report) -> str:
    gone = report.rows_read - report.rows_kept
    return f"{report.rows_read:,} read = {report.rows_kept:,} kept + {gone:,} dropped for {len(report.dropped)} reasons"


def sums_differ(report: Report, counted: Recount) -> Iterator[str]:
    yield from differ("total", report.analysis.totals.total, counted.total)
    for breakdown in report.analysis.breakdowns:
        for group in breakdown.groups:
            there = counted.total_by.get((breakdown.by, group.value), Decimal(0))
            yield from differ(f"{breakdown.by} {group.value}", group.total, there)
    trends = report.analysis.trends
    for start, total in zip(trends.starts, trends.whole.totals, strict=True) if trends else ():
        yield from differ(
            f"{trends.period if trends else ''} {start}",
            total,
            counted.total_by_period.get(start, Decimal(0)),
        )


def told_sums(report: Report) -> str:
    groups = sum(len(one.groups) for one in report.analysis.breakdowns)
    periods = len(report.analysis.trends.starts) if report.analysis.trends else 0
    return f"1 total, {groups} groups, {periods} periods: the same in plain Python"


def statistics_differ(report: Report, counted: Recount) -> Iterator[str]:
    analysis = report.analysis
    if analysis.outliers:
        yield from differ("outliers", analysis.outliers[0].rows, counted.outliers)
        yield from differ("their total", analysis.outliers[0].total, counted.outlier_total)
    if analysis.trends and len(analysis.trends.starts) >= 3:
        values = analysis.trends.whole.totals
        line = statistics.linear_regression(range(len(values)), values)
        yield from differ("slope", round(analysis.trends.whole.slope, 6), round(line.slope, 6))
    for profile in analysis.profiles:
        yield from differ(f"{profile.column} filled", profile.filled, counted.filled[profile.column])
        yield from differ(f"{profile.column} different", profile.distinct, counted.different[profile.column])
        if profile.mean is not None and profile.filled:
            mean = float(counted.sums[profile.column]) / profile.filled
            yield from differ(f"mean of {profile.column}", profile.mean, mean)


def told_statistics(report: Report) -> str:
    outliers = report.analysis.outliers[0].rows if report.analysis.outliers else 0
    return f"{words.many(outliers, 'outlier')}, {words.many(len(report.analysis.profiles), 'column')}"


def dropped_differ(report: Report, workspace: Path) -> Iterator[str]:

    with (workspace / "dropped.csv").open(encoding="utf-8", newline="") as stream:
        listed = sum(1 for _ in csv.reader(stream)) - 1
    yield from differ("dropped.csv", listed, report.rows_read - report.rows_kept)


class Page(HTMLParser):
    """Looks whether every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.text: list[str] = []
        self.summary: list[str] = []  # what the first section says
        self.sections = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.sections += tag == "section"
        if any(name.startswith("on") for name, _ in attrs):
            self.faults.append(f"<{tag}> has a script")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()} closes nothing")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            (self.summary if self.sections == 1 and self.open[-1] == "p" else self.text).append(data)


def page_faults(text: str) -> Iterator[str]:
    """What is wrong with the page as a page."""
    page = Page()
    page.feed(text)
    page.close()
    yield from page.faults
    if page.open:
        yield f"<{page.open[-1]}> is never closed"
    for found in OUTSIDE.finditer(
        re.sub(">[^<]*<", "><", text.partition("<style>")[0] + text.partition("</style>")[2])
    ):
        yield f"it points outside: {found.group()}"
    for found in OUTSIDE.finditer(text.partition("<style>")[2].partition("</style>")[0]):
        yield f"its style points outside: {found.group()}"
    if "default-src 'none'" not in text:
        yield "nothing forbids it to load anything"
    for drawn in re.findall("<svg.*?</svg>", text, re.S):
        try:
            ElementTree.fromstring(drawn)
        except ElementTree.ParseError as error:
            yield f"a chart is not well formed: {error}"


def said_in_page(report: Report) -> list[str]:
    """Figures that a reader must find."""
    unit = report.brief.unit
    said = [f"{report.rows_read:,}", f"{report.rows_kept:,}"]
    if report.schema.measures:
        said.append(words.exactly(report.analysis.totals.total, unit))
    said += [f"{one.rows:,}" for one in report.dropped]
    said += [words.figure(group.total, unit) for one in report.analysis.breakdowns for group in one.groups]
    return said + [source.digest for source in report.sources]


def unsaid(report: Report, text: str) -> Iterator[str]:
    page = Page()
    page.feed(text)
    there = "\n".join(page.text)
    yield from (f"{one} is not on the page" for one in said_in_page(report) if one not in there)


def invented(text: str) -> Iterator[str]:
    """Figures of the summary that the rest of the page does not have."""
    page = Page()
    page.feed(text)
    if not page.summary:
        yield "the page does not begin with a summary"
    elsewhere = set(FIGURE.findall("\n".join(page.text)))
    for one in FIGURE.findall("\n".join(page.summary)):
        if one not in elsewhere:
            yield f"{one} stands in the summary alone"


def told_summary(report: Report) -> str:
    return f"in the words of {report.summary.model}" if report.summary.model else "in the report's own words"


def truth_differs(report: Report, planted: Mapping[str, object]) -> Iterator[str]:
    """What the generator planted, against what the report found: to the row and to the cent."""
    yield from differ("rows", report.rows_read, planted["rows"])
    yield from differ("kept", report.rows_kept, planted["kept"])
    yield from differ("dropped", {one.reason: one.rows for one in report.dropped}, planted["dropped"])
    yield from differ("cents", cents(report.analysis.totals.total), planted["cents"])
    outliers, listed = report.analysis.outliers[0], planted["outliers"]
    assert isinstance(listed, list)
    yield from differ("outliers", outliers.rows, len(listed))
    strangers = [one.cells["order_id"] for one in outliers.listed if one.cells["order_id"] not in listed]
    yield from differ("listed outliers that were not planted", strangers, [])
    yield from differ("cents of outliers", cents(outliers.total), planted["outlier_cents"])
    by = {
        one.by: {str(group.value): cents(group.total) for group in one.groups}
        for one in report.analysis.breakdowns
    }
    yield from differ("groups", by, planted["cents_by"])
    trends = report.analysis.trends
    assert trends is not None
    weeks = {start: cents(total) for start, total in zip(trends.starts, trends.whole.totals, strict=True)}
    yield from differ("weeks", weeks, planted["cents_by_week"])
    yield from shift_differs(report, planted["shift"])
    if not (trends.whole.growth or 0) > 0:
        yield "the planted growth was not found"


def shift_differs(report: Report, planted: object) -> Iterator[str]:
    """The planted fall of one region: where, when to the week, and how deep to a tenth."""
    assert isinstance(planted, dict) and report.analysis.trends is not None
    found = [one for one in report.analysis.trends.groups if one.group == planted["group"] and one.shift]
    if not found or found[0].shift is None:
        yield f"the shift of {planted['group']} was not found"
        return
    yield from differ("the week of the shift", found[0].shift.at, planted["at"])
    if abs(found[0].shift.share - planted["share"]) > 0.1:
        yield f"the shift is {found[0].shift.share:+.2f}, planted was {planted['share']:+.2f}"


def cents(amount: float) -> int:
    return round(amount * 100)


def told_truth(planted: Mapping[str, object]) -> str:
    dropped, outliers = planted["dropped"], planted["outliers"]
    assert isinstance(dropped, dict) and isinstance(outliers, list)
    bad = f"{sum(dropped.values()):,} bad rows of {len(dropped)} kinds"
    return f"{bad}, {len(outliers):,} outliers, a shift, a trend: all, and no others"


@click.command()
@click.argument("workspace", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("sources", nargs=-1, required=True)
@click.option("--truth", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The claims as JSON.")
def main(workspace: Path, sources: tuple[str, ...], truth: Path | None, as_json: bool) -> None:
    """Check the report in WORKSPACE against its SOURCES."""
    found = proofs(workspace, sources, truth)
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        Console(highlight=False).print(proven(found))
    sys.exit(0 if all(one.holds for one in found) else 1)


if __name__ == "__main__":
    main()
