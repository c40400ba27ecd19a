"""Analysis: trends, shifts, quantiles and outliers, on series whose answer is known."""

# ruff: noqa: DTZ001 -- times of a report have no zone
from __future__ import annotations

import math
import random
import statistics
from datetime import date, datetime

import pytest

from examples.report import analyse, duck, trend
from holdfast import FatalError


def noisy(values: list[float], seed: int = 1, noise: float = 1.0) -> list[float]:
    chance = random.Random(seed)
    return [value + chance.gauss(0, noise) for value in values]


STARTS = [str(date(2023, 1, 2).toordinal() + 7 * n) for n in range(120)]


def test_a_line_is_the_line_of_the_standard_library() -> None:
    values = noisy([3 + 0.5 * x for x in range(50)])
    found, wanted = trend.line(values), statistics.linear_regression(range(50), values)
    assert math.isclose(found.slope, wanted.slope) and math.isclose(found.intercept, wanted.intercept)
    assert found.t > trend.CLEAR_T


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_has_no_clear_trend_and_no_shift(seed: int) -> None:
    values = noisy([100.0] * 100, seed, 10)
    assert abs(trend.line(values).t) < trend.CLEAR_T
    assert trend.shift(values, STARTS) is None


@pytest.mark.parametrize("seed", range(10))
def test_a_trend_is_no_shift(seed: int) -> None:
    assert trend.shift(noisy([100 + 2.0 * x for x in range(100)], seed, 10), STARTS) is None


@pytest.mark.parametrize(("place", "step"), [(30, -40.0), (66, 35.0), (90, -50.0)])
def test_a_shift_is_found_where_it_is_beside_a_trend(place: int, step: float) -> None:
    values = noisy([100 + 0.5 * x + (step if x >= place else 0.0) for x in range(104)], place, 6)
    found = trend.shift(values, STARTS)
    assert found is not None and found.index == place and found.at == STARTS[place]
    assert abs(found.after - found.before - step) < 8 and abs(found.before - 100 - 0.5 * place) < 6
    assert (
        abs(found.slope - 0.5) < 0.1 and found.slope_t > trend.CLEAR_T
    )  # the trend is what is left beside it


def test_what_is_exact_is_beyond_doubt_and_what_is_flat_is_nothing() -> None:
    assert trend.line([1.0, 2.0, 3.0, 4.0]).t == math.inf
    assert trend.line([2.0] * 9).t == 0.0
    assert trend.line([]).t == trend.line([1.0]).t == 0.0
    assert trend.shift([5.0] * 40, STARTS) is None
    found = trend.shift([10.0] * 20 + [5.0] * 20, STARTS)
    assert found is not None and (found.index, found.share) == (20, -0.5)


def test_only_whole_periods_count() -> None:
    first, last = datetime(2024, 1, 3, 12), datetime(2024, 3, 17, 23)
    weeks = analyse.whole_periods(first, last, "week")
    assert (weeks[0], weeks[-1], len(weeks)) == (date(2024, 1, 8), date(2024, 3, 11), 10)
    assert analyse.whole_periods(first, last, "month") == [date(2024, 2, 1)]
    assert analyse.whole_periods(datetime(2024, 1, 1), datetime(2024, 1, 3), "day")[-1] == date(2024, 1, 3)
    assert analyse.whole_periods(datetime(2024, 1, 2), datetime(2024, 1, 3), "month") == []


def test_the_period_follows_from_the_span() -> None:
    assert [trend.period_of(days) for days in (1, 120, 121, 1_100, 1_101)] == [
        "day",
        "day",
        "week",
        "week",
        "month",
    ]


def test_quantiles_are_those_of_the_standard_library_in_each_group() -> None:
    chance = random.Random(5)
    rows = [(chance.choice("abc"), chance.gauss(0, 1)) for _ in range(500)]
    with duck.opened(64) as db:
        db.execute("CREATE TABLE rows (g VARCHAR, x DOUBLE)")
        db.executemany("INSERT INTO rows VALUES (?, ?)", [*rows, ("a", None), (None, 1.0), ("one", 4.0)])
        found = analyse.quantiles(db, "x", (0.05, 0.5, 0.95), "g")
    assert found.pop("one") == (4.0, 4.0, 4.0)
    for group, values in found.items():
        wanted = statistics.quantiles([x for g, x in rows if g == group], n=20, method="inclusive")
        assert values == pytest.approx((wanted[0], wanted[9], wanted[18])), group


def test_sums_do_not_depend_on_the_order_of_rows() -> None:
    chance = random.Random(2)
    values = [chance.uniform(-1e9, 1e9) / 7 for _ in range(2_000)]
    sums = set()
    with duck.opened(64) as db:
        for _ in range(3):
            chance.shuffle(values)
            db.execute("CREATE OR REPLACE TABLE rows (x DOUBLE)")
            db.executemany("INSERT INTO rows VALUES (?)", [(value,) for value in values])
            sums.add(analyse.one(db, f"SELECT {analyse.exact('x', analyse.scale_for(1e9, 2_000))} FROM rows"))
    assert len(sums) == 1


@pytest.mark.parametrize(("largest", "rows"), [(1.0, 1), (1e9, 3_000_000), (1e20, 10**9), (1e-5, 10)])
def test_a_sum_never_runs_over_its_digits(largest: float, rows: int) -> None:
    assert math.log10(max(largest, 1)) + math.log10(rows) + analyse.scale_for(largest, rows) < 38


def test_what_does_not_fit_under_the_limit_says_which_limit() -> None:
    with (
        pytest.raises(FatalError, match=r"within 16 MB .* give the run more: memory_mb"),
        duck.opened(16) as db,
    ):
        db.execute("SELECT list(i) FROM range(20_000_000) t(i)").fetchall()


def test_a_sort_larger_than_the_limit_goes_to_the_disk() -> None:
    with duck.opened(24) as db:
        db.execute("CREATE VIEW rows AS SELECT hash(i)::VARCHAR AS x FROM range(1_000_000) t(i)")
        found = db.execute("SELECT x FROM rows ORDER BY x OFFSET 999_999").fetchall()
    assert len(found) == 1
