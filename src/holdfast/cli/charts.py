"""What a run used over its life, as sparklines: a line a figure, with its peak."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table

from holdfast.cli import words
from holdfast.cli.console import Text
from holdfast.client import ResourcesView, UsageView

BLOCKS: Final = "▁▂▃▄▅▆▇█"
PLAIN: Final = ".:-=+*#@"
"""The same for terminals that know no blocks."""
WIDEST: Final = 60
NARROWEST: Final = 10
LEAST_HELD_S: Final = 0.2
"""A loop that keeps others waiting for less is as it should be."""
BESIDE: Final = 46
"""What stands around a line: its name, and its figures."""


def spark(values: Sequence[float | None], most: float, blocks: str = BLOCKS) -> str:
    """A character a value, 0 to `most`; None is a gap: nothing was measured then."""
    top = len(blocks) - 1
    scale = top / most if most > 0 else 0.0
    return "".join(
        " " if value is None else blocks[min(top, max(0, round(value * scale)))] for value in values
    )


def columns(
    history: Sequence[UsageView], value: Callable[[UsageView], float | None], count: int, *, mean: bool
) -> list[float | None]:
    """The history in `count` equal stretches of time: the mean of each by how long it lasted, or the most."""
    ends_s = history[-1].at.timestamp()
    begins_s = min(one.at.timestamp() - one.span_s for one in history)
    width_s = max(1e-6, (ends_s - begins_s) / count)
    weights, sums, peaks = [0.0] * count, [0.0] * count, [0.0] * count
    for one in history:
        if (found := value(one)) is None:
            continue
        until_s = one.at.timestamp() - begins_s
        from_s = max(0.0, until_s - one.span_s)
        for column in range(int(from_s / width_s), min(count, int(until_s / width_s) + 1)):
            share_s = min(until_s, (column + 1) * width_s) - max(from_s, column * width_s)
            if share_s > 0:
                weights[column] += share_s
                sums[column] += share_s * found
                peaks[column] = max(peaks[column], found)
    return [
        None if not weight else total / weight if mean else peak
        for weight, total, peak in zip(weights, sums, peaks, strict=True)
    ]


def history_chart(
    history: Sequence[UsageView], now: ResourcesView | None, width: int, *, blocks: str = BLOCKS
) -> RenderableType | None:
    """The lines that `show` draws; None when nothing was measured of the run alone."""
    if not history:
        return None
    count = max(NARROWEST, min(WIDEST, width - BESIDE))
    own = None if now is None or now.shared else now
    grid = Table.grid(padding=(0, 2))
    for style in ("dim", "cyan", ""):
        grid.add_column(style=style, no_wrap=True)
    for line in _LINES:
        values = columns(history, line.value, count, mean=line.mean)
        known = [found for one in history if (found := line.value(one)) is not None]
        if not known or (line.optional and not any(known)):
            continue
        current = None if own is None else line.now(own)
        figures = (
            f"peak {line.told(max(known))}"
            if current is None
            else (f"now {line.told(current)}, peak {line.told(max(known))}")
        )
        grid.add_row(line.name, spark(values, max(line.least, max(known)), blocks), figures)
    begins = min(one.at.timestamp() - one.span_s for one in history)
    lasted = words.duration(history[-1].at.timestamp() - begins)
    head = Text(f"used, until {words.clock(history[-1].at)}, over {lasted}", style="dim")
    return Group(head, Padding(grid, (0, 0, 0, 2), expand=False))


class _Line:
    """A figure: how it is read, drawn (`least`: the scale is no finer) and told."""

    def __init__(
        self,
        name: str,
        value: Callable[[UsageView], float | None],
        now: Callable[[ResourcesView], float | None],
        told: Callable[[float], str],
        *,
        mean: bool = False,
        optional: bool = False,
        least: float = 0.0,
    ) -> None:
        self.name, self.value, self.now, self.told = name, value, now, told
        self.mean, self.optional, self.least = mean, optional, least


def _percent(value: float) -> str:
    return f"{value:.0f} %"


def megabytes(value: float) -> str:
    """`0.4 MB`, `180 MB`, `2.1 GB`: as they are counted, 1024 times 1024 bytes."""
    return (
        f"{value / 1024:.1f} GB" if value >= 1000 else f"{value:.0f} MB" if value >= 10 else f"{value:.1f} MB"
    )


def _rate(value: float) -> str:
    return f"{megabytes(value)}/s"


def _per_second(value: float | None, span_s: float) -> float | None:
    return None if value is None else value / max(1e-6, span_s)


def _held_s(one: UsageView) -> float | None:
    lag_s = one.loop_lag_s
    return 0.0 if lag_s is not None and lag_s < LEAST_HELD_S else lag_s


_LINES: Final = (
    _Line("cpu", lambda one: one.cpu_percent, lambda now: now.cpu_percent, _percent, mean=True, least=10.0),
    _Line("memory", lambda one: one.memory_mb, lambda now: now.memory_mb, megabytes),
    _Line(
        "processes",
        lambda one: one.processes,
        lambda now: now.processes,
        lambda value: f"{value:.0f}",
    ),
    _Line(
        "read",
        lambda one: _per_second(one.read_mb, one.span_s),
        lambda now: now.read_mb_s,
        _rate,
        mean=True,
        optional=True,
        least=0.1,
    ),
    _Line(
        "written",
        lambda one: _per_second(one.written_mb, one.span_s),
        lambda now: now.written_mb_s,
        _rate,
        mean=True,
        optional=True,
        least=0.1,
    ),
    _Line("workspace", lambda one: one.workspace_mb, lambda now: now.workspace_mb, megabytes),
    _Line("loop held", _held_s, lambda _: None, lambda value: f"{value:.1f} s", optional=True),
)
