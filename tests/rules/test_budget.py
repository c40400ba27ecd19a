"""The rule of budgets: nothing begins that does not fit, nothing is charged twice, a crash makes nothing cheaper."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import Refused, UsageError
from holdfast.model import GRAINS, Account, BudgetChange, NewBudget, Unit, Verdict
from holdfast.rules import budget as rules
from holdfast.rules.budget import Budget

USD = GRAINS[Unit.USD]


# --- what people write ------------------------------------------------------------------------------------------


def test_a_budget_is_written_in_dollars_durations_and_counts() -> None:
    terms = Budget(5, tokens_in=1000, working_s="2h", steps=7, soft=0.5).terms
    assert terms == NewBudget(
        limits={
            Unit.USD: 5 * USD,
            Unit.TOKENS_IN: 1000,
            Unit.WORKING_S: 7200 * 1_000_000,
            Unit.STEPS: 7,
        },
        soft_percent=50,
    )
    assert Budget(working_s=timedelta(seconds=3)).limits == {Unit.WORKING_S: 3_000_000}
    assert Budget(usd=0.000_000_001).limits == {Unit.USD: 1}
    assert Budget(usd=Decimal("0.1")).limits == {Unit.USD: USD // 10}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "limits nothing"),
        ({"usd": -1}, "dollars, 0 or more"),
        ({"usd": float("nan")}, "dollars, 0 or more"),
        ({"usd": True}, "dollars, 0 or more"),
        ({"usd": "5"}, "dollars, 0 or more"),
        ({"usd": 1e12}, "over the largest limit"),
        ({"steps": 1.5}, "a whole number"),
        ({"steps": -1}, "a whole number"),
        ({"steps": 10**400}, "over the largest limit"),
        ({"usd": Decimal("NaN")}, "dollars, 0 or more"),
        ({"usd": Decimal("sNaN")}, "dollars, 0 or more"),
        ({"tokens_out": float("inf")}, "a whole number"),
        ({"working_s": "two hours"}, "not a duration"),
        ({"working_s": -1}, "negative"),
        ({"usd": 5, "soft": 0}, "a share of the limit"),
        ({"usd": 5, "soft": 1.2}, "a share of the limit"),
        ({"usd": 5, "soft": "most"}, "a share of the limit"),
    ],
)
def test_what_can_be_no_budget_says_what_it_is(given: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Budget(**given)  # type: ignore[arg-type]


def test_a_unit_that_is_not_there_names_the_nearest() -> None:
    assert rules.budget_of(usd=5) == Budget(5)
    with pytest.raises(UsageError, match="did you mean 'tokens_in'"):
        rules.budget_of(token_in=5)
    with pytest.raises(UsageError, match="there are usd, "):
        rules.budget_of(zzz=5)


def test_what_is_no_budget_is_refused_where_it_is_given() -> None:
    rules.check_budget(None, "agent 'a'")
    rules.check_budget(Budget(5), "agent 'a'")
    with pytest.raises(
        UsageError, match=r"agent 'a': budget=5 is no budget: did you mean budget=Budget\(usd=5\)"
    ):
        rules.check_budget(5, "agent 'a'")


def test_amounts_are_told_as_people_read_them() -> None:
    assert rules.told(Unit.USD, USD * 5 // 4) == "$1.25"
    assert rules.told(Unit.USD, 1_500) == "$0.000002"
    assert rules.told(Unit.WORKING_S, 90_000_000) == "90.0 working seconds"
    assert rules.told(Unit.TOKENS_IN, 12_000) == "12,000 tokens_in"
    assert rules.plain(Unit.USD, USD) == 1.0
    assert rules.plain(Unit.STEPS, 3) == 3
    assert rules.enough(Unit.USD, 1) == "0.01"
    assert rules.enough(Unit.WORKING_S, 1_000_001) == "2"


def test_scopes_are_runs_unless_they_say_otherwise() -> None:
    assert rules.scope_of("r1") == "run:r1"
    assert rules.scope_of("agent:a") == "agent:a"
    assert rules.run_of_scope("run:r1") == "r1"
    assert rules.run_of_scope("project:p") is None
    with pytest.raises(UsageError, match="agent:NAME"):
        rules.scope_of("")


# --- the rule ---------------------------------------------------------------------------------------------------


def account(hard: int | None = 10, used: int = 0, reserved: int = 0) -> Account:
    return Account(unit=Unit.STEPS, hard=hard, used=used, reserved=reserved)


@pytest.mark.parametrize(
    ("of", "asked", "found"),
    [
        (account(None, used=99), 99, Verdict.GRANTED),
        (account(), 10, Verdict.GRANTED),
        (account(used=4, reserved=5), 1, Verdict.GRANTED),
        (account(used=4, reserved=5), 2, Verdict.BUSY),
        (account(used=10), 1, Verdict.FULL),
        (account(used=11), 0, Verdict.FULL),
        (account(), 11, Verdict.FULL),  # more than there will ever be, until it is raised
        (account(reserved=9), 11, Verdict.FULL),
        (account(used=12), 11, Verdict.FULL),  # lowered under what is used
        (account(0), 1, Verdict.FULL),  # lowered to nothing
    ],
)
def test_a_call_begins_only_where_it_fits(of: Account, asked: int, found: Verdict) -> None:
    assert rules.verdict(of, asked) is found


def test_a_refused_call_waits_for_the_next_window_unless_that_is_too_small_for_it() -> None:
    assert rules.wait_us(account(used=9), 2, 5, 12) == 7
    assert rules.wait_us(account(used=9), 2, 5, None) is None
    assert rules.wait_us(account(), 11, 5, 12) is None
    assert rules.wait_us(account(reserved=9), 2, 5, None) == rules.RECHECK_US


def test_the_worst_of_several_units_is_named() -> None:
    granted = {Unit.USD: Verdict.GRANTED}
    assert rules.worst(granted) is None
    assert rules.worst({**granted, Unit.STEPS: Verdict.BUSY}) is Unit.STEPS
    assert rules.worst({Unit.STEPS: Verdict.BUSY, Unit.USD: Verdict.FULL}) is Unit.USD


def test_a_settled_call_frees_what_it_reserved_and_is_charged_what_it_used() -> None:
    assert rules.settle(rules.reserve(account(), 4), 4, 3) == account(used=3)
    assert rules.settle(account(reserved=1), 4, 0) == account(), "never below nothing"


def test_a_lost_call_is_charged_what_it_reserved_at_its_provider_and_is_no_step() -> None:
    asked = {Unit.USD: 5, Unit.TOKENS_OUT: 9, Unit.REQUESTS: 1, Unit.STEPS: 1, Unit.WORKING_S: 1}
    assert rules.lost(asked) == {Unit.USD: 5, Unit.TOKENS_OUT: 9, Unit.REQUESTS: 1}


@pytest.mark.parametrize(
    ("before", "after", "passes"),
    [(7, 8, True), (8, 9, False), (0, 7, False), (0, 10, True)],
)
def test_the_soft_limit_is_passed_once(before: int, after: int, passes: bool) -> None:
    assert rules.passes_soft(account(used=before), account(used=after), 80) is passes
    assert not rules.passes_soft(account(None, used=before), account(None, used=after), 80)


def test_a_limit_that_is_set_under_what_is_used_passes_its_soft_limit_and_one_of_nothing_has_none() -> None:
    assert rules.passes_soft(account(None, used=9), account(used=9), 80)
    assert rules.passes_soft(account(20, used=9), account(used=9), 80)
    assert not rules.passes_soft(account(used=9), account(20, used=9), 80)
    assert not rules.passes_soft(account(0), account(0, used=9), 80)


def test_what_is_counted_ends_where_a_database_ends() -> None:
    assert rules.settle(account(None, used=rules.KEPT - 1), 0, 10**30).used == rules.KEPT < 2**63
    assert rules.reserve(account(None, reserved=rules.KEPT), 10**30).reserved == rules.KEPT


def test_windows_are_aligned_and_a_clock_set_back_ends_none() -> None:
    day = rules.DAY_US
    assert rules.window_start(day, 3 * day + 5) == 3 * day
    assert rules.begins_anew(day, 3 * day, 4 * day)
    assert not rules.begins_anew(day, 3 * day, 4 * day - 1)
    assert not rules.begins_anew(day, 3 * day, 0)
    assert not rules.begins_anew(None, 0, 99 * day)
    assert rules.check_per(day) == day
    for per_us in (1, 400 * day):
        with pytest.raises(UsageError, match="window"):
            rules.check_per(per_us)


def test_raising_what_is_not_limited_is_refused() -> None:
    assert rules.changed("run:r", 5, Unit.STEPS, 3) == 8
    with pytest.raises(Refused, match="run:r has no limit of steps to raise"):
        rules.changed("run:r", None, Unit.STEPS, 3)
    assert BudgetChange() == BudgetChange(set={}, add={})


# --- what holds whatever happens --------------------------------------------------------------------------------

CALLS = st.lists(
    st.tuples(
        st.integers(0, 12),  # asked
        st.integers(0, 20),  # what it really uses
        st.sampled_from(["settle", "crash", "fly"]),
    ),
    max_size=40,
)


@given(hard=st.integers(0, 40), calls=CALLS)
@settings(max_examples=300)
def test_what_is_used_and_reserved_exceeds_the_limit_only_by_what_calls_use_beyond_their_estimates(
    hard: int, calls: list[tuple[int, int, str]]
) -> None:
    now, beyond = account(hard), 0
    flying: list[tuple[int, int]] = []
    for asked, uses, ends in calls:
        if rules.verdict(now, asked) is not Verdict.GRANTED:
            if flying:  # the one that began first ends, and others may fit then
                held, used = flying.pop(0)
                now = rules.settle(now, held, used)
                beyond += max(0, used - held)
            continue
        now = rules.reserve(now, asked)
        assert now.used + now.reserved <= hard, "nothing is granted over the limit"
        if ends == "fly":
            flying.append((asked, uses))
            continue
        used = uses if ends == "settle" else asked  # a crash counts as having used it
        now = rules.settle(now, asked, used)
        beyond += max(0, used - asked)
        assert now.used + now.reserved <= hard + beyond


@given(hard=st.integers(1, 40), calls=CALLS)
@settings(max_examples=300)
def test_one_call_after_the_other_overspends_by_one_call_at_most(
    hard: int, calls: list[tuple[int, int, str]]
) -> None:
    now = account(hard)
    for asked, uses, ends in calls:
        if rules.verdict(now, asked) is Verdict.GRANTED:
            before = now.used
            now = rules.settle(rules.reserve(now, asked), asked, uses if ends != "crash" else asked)
            assert before <= hard, "nothing begins once the limit is exceeded"
            assert now.used <= hard + max(uses, asked)


@given(real=st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=40), hard=st.integers(1, 60))
def test_crashes_never_let_more_be_spent_than_the_limit(real: list[tuple[int, bool]], hard: int) -> None:
    """A provider bills each try, also one whose outcome was lost: the books never say less than the bill."""
    now, billed = account(hard), 0
    for asked, crashes in real:
        if rules.verdict(now, asked) is not Verdict.GRANTED:
            continue
        now = rules.reserve(now, asked)
        billed += asked
        now = rules.settle(now, asked, rules.lost({Unit.USD: asked})[Unit.USD] if crashes else asked)
        assert billed <= now.used <= hard


def test_of_a_body_that_was_cut_off_the_time_is_charged_that_is_known() -> None:
    told: dict[str, object] = {"name": "fetch", "started_at_us": 10}
    assert rules.cut_off(told, "fetch", 25, 100) == 15
    assert rules.cut_off(told, "fetch", 200, 100) == 90, "a clock that is ahead adds nothing"
    assert rules.cut_off(told, "fetch", 5, 100) == 0
    assert rules.cut_off(told, "fetch", None, 100) == 0
    assert rules.cut_off(told, "other", 25, 100) == 0
    assert rules.cut_off({"name": "fetch"}, "fetch", 25, 100) == 0
