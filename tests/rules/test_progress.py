"""Progress: percent, the time left, and what is recorded."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import UsageError
from holdfast.model import Progress
from holdfast.rules.progress import MAX_RECORDED_A_SECOND, eta, merge, percent, reported, worth_recording

S = 1_000_000
START_US = 1_000 * S


def after(worked_s: float, current: float, total: float | None) -> Progress:
    return Progress(
        current=current, total=total, started_at_us=START_US, updated_at_us=START_US + round(worked_s * S)
    )


@pytest.mark.parametrize(
    ("current", "total", "expected"),
    [
        (0, 10, 0.0),
        (5, 10, 50.0),
        (12, 10, 100.0),
        (-1, 10, 0.0),
        (0, 0, 100.0),
        (3, 0, 100.0),
        (3, -1, 100.0),
        (3, None, None),
        (math.nan, 10, None),
        (1, math.inf, None),
    ],
)
def test_percent_is_honest(current: float, total: float | None, expected: float | None):
    assert percent(Progress(current=current, total=total)) == expected


@given(st.floats(), st.none() | st.floats())
def test_percent_is_always_within_0_and_100(current: float, total: float | None):
    done = percent(Progress(current=current, total=total))
    assert done is None or 0.0 <= done <= 100.0


def test_the_time_left_is_a_rounded_range_around_the_mean_rate():
    progress = after(100, 50, 100)
    low, high = eta(progress, progress.updated_at_us) or (0, 0)
    assert low < 100 < high
    assert (low, high) == (60.0, 180.0)


def test_the_range_narrows_as_more_is_done():
    early, late = after(100, 10, 100), after(900, 90, 100)
    (low, high), (later_low, later_high) = eta(early, early.updated_at_us), eta(late, late.updated_at_us)  # type: ignore[misc]
    assert high / low > later_high / later_low


@pytest.mark.parametrize(
    "progress",
    [
        Progress(current=5, total=None, started_at_us=1, updated_at_us=5 * S),
        Progress(current=5, total=10, started_at_us=0, updated_at_us=5 * S),
        after(0.5, 5, 10),
        after(5, 0, 10),
        after(3_600, 1e-9, 10),
    ],
    ids=["no total", "no start", "just begun", "nothing done", "ages"],
)
def test_no_figure_is_given_that_nothing_supports(progress: Progress):
    assert eta(progress, progress.updated_at_us) is None


def test_what_is_done_takes_no_more_time():
    assert eta(after(5, 10, 10), START_US + 900 * S) == (0.0, 0.0)


def test_a_run_that_falls_silent_is_expected_to_take_as_long_again():
    progress = after(100, 50, 100)
    low, high = eta(progress, progress.updated_at_us + 3_000 * S) or (0, 0)
    assert (low, high) == (0.0, 3_000.0)


@given(
    st.floats(0, 1e7),
    st.floats(-1e3, 1e9),
    st.none() | st.floats(-1, 1e9),
    st.integers(-(10**9), 10**12),
    st.booleans(),
)
def test_the_low_end_never_exceeds_the_high_end(worked_s, current, total, silent_us, started):
    progress = after(worked_s, current, total)
    if not started:
        progress = Progress(current=current, total=total)
    left = eta(progress, progress.updated_at_us + silent_us)
    assert left is None or 0 <= left[0] <= left[1] < math.inf


def test_at_most_twenty_reports_a_second_are_recorded():
    recorded: list[int] = []
    for now_us in range(0, 1_000_000, 1_000):
        if worth_recording(recorded[-1] if recorded else None, now_us):
            recorded.append(now_us)
    assert len(recorded) == MAX_RECORDED_A_SECOND == 20


def test_a_clock_set_back_silences_nobody():
    assert worth_recording(10 * S, 9 * S)


def test_a_phase_keeps_its_start_and_another_begins_anew():
    first = merge(None, Progress(current=1, total=9, phase="a"), 100)
    assert (first.started_at_us, first.updated_at_us) == (100, 100)
    second = merge(first, Progress(current=2, total=9, phase="a", description="x"), 200)
    assert (second.started_at_us, second.updated_at_us, second.description) == (100, 200, "x")
    assert merge(second, Progress(current=2, phase="b"), 300).started_at_us == 300


def test_a_count_that_starts_over_starts_its_time_over():
    old = merge(None, Progress(current=9, total=9), 100)
    assert merge(old, Progress(current=0, total=9), 500).started_at_us == 500


def test_a_start_that_was_never_recorded_is_now():
    assert merge(Progress(current=1), Progress(current=2), 500).started_at_us == 500


def test_a_report_keeps_whole_numbers_and_cuts_long_words() -> None:
    report = reported("it", 3, 2.5, "d" * 2000, "p" * 300)
    assert (report.current, report.total, len(report.description), len(report.phase or "")) == (
        3,
        2.5,
        1000,
        200,
    )
    assert isinstance(report.current, int)
    assert reported("it", 2**60, None, "\ud800", None) == Progress(current=float(2**60), description="?")


@pytest.mark.parametrize("figure", ["3", b"3", math.nan, math.inf, None, [], 10**400])
def test_what_is_no_finite_number_is_refused(figure: object) -> None:
    with pytest.raises(UsageError, match="the current of it must be a finite number"):
        reported("it", figure, None, "", None)
    if figure is not None:
        with pytest.raises(UsageError, match="the total of it must be a finite number"):
            reported("it", 1, figure, "", None)
