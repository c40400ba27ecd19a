"""The history of a run as sparklines."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from holdfast.cli.charts import BLOCKS, PLAIN, columns, history_chart, spark
from holdfast.client import ResourcesView, UsageView

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOW = ResourcesView(cpu_percent=12.0, memory_mb=64.0, disk_mb=1.0, processes=2, level="ok", shared=False)


def used(until_s: float, span_s: float = 1.0, **changes: Any) -> UsageView:
    figures: dict[str, Any] = {
        "cpu_percent": 50.0, "memory_mb": 100.0, "processes": 1, "read_mb": None, "written_mb": None,
        "workspace_mb": None, "disk_free_mb": None, "loop_lag_s": None,
    } | changes  # fmt: skip
    return UsageView(at=BEGAN + timedelta(seconds=until_s), span_s=span_s, **figures)


def drawn(history: list[UsageView], now: ResourcesView | None = None, width: int = 80) -> list[str]:
    file = io.StringIO()
    chart = history_chart(history, now, width)
    assert chart is not None
    Console(file=file, width=width).print(chart)
    return file.getvalue().splitlines()


def test_a_value_is_drawn_from_nothing_to_the_most_and_a_gap_is_blank() -> None:
    assert spark([0, 50, 100, None, 100], 100) == "▁▅█ █"
    assert spark([0, 0], 0) == "▁▁"
    assert spark([0, 100], 100, PLAIN) == ".@"
    assert spark([200], 100) == BLOCKS[-1]


def test_columns_are_equal_stretches_of_time_with_their_mean_or_peak() -> None:
    history = [used(10, 10, cpu_percent=10.0), used(20, 10, cpu_percent=90.0)]
    assert columns(history, lambda one: one.cpu_percent, 2, mean=True) == [10.0, 90.0]
    assert columns(history, lambda one: one.cpu_percent, 1, mean=True) == [50.0]
    assert columns(history, lambda one: one.cpu_percent, 1, mean=False) == [90.0]
    assert columns(history, lambda one: one.cpu_percent, 4, mean=True) == [10.0, 10.0, 90.0, 90.0]


def test_a_stretch_in_which_nobody_executed_it_is_a_gap() -> None:
    history = [used(10, 10), used(40, 10)]
    assert columns(history, lambda one: one.cpu_percent, 4, mean=True) == [50.0, None, None, 50.0]
    assert columns(history, lambda one: one.read_mb, 2, mean=True) == [None, None]


def test_the_chart_says_each_figure_with_its_peak_and_unit() -> None:
    history = [
        used(1, cpu_percent=5.0, memory_mb=2048.0, written_mb=3.0),
        used(2, cpu_percent=97.0, processes=4, written_mb=0.0),
    ]
    head, cpu, memory, processes, written = [line.rstrip() for line in drawn(history, NOW)]
    assert head == "used, until 2026-01-02 03:04:07Z, over 2.0s"
    assert cpu.split()[0] == "cpu" and cpu.endswith("now 12 %, peak 97 %")
    assert memory.split()[0] == "memory" and memory.endswith("now 64 MB, peak 2.0 GB")
    assert processes.endswith("now 2, peak 4")
    assert written.endswith("peak 3.0 MB/s")
    assert "now" not in drawn(history)[1]


def test_figures_of_a_whole_worker_are_not_those_of_the_run() -> None:
    shared = ResourcesView(cpu_percent=99.0, memory_mb=1.0, disk_mb=1.0, processes=9, level="ok", shared=True)
    assert "now" not in "".join(drawn([used(1)], shared))


def test_the_chart_fits_its_terminal() -> None:
    history = [used(n, written_mb=1.0, read_mb=2.0, workspace_mb=1500.0) for n in range(1, 500)]
    for width in (80, 60, 200):
        lines = drawn(history, NOW, width)
        assert len(lines) == 7
        assert all(len(line.rstrip()) <= width and "…" not in line for line in lines)
    assert len(drawn(history, NOW, 80)[1]) < len(drawn(history, NOW, 200)[1].rstrip()) + 1


def test_without_figures_nothing_is_drawn() -> None:
    assert history_chart([], NOW, 80) is None
