"""Pressure: thresholds, hysteresis, and defaults that leave healthy agents alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from holdfast.errors import UsageError
from holdfast.model import Level, Sample
from holdfast.rules.pressure import HYSTERESIS, Measure, Thresholds, measure, slow_down_s, verdict

HEALTHY = Sample(cpu_percent=100.0, memory_mb=900.0, disk_mb=50_000.0, processes=12)
MACHINE = Thresholds.for_machine(memory_mb=8_192.0)
ORDER = [Level.OK, Level.WARNING, Level.CRITICAL]


def judged(previous: Level = Level.OK, thresholds: Thresholds = MACHINE, **figures: float) -> Level:
    return verdict(previous, replace(HEALTHY, **figures), thresholds)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("thresholds", [Thresholds(), MACHINE])
@pytest.mark.parametrize("cpu_percent", [100.0, 800.0])
def test_a_busy_and_healthy_agent_is_never_throttled(cpu_percent: float, thresholds: Thresholds):
    assert judged(cpu_percent=cpu_percent, thresholds=thresholds) is Level.OK


@pytest.mark.parametrize(
    ("figures", "level"),
    [
        ({"memory_mb": 8_192 * 0.70}, Level.WARNING),
        ({"memory_mb": 8_192 * 0.85}, Level.CRITICAL),
        ({"disk_mb": 1_024.0}, Level.WARNING),
        ({"disk_mb": 256.0}, Level.CRITICAL),
        ({"processes": 500}, Level.WARNING),
        ({"processes": 2_000}, Level.CRITICAL),
        ({"memory_mb": 6_000.0, "disk_mb": 100.0}, Level.CRITICAL),
    ],
    ids=str,
)
def test_the_worst_measure_decides(figures: dict[str, float], level: Level):
    assert judged(**figures) is level


def test_the_cpu_is_judged_when_it_has_a_threshold():
    thresholds = Thresholds(cpu_percent=(150.0, 190.0))
    assert judged(cpu_percent=100.0, thresholds=thresholds) is Level.OK
    assert judged(cpu_percent=195.0, thresholds=thresholds) is Level.CRITICAL


def test_without_thresholds_nothing_is_judged():
    none = Thresholds(cpu_percent=None, memory_mb=None, disk_mb=None, processes=None)
    assert judged(previous=Level.CRITICAL, memory_mb=10**9, disk_mb=0.0, thresholds=none) is Level.OK


def test_a_level_is_left_only_a_tenth_below_its_threshold():
    thresholds = Thresholds(memory_mb=(1_000.0, 2_000.0))
    assert judged(Level.CRITICAL, thresholds, memory_mb=1_850.0) is Level.CRITICAL
    assert judged(Level.CRITICAL, thresholds, memory_mb=1_799.0) is Level.WARNING
    assert judged(Level.WARNING, thresholds, memory_mb=1_850.0) is Level.WARNING
    assert judged(Level.WARNING, thresholds, memory_mb=905.0) is Level.WARNING
    assert judged(Level.WARNING, thresholds, memory_mb=899.0) is Level.OK


def test_a_disk_has_to_have_a_tenth_more_room_again():
    thresholds = Thresholds(disk_mb=(1_000.0, 200.0))
    assert judged(Level.CRITICAL, thresholds, disk_mb=215.0) is Level.CRITICAL
    assert judged(Level.CRITICAL, thresholds, disk_mb=225.0) is Level.WARNING
    assert judged(Level.WARNING, thresholds, disk_mb=1_101.0) is Level.OK


@given(st.floats(1, 1e6), st.floats(0, 1), st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30))
def test_figures_inside_a_band_never_change_the_verdict(bound: float, start: float, wavering: list[float]):
    """Between the threshold and a tenth below it, the level is what it was, for ever."""
    thresholds = Thresholds(memory_mb=(bound, bound * 2), disk_mb=None, processes=None)
    low, high = bound * (1 - HYSTERESIS), bound * 0.999
    before = judged(Level.OK, thresholds, memory_mb=bound * (1.5 if start > 0.5 else 0.5))
    level = before
    for share in wavering:
        level = judged(level, thresholds, memory_mb=low + (high - low) * share)
        assert level is before


@given(st.sampled_from(ORDER), st.floats(0, 4e3), st.floats(0, 4e3))
def test_more_use_is_never_judged_better(previous: Level, first: float, second: float):
    thresholds = Thresholds(memory_mb=(1_000.0, 2_000.0))
    less, more = sorted((first, second))
    verdicts = [judged(previous, thresholds, memory_mb=figure) for figure in (less, more)]
    assert ORDER.index(verdicts[0]) <= ORDER.index(verdicts[1])


def test_only_critical_pressure_slows_a_run():
    assert [slow_down_s(level) for level in ORDER] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"memory_mb": (2_000.0, 1_000.0)}, "memory_mb.*at most critical"),
        ({"disk_mb": (100.0, 1_000.0)}, "disk_mb.*at least critical"),
        ({"processes": (-1.0, 5.0)}, "processes.*not negative"),
        ({"cpu_percent": (float("nan"), 5.0)}, "cpu_percent.*finite"),
    ],
)
def test_thresholds_in_the_wrong_order_are_refused_by_name(wrong: dict[str, tuple[float, float]], says: str):
    with pytest.raises(UsageError, match=says):
        Thresholds(**wrong)


def test_the_verdict_names_the_measures_that_make_it_and_no_others():
    assert verdict(Level.OK, HEALTHY, MACHINE) == (Level.OK, "")
    full = replace(HEALTHY, disk_mb=100.0, memory_mb=6_000.0)
    assert verdict(Level.OK, full, MACHINE) == (Level.CRITICAL, "100 MB of disk free")
    starved = replace(HEALTHY, memory_stall=34.4)
    why = "this machine waits for memory 34 % of the time"
    assert verdict(Level.OK, starved, MACHINE) == (Level.CRITICAL, why)
    both = replace(HEALTHY, processes=2_500, memory_mb=7_500.0)
    assert verdict(Level.OK, both, MACHINE) == (Level.CRITICAL, "memory 7,500 MB, 2500 processes")


def test_what_is_done_about_a_tree_grows_with_its_level() -> None:
    assert [measure(level) for level in (Level.OK, Level.WARNING, Level.CRITICAL)] == [
        Measure(), Measure(nice=10), Measure(nice=10, stop_s=1.0),
    ]  # fmt: skip
