"""The page: nothing in it is taken for markup, nothing points outside, and words say what figures are."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

import holdfast
from examples.report import agent, charts, findings, page, trend, verify, words
from examples.report.model import Brief, Period, Report, Series, Trends

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)> & \"q\""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Report]:
    """A report of a source that has markup wherever a text can stand."""
    folder = tmp_path_factory.mktemp("hostile")
    source = folder / "<b>bold & sons.csv"
    with source.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["day", f"group {EVIL}", "amount <i>", "note"])
        for number in range(200):
            value = 1e6 if number == 77 else number % 9 + 1
            writer.writerow(
                [f"2024-{1 + number // 20:02d}-{1 + number % 20:02d}", (EVIL, "b")[number % 2], value, EVIL]
            )
        writer.writerow(["soon", EVIL, EVIL, EVIL])
        writer.writerow([EVIL])
    brief = Brief(title=EVIL, unit="<u>", time="day")
    holdfast.run(
        agent.report, [str(source)], brief, str(folder / "job"), store=f"sqlite:///{folder / 'x.db'}"
    )
    return folder / "job", str(source), verify.load(folder / "job")


def test_texts_of_the_sources_are_never_markup(hostile: tuple[Path, str, Report]) -> None:
    workspace, source, report = hostile
    text = (workspace / "report.html").read_text()
    assert (
        "<script" not in text
        and "<img" not in text
        and "<i>" not in text.replace("</i>", "").replace("<i ", "")
    )
    assert list(verify.page_faults(text)) == []
    assert report.analysis.outliers[0].rows == 1
    assert [proof.claim for proof in verify.proofs(workspace, [source], None) if not proof.holds] == []


def test_the_same_report_is_the_same_page(hostile: tuple[Path, str, Report]) -> None:
    workspace, _, report = hostile
    assert page.page(report) == page.page(report) == (workspace / "report.html").read_text()


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("<p>", "closes nothing"),
        ("</p>", "closes nothing"),
        ("<img src='https://kelp.example/x.png'>", "points outside"),
        ("<a href='x'>x</a>", "points outside"),
        ("<p onclick='x'></p>", "has a script"),
        ("<svg viewBox='0 0 1 1'><rect x='1' x='2'/></svg>", "a chart is not well formed"),
    ],
)
def test_a_broken_page_is_found_out(hostile: tuple[Path, str, Report], broken: str, says: str) -> None:
    text = (hostile[0] / "report.html").read_text().replace("</main>", f"{broken}</main>")
    assert any(says in fault for fault in verify.page_faults(text)), list(verify.page_faults(text))


def test_a_style_that_loads_something_is_found_out(hostile: tuple[Path, str, Report]) -> None:
    text = (hostile[0] / "report.html").read_text()
    assert list(verify.page_faults(text.replace("<style>", "<style>@import 'x.css';")))
    assert list(verify.page_faults(f"{text}<p>")) == ["<p> is never closed"]
    assert list(verify.page_faults(text.replace("default-src 'none'", "default-src *")))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (5, "5"), (114.04, "114"), (45.92, "45.9"), (6.9612, "6.96"), (0.01234, "0.0123"), (999.6, "1.00k"),
        (1234, "1.23k"), (-56789, "−56.8k"), (3_357_558.25, "3.36m"), (2.5e9, "2.50bn"), (1e12, "1.00tn"),
    ],
)  # fmt: skip
def test_a_figure_has_three_digits_that_count(value: float, text: str) -> None:
    assert words.figure(value) == text


def test_units_percentages_and_sizes() -> None:
    assert words.figure(5, "€") == "€5" and words.figure(5, "kg") == f"5{words.NARROW}kg"
    assert (
        words.figure(-5_000, "$") == "−$5.00k" and words.round_figure(-5_000, "kg") == f"−5k{words.NARROW}kg"
    )
    shown = [words.percent(share) for share in (0, 0.5, 0.094, 0.0012, 0.00012, 0.000001, -0.55)]
    assert shown == ["0%", "50%", "9.4%", "0.1%", "0.01%", "under 0.01%", "−55%"]
    assert [words.part(share) for share in (1, 0.99999, 0.9732)] == ["100%", "over 99.9%", "97.3%"]
    assert words.change(0.021).startswith("+2.1") and words.change(-0.5).startswith("−50")
    assert words.exactly(1240312.5) == "1,240,312.50" and words.exactly(-3) == "−3"
    assert words.size(93_000_000) == f"88.7{words.NARROW}MB" and words.size(12) == f"12{words.NARROW}B"


def test_ticks_are_round_and_lie_within() -> None:
    assert charts.ticks(0, 46_500, 5) == [0, 10_000, 20_000, 30_000, 40_000]
    assert charts.ticks(3, 3, 4) == [3]
    assert charts.ratio_ticks(5, 3_000, 9) == [5, 10, 20, 50, 100, 200, 500, 1_000, 2_000]
    assert charts.ratio_ticks(5, 3_000, 3) == [10, 100, 1_000]


@pytest.mark.parametrize("values", [(0.0, 0.0), (-5.0, -1.0, -3.0), (1.0,), (0.0, 1e12, 5.0)])
def test_a_chart_can_be_drawn_of_anything(values: tuple[float, ...]) -> None:
    series = Series(None, None, values, 0.0, 0.0, None, False, None)
    starts = [f"2024-0{n + 1}-01" for n in range(len(values))]
    drawn = charts.figure("x", charts.over_time(series, starts, "month", ""))
    assert drawn.count("<svg") == 3 and "nan" not in drawn and "inf" not in drawn
    assert "nan" not in charts.sparkline(values, None)


@pytest.mark.parametrize(
    ("period", "periods", "told"),
    [
        ("week", 104, ("+4.3%", "month")),
        ("day", 61, ("+30%", "month")),
        ("day", 60, ("+1.0%", "day")),  # less than two months: what a month brings is not known
        ("month", 6, ("+1.0%", "month")),
        ("day", 5, None),
    ],
)
def test_a_pace_is_told_by_what_the_data_covers(
    period: Period, periods: int, told: tuple[str, str] | None
) -> None:
    growth = 0.01 * trend.PERIODS_A_MONTH[period]
    series = Series(None, None, (1.0,) * periods, 0.01, 1.0, growth, clear=True, shift=None)
    pace = findings.pace(series, Trends(period, ("",) * periods, series, ()))
    assert (pace and (words.change(pace.share), pace.each)) == told
    unclear = replace(series, clear=False)
    assert findings.pace(unclear, Trends(period, ("",) * periods, unclear, ())) is None


def test_a_reason_names_its_column_as_it_is(hostile: tuple[Path, str, Report]) -> None:
    report = hostile[2]
    assert page.reason(report, "no day") == "No <code>day</code>"
    assert page.reason(report, "day cannot be read") == "<code>day</code> cannot be read"
    assert page.reason(report, "a duplicate") == "A duplicate"
    assert page.cut("x" * 60) == "x" * 60 and page.cut("x" * 61) == "x" * 60 + "…"


def test_one_event_is_told_once(hostile: tuple[Path, str, Report]) -> None:
    heads = [one.head for one in findings.findings(hostile[2])]
    assert len(heads) == len(set(heads))
