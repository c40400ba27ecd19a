"""Charts as SVG: drawn for three widths of the page, coloured by its style sheet. Pure: the same bytes each time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from examples.report import words
from examples.report.model import QUANTILES, Group, Period, Profile, Rhythm, Series

WIDTHS = (("small", 340), ("middle", 620), ("large", 940))
MEDIAN = QUANTILES.index(0.5)


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to places on the page."""

    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        if high == low:
            return (self.begin + self.end) / 2
        return self.begin + (value - low) / (high - low) * (self.end - self.begin)


def figure(name: str, draw: Callable[[int], tuple[int, str]], caption: str = "") -> str:
    """A chart for each width; the style sheet shows the one that fits. `draw` returns its height and its marks."""
    drawn = []
    for kind, width in WIDTHS:
        height, marks = draw(width)
        drawn.append(
            f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(name)}">{marks}</svg>'
        )
    told = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure>{''.join(drawn)}{told}</figure>"


def at(value: float) -> str:
    """A place, to a tenth of a pixel."""
    text = f"{value:.1f}"
    return "0" if text in ("-0.0", "0.0") else text.removesuffix(".0")


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round values between two, about so many."""
    if high <= low:
        return [low]
    rough = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * size for size in (1, 2, 2.5, 5) if power * size >= rough * 0.999), power * 10)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def ratio_ticks(low: float, high: float, wanted: int) -> list[float]:
    """1, 10, 100 …, with 2 and 5 between them where there is room."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for sizes in ((1, 2, 5), (1, 3), (1,)):
        found = [
            size * 10.0**power for power in powers for size in sizes if low <= size * 10.0**power <= high
        ]
        if len(found) <= wanted:
            return found
    return found[:: -(-len(found) // wanted)]


def text(x: float, y: float, said: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{at(x)}" y="{at(y)}" class="{kind}" text-anchor="{anchor}">{escape(said)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{at(x1)}" y1="{at(y1)}" x2="{at(x2)}" y2="{at(y2)}" class="{kind}"/>'


def box(x: float, y: float, width: float, height: float, kind: str, title: str = "", more: str = "") -> str:
    told = f"<title>{escape(title)}</title>" if title else ""
    return f'<rect x="{at(x)}" y="{at(y)}" width="{at(width)}" height="{at(height)}" class="{kind}"{more}>{told}</rect>'


def path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{at(x)} {at(y)}" for x, y in points)


def over_time(
    series: Series, starts: Sequence[str], period: Period, unit: str
) -> Callable[[int], tuple[int, str]]:
    """The totals as a line over an area, their trend, and the place where the level changed."""

    def draw(width: int) -> tuple[int, str]:
        height = 260 if width < 600 else 320
        left, right, top, bottom = 58, 12, 26 if series.shift else 10, 30
        values = series.totals
        low, high = min(0.0, *values), max(0.0, *values) * 1.04 or 1.0
        x = Scale(0, max(1, len(values) - 1), left, width - right)
        y = Scale(low, high, height - bottom, top)
        marks = [
            value_axis(ticks(low, high, 5), y, left, width - right, unit),
            time_axis(starts, x, height, width),
        ]
        points = [(x(place), y(value)) for place, value in enumerate(values)]
        base = at(y(max(0.0, low)))
        marks.append(
            f'<path class="area" d="{path(points)}L{at(points[-1][0])} {base}L{at(points[0][0])} {base}Z"/>'
        )
        marks.append(f'<path class="line" d="{path(points)}"/>')
        if series.clear:
            marks += [
                f'<path class="trend" d="{path([(x(n), y(value)) for n, value in ends])}"/>'
                for ends in trend_ends(series)
            ]
        if series.shift is not None:
            here = x(series.shift.index)
            anchor = "end" if here > width * 0.6 else "start"
            said = f"{words.change(series.shift.share)} from {words.day(series.shift.at)}"
            marks.append(rule(here, top - 8, here, height - bottom, "shift"))
            marks.append(text(here + (-6 if anchor == "end" else 6), top - 10, said, "shift", anchor))
        return height, "".join(marks)

    return draw


def trend_ends(series: Series) -> list[list[tuple[int, float]]]:
    """Where the trend begins and ends: one line, or one on each side of a shift."""
    last, shift = len(series.totals) - 1, series.shift
    if shift is None:
        return [[(n, series.intercept + series.slope * n) for n in (0, last)]]
    before = [(n, shift.before + shift.slope * (n - shift.index)) for n in (0, shift.index)]
    return [before, [(n, shift.after + shift.slope * (n - shift.index)) for n in (shift.index, last)]]


def value_axis(values: Sequence[float], y: Scale, left: float, right: float, unit: str) -> str:
    return "".join(
        rule(left, y(value), right, y(value), "zero" if value == 0 else "grid")
        + text(left - 8, y(value) + 4, words.round_figure(value, unit), "axis", "end")
        for value in values
    )


def time_axis(starts: Sequence[str], x: Scale, height: int, width: int) -> str:
    """Months or years, as many as there is room for."""
    wanted = max(2, width // 95)
    firsts = [place for place, start in enumerate(starts) if place == 0 or start[:7] != starts[place - 1][:7]]
    if len(firsts) < 2:  # all in one month: name the days
        step = -(-len(starts) // wanted)
        return "".join(
            text(
                x(place),
                height - 8,
                words.day(starts[place])[:-5],
                "axis",
                "end" if x(place) > width - 30 else "middle",
            )
            for place in range(0, len(starts), step)
        )
    step = next((size for size in (1, 2, 3, 6, 12, 24, 60, 120) if len(firsts) <= wanted * size), 240)
    chosen = [
        place for place in firsts if (int(starts[place][:4]) * 12 + int(starts[place][5:7]) - 1) % step == 0
    ]
    marks = []
    for place in chosen:
        month = words.MONTHS[int(starts[place][5:7]) - 1]
        said = starts[place][:4] if month == "Jan" or step >= 12 else month
        if x(place) > width - 24 or x(place) < 40:
            continue
        marks.append(rule(x(place), height - 30, x(place), height - 25, "tick"))
        marks.append(text(x(place), height - 8, said, "axis strong" if said.isdigit() else "axis", "middle"))
    return "".join(marks)


def sparkline(values: Sequence[float], shift: int | None) -> str:
    """A series as small as a word."""
    width, height = 120, 28
    x = Scale(0, max(1, len(values) - 1), 2, width - 2)
    y = Scale(min(0.0, *values), max(0.0, *values) or 1.0, height - 2, 3)
    marks = f'<path class="line" d="{path([(x(place), y(value)) for place, value in enumerate(values)])}"/>'
    if shift is not None:
        marks += rule(x(shift), 0, x(shift), height, "shift")
    return f'<svg class="spark" viewBox="0 0 {width} {height}" aria-hidden="true">{marks}</svg>'


def spread(group: Group, low: float, high: float, logarithmic: bool) -> str:
    """The quartiles of a group: a box from a quarter to three quarters, whiskers from 5 % to 95 %, the median."""
    if len(group.quantiles) < len(QUANTILES):
        return ""
    width, height = 150, 20
    x = Scale(low, high, 2, width - 2, logarithmic)
    first, quarter, median, three, last = (x(value) for value in group.quantiles)
    marks = rule(first, 10, last, 10, "whisker") + box(quarter, 4, max(1.0, three - quarter), 12, "quartiles")
    marks += rule(median, 2, median, 18, "median")
    return f'<svg class="box" viewBox="0 0 {width} {height}" aria-hidden="true">{marks}</svg>'


def histogram(profile: Profile, unit: str) -> Callable[[int], tuple[int, str]]:
    """How the values of a measure are spread."""

    def draw(width: int) -> tuple[int, str]:
        height, left, right, top, bottom = 220, 58, 12, 28, 28
        bins = profile.bins
        x = Scale(bins[0].low, bins[-1].high, left, width - right, profile.logarithmic)
        most = max(one.rows for one in bins) or 1
        y = Scale(0, most, height - bottom, top)
        marks = [
            value_axis(ticks(0, most, 3)[1:], y, left, width - right, ""),
            text(left - 8, top - 14, "rows", "axis", "end"),
        ]
        marks += [
            box(
                x(one.low) + 0.5,
                y(one.rows),
                max(0.5, x(one.high) - x(one.low) - 1),
                y(0) - y(one.rows),
                "bar",
                f"{words.figure(one.low, unit)} to {words.figure(one.high, unit)}: {words.many(one.rows, 'row')}",
            )
            for one in bins
            if one.rows
        ]
        marks.append(rule(left, y(0), width - right, y(0), "zero"))
        named = ratio_ticks if profile.logarithmic else ticks
        for value in named(bins[0].low, bins[-1].high, max(3, width // 110)):
            anchor = "start" if x(value) < left + 20 else "end" if x(value) > width - right - 20 else "middle"
            marks.append(text(x(value), height - 8, words.round_figure(value, unit), "axis", anchor))
        middle = profile.quantiles[MEDIAN]
        anchor = "end" if x(middle) > width * 0.6 else "start"
        marks.append(rule(x(middle), top - 8, x(middle), y(0), "trend"))
        said = f"median {words.figure(middle, unit)}"
        marks.append(text(x(middle) + (-6 if anchor == "end" else 6), top - 8, said, "note", anchor))
        return height, "".join(marks)

    return draw


def week(rhythm: Rhythm, unit: str) -> Callable[[int], tuple[int, str]]:
    """Weekday by hour as tiles; the darker, the more. Without hours, seven bars."""
    totals = {(day, hour): (rows, total) for day, hour, rows, total in rhythm.rows}
    most = max((total for _, total in totals.values()), default=0.0) or 1.0

    def tiles(width: int) -> tuple[int, str]:
        left, top = 40, 6
        cell = (width - left - 4) / 24
        tall = max(18.0, min(26.0, cell))
        marks = []
        for day, name in enumerate(words.WEEKDAYS):
            marks.append(text(left - 8, top + day * tall + tall / 2 + 4, name[:3], "axis", "end"))
            for hour in range(24):
                rows, total = totals.get((day, hour), (0, 0.0))
                share = max(0.0, total) / most
                told = f"{name} {hour}:00: {words.figure(total, unit)} in {words.many(rows, 'row')}"
                place = (left + hour * cell + 1, top + day * tall + 1, cell - 2, tall - 2)
                marks.append(box(*place, "tile", told, f' rx="2" fill-opacity="{0.07 + 0.93 * share:.2f}"'))
        step = 6 if width < 600 else 3
        for hour in range(0, 24, step):
            marks.append(text(left + hour * cell + 1, top + 7 * tall + 16, f"{hour}:00", "axis"))
        return round(top + 7 * tall + 24), "".join(marks)

    def bars(width: int) -> tuple[int, str]:
        left, tall = 84, 26
        days = [
            sum(total for (day, _), (_, total) in totals.items() if day == weekday) for weekday in range(7)
        ]
        x = Scale(0, max(days) or 1.0, left, width - 70)
        marks = []
        for day, total in enumerate(days):
            marks.append(text(left - 10, day * tall + 17, words.WEEKDAYS[day], "axis", "end"))
            marks.append(
                box(
                    left, day * tall + 5, max(1.0, x(max(0.0, total)) - left), tall - 10, "bar", "", ' rx="2"'
                )
            )
            marks.append(text(x(max(0.0, total)) + 8, day * tall + 17, words.figure(total, unit), "note"))
        return 7 * tall + 4, "".join(marks)

    return tiles if rhythm.hours else bars
