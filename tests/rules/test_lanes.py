"""Concurrency keys: what they may be, who may run, and when a call lapses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import UsageError
from holdfast.model import Lane
from holdfast.rules.lanes import CALL_LAPSES_US, MAX_AT_ONCE, MAX_KEY, Concurrency, lapsed, may_run


def test_a_key_is_text_or_made_of_the_input():
    assert Concurrency("customer-7").lane((1, 2)) == Lane(key="customer-7", at_most=1)
    assert Concurrency(lambda repo, times: repo, limit=3).lane(("kelp", 2)) == Lane(key="kelp", at_most=3)
    assert Concurrency(lambda number: number).lane((7,)) == Lane(key="7", at_most=1)
    assert Concurrency(lambda repo: None).lane(("kelp",)) is None


@pytest.mark.parametrize("key", ["", "a\nb", "x" * (MAX_KEY + 1), 7, None])
def test_what_cannot_be_a_key_is_refused_with_an_example(key: object):
    with pytest.raises(UsageError, match=r"Concurrency\('customer-7'\)"):
        Concurrency(key)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, -1, MAX_AT_ONCE + 1, 1.5, True])
def test_what_cannot_be_a_limit_is_refused_with_the_bounds(limit: object):
    with pytest.raises(UsageError, match=f"from 1 to {MAX_AT_ONCE}"):
        Concurrency("k", limit=limit)  # type: ignore[arg-type]


def test_a_key_function_that_fails_or_returns_something_else_says_so():
    with pytest.raises(UsageError, match="raised KeyError"):
        Concurrency(lambda order: order["customer"]).lane(({},))
    with pytest.raises(UsageError, match=r"not 1\.5"):
        Concurrency(lambda number: number).lane((1.5,))


@given(st.integers(1, 5), st.integers(0, 6), st.none() | st.integers(1, 5), st.integers(0, 6))
def test_nobody_runs_over_the_smallest_limit_or_ahead_of_its_turn(
    at_most: int, live: int, narrowest: int | None, ahead: int
):
    may = may_run(Lane(key="k", at_most=at_most), live=live, narrowest=narrowest, ahead=ahead)
    assert may == all(live + ahead + 1 <= limit for limit in (at_most, narrowest) if limit is not None)


def test_a_call_lapses_in_time_and_when_the_clock_was_set_back():
    assert [lapsed(100, now) for now in (99, 100, 100 + CALL_LAPSES_US - 1, 100 + CALL_LAPSES_US)] == [
        True, False, False, True,
    ]  # fmt: skip
