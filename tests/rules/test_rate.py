"""Shared rates: what is written, and that no window ever has more than the rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import UsageError
from holdfast.model import Terms
from holdfast.rules import rate as rule
from holdfast.rules.rate import (
    HORIZON_US,
    LATE_US,
    MAX_NAME,
    Booked,
    RateLimit,
    hold_back,
    interval_us,
    later,
    stands,
    take,
    terms_of,
)

MINUTE_US = 60_000_000


@pytest.mark.parametrize(
    ("written", "units", "period_us"),
    [
        ("500/m", 500, MINUTE_US),
        ("500 / min", 500, MINUTE_US),
        ("10/s", 10, 1_000_000),
        ("3/15m", 3, 15 * MINUTE_US),
        ("1/1.5s", 1, 1_500_000),
        ("90000/h", 90_000, 3_600_000_000),
        ("2/d", 2, 86_400_000_000),
        ("5/100ms", 5, 100_000),
    ],
)
def test_a_rate_is_units_and_a_period(written: str, units: int, period_us: int):
    terms = terms_of(written)
    assert terms == Terms(units=units, period_us=period_us, burst=1)
    assert terms_of(rule.written(terms)) == terms


def test_a_rate_is_written_as_people_write_it():
    assert [rule.written(terms_of(text)) for text in ("500 / min", "3/900s", "1/1500ms", "2/d")] == [
        "500/m",
        "3/15m",
        "1/1500ms",
        "2/d",
    ]
    assert rule.written(Terms(units=1, period_us=2_500, burst=1)) == "1/0.0025s"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("500", r"did you mean '500/m'\?"),
        (500, r"did you mean '500/m'\?"),
        ("500rpm", r"did you mean '500/m'\?"),
        ("500 per minute", r"did you mean '500/m'\?"),
        ("10/sec", r"did you mean '10/s'\?"),
        ("10 per hour", r"did you mean '10/h'\?"),
        ("90_000/day", r"did you mean '90000/d'\?"),
        ("fast", "write units and a period, such as '500/m'"),
    ],
)
def test_what_is_no_rate_is_refused_with_what_was_meant(written: object, meant: str):
    with pytest.raises(UsageError, match=meant):
        RateLimit("openai", written)  # type: ignore[arg-type]


@pytest.mark.parametrize("written", ["0/s", "1/0s", "1/32d", "1000000001/s"])
def test_a_rate_out_of_bounds_is_refused(written: str):
    with pytest.raises(UsageError, match="out of bounds"):
        RateLimit("openai", written)


@pytest.mark.parametrize("name", ["", "a\nb", "x" * (MAX_NAME + 1), 7])
def test_what_cannot_be_a_name_is_refused(name: object):
    with pytest.raises(UsageError, match="the name of a RateLimit"):
        RateLimit(name, "1/s")  # type: ignore[arg-type]


def test_a_call_costs_at_most_the_burst():
    limit = RateLimit("openai", "500/m", burst=3)
    assert limit.cost(3).units == 3
    with pytest.raises(UsageError, match=r"RateLimit\('openai', '500/m', burst=4\) or more"):
        limit.cost(4)
    for wrong in (0, 1.5, True):
        with pytest.raises(UsageError, match="a whole number of units"):
            limit.cost(wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="burst=0"):
        RateLimit("openai", "500/m", burst=0)


def _starts(terms: Terms, asked: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """When the calls start that ask after so many µs each, at this cost: instants and units."""
    booked, now_us, starts = Booked(), 0, []
    for after_us, cost, held_us in asked:
        now_us += after_us
        booked = later(booked, after_us)
        if held_us:
            booked = hold_back(booked, terms, held_us)
        booked, wait_us = take(booked, terms, cost)
        if wait_us is not None:
            starts.append((now_us + wait_us, cost))
    return starts


@given(
    units=st.integers(1, 50),
    period_us=st.integers(1, 10_000),
    burst=st.integers(1, 9),
    asked=st.lists(
        st.tuples(st.integers(0, 5_000), st.integers(1, 9), st.sampled_from([0, 0, 0, 700])), max_size=60
    ),
)
def test_no_window_has_more_units_than_the_rate(
    units: int, period_us: int, burst: int, asked: list[tuple[int, int, int]]
):
    terms = Terms(units=units, period_us=period_us, burst=burst)
    starts = _starts(terms, [(after_us, min(cost, burst), held_us) for after_us, cost, held_us in asked])
    for first in range(len(starts)):
        within = 0
        for at_us, cost in starts[first:]:
            within += cost
            window_us = at_us - starts[first][0] + 1
            allowed = burst - 1 - (-window_us * units // period_us)
            assert within <= allowed, f"{within} units within {window_us} µs, {allowed} are allowed"


@given(st.integers(1, 1_000), st.integers(1, 50))
def test_whoever_asks_without_a_pause_gets_the_whole_rate(units: int, burst: int):
    terms = Terms(units=units, period_us=MINUTE_US, burst=burst)
    starts = _starts(terms, [(0, 1, 0)] * (2 * units + burst))
    assert starts[-1][0] <= 2 * MINUTE_US + len(starts), "rounding costs a microsecond a call"


def test_turns_are_in_the_order_of_asking():
    starts = _starts(terms_of("10/s", burst=2), [(0, 1, 0)] * 5)
    assert [at_us for at_us, _ in starts] == [0, 0, 100_000, 200_000, 300_000]


def test_a_server_that_asks_to_wait_moves_everybody_and_ends_the_burst():
    starts = _starts(terms_of("10/s", burst=5), [(0, 1, 0), (0, 1, 3_000_000), (0, 1, 0), (0, 1, 0)])
    assert [at_us for at_us, _ in starts] == [0, 3_000_000, 3_100_000, 3_200_000]
    assert hold_back(Booked(9_000_000, 5_000_000), terms_of("10/s"), 1_000) == Booked(9_000_000, 5_000_000)


def test_time_that_went_back_is_no_time():
    assert later(Booked(100, 50), -30) == Booked(100, 50)
    assert later(Booked(100, 50), 70) == Booked(30, 0)


def test_nothing_is_booked_further_ahead_than_a_day():
    terms, booked = terms_of("1/h"), Booked()
    waits = []
    for _ in range(30):
        booked, wait_us = take(booked, terms, 1)
        waits.append(wait_us)
    assert waits[24] == HORIZON_US and waits[25:] == [None] * 5
    assert booked.ahead_us == HORIZON_US + interval_us(terms, 1)


def test_a_call_heavier_than_an_operators_burst_waits_until_nothing_is_booked():
    terms = terms_of("10/s", burst=1)
    booked, wait_us = take(Booked(), terms, 4)
    assert (booked.ahead_us, wait_us) == (400_000, 0)
    assert take(booked, terms, 4)[1] == 400_000


def test_a_turn_stands_until_it_is_late_or_held_back():
    assert [stands(in_us, 0) for in_us in (5, 0, -LATE_US, -LATE_US - 1)] == [True, True, True, False]
    assert [stands(in_us, 100) for in_us in (101, 100, 99, -5)] == [True, True, False, False]
