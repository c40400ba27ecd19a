"""Promises about budgets: reserved in every scope or in none, settled once, charged upwards, and a raise wakes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from msgspec import structs

from holdfast.errors import NotFound, Refused, RunNotFound
from holdfast.model import (
    AdjustRate,
    Amounts,
    Beside,
    BudgetChange,
    BudgetRecord,
    Change,
    Committed,
    Entry,
    NewBudget,
    NewChild,
    NewReservation,
    NewTurn,
    ParentPolicy,
    Park,
    Reason,
    RefusedChange,
    Reserved,
    RunState,
    Settle,
    Unit,
    Verdict,
)
from holdfast.rules.budget import DAY_US, KEPT
from holdfast.rules.rate import terms_of
from holdfast.rules.transitions import cancel, resume
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import (
    SECOND_US,
    Attempt,
    Place,
    Promises,
    commit_one,
    event_types,
    new_run,
    register,
    save,
    start,
    step,
    take,
)

OUT = Unit.TOKENS_OUT
ASK: Amounts = {OUT: 40, Unit.REQUESTS: 1}


def limited(*, hard: int = 100, **more: int) -> NewBudget:
    """A budget of so many tokens."""
    return NewBudget(limits={OUT: hard}, **more)


async def begin(store: Store, run_id: str = "r", *, hard: int | None = 100) -> Attempt:
    """A run with this budget, in the hands of a worker."""
    new = new_run(run_id)
    new = new if hard is None else replace(new, budget=limited(hard=hard))
    return await start(store, await register(store, f"w-{run_id}"), run_id, new=new)


def asks(attempt: Attempt, call: str = "c", asked: Amounts | None = None) -> NewReservation:
    """A call of this attempt that asks for its share."""
    run = attempt.run
    return NewReservation(run=run.key, token=run.token, call=call, asked=ASK if asked is None else asked)


async def reserve(store: Store, *asked: NewReservation) -> list[Verdict]:
    """What becomes of each."""
    return [each.verdict for each in await store.reserve(asked)]


async def settle(attempt: Attempt, spent: Amounts, call: str = "c") -> Committed | RefusedChange:
    """Record an outcome with what it used beside it."""
    entry = step(occurrence=attempt.position)
    answer = await commit_one(attempt.store, with_beside(attempt, entry, Settle(call=call, spent=spent)))
    if isinstance(answer, Committed):
        attempt.position = answer.position
    return answer


def with_beside(attempt: Attempt, entry: Entry, *beside: Beside) -> Change:
    """A Change with something beside its entry."""
    return structs.replace(attempt.change(entry), beside=beside)


async def stands(store: Store, scope: str = "run:r", unit: Unit = OUT) -> tuple[int | None, int, int]:
    """The limit of a unit, what is used, and what is reserved."""
    record = await store.get_budget(scope)
    assert record is not None
    one = next(account for account in record.accounts if account.unit is unit)
    return one.hard, one.used, one.reserved


async def child_of(parent: Attempt, run_id: str, budget: NewBudget | None = None) -> Attempt:
    """A child that this attempt starts, in the hands of a worker."""
    new = NewChild(new=replace(new_run(run_id), budget=budget), on_parent_end=ParentPolicy.LEAVE)
    answer = await commit_one(parent.store, with_beside(parent, step(occurrence=parent.position), new))
    assert isinstance(answer, Committed), answer
    parent.position = answer.position
    return await take(parent.store, await register(parent.store, f"w-{run_id}"), run_id)


class BudgetPromises(Promises):
    """What the store promises about budgets."""

    async def test_a_call_reserves_and_its_entry_settles(self, store: Store, place: Place) -> None:
        attempt = await begin(store)
        assert await reserve(store, asks(attempt)) == [Verdict.GRANTED]
        assert await stands(store) == (100, 0, 40)
        await settle(attempt, {OUT: 25, Unit.USD: 7})
        assert await stands(store) == (100, 25, 0)
        assert await stands(store, unit=Unit.USD) == (None, 7, 0), "what is not limited is counted"
        assert await stands(store, unit=Unit.REQUESTS) == (None, 0, 0), "it used none after all"

    async def test_a_reservation_whose_answer_was_lost_is_the_same_one(
        self, store: Store, place: Place
    ) -> None:
        attempt = await begin(store)
        assert await reserve(store, asks(attempt), asks(attempt)) == [Verdict.GRANTED] * 2
        assert await stands(store) == (100, 0, 40)

    async def test_what_does_not_fit_says_where_and_reserves_nowhere(
        self, store: Store, place: Place
    ) -> None:
        await store.change_budget("agent:refactor", BudgetChange(set={Unit.REQUESTS: 9}))
        attempt = await begin(store, hard=60)
        await reserve(store, asks(attempt))
        await settle(attempt, {OUT: 30})
        assert await store.reserve([asks(attempt, "d")]) == [
            Reserved(verdict=Verdict.FULL, scope="run:r", unit=OUT, asked=40, hard=60, used=30)
        ]
        assert await stands(store) == (60, 30, 0)
        assert await stands(store, "agent:refactor", Unit.REQUESTS) == (9, 0, 0), "in no scope"
        assert await reserve(store, asks(attempt, "e", {OUT: 61})) == [Verdict.FULL]

    async def test_workers_that_ask_at_once_never_share_more_than_there_is(
        self, store: Store, place: Place
    ) -> None:
        await store.change_budget("project:reef", BudgetChange(set={OUT: 200}))
        attempts: list[Attempt] = []
        for number in range(4):
            handle = await place.open()
            new = replace(new_run(f"r{number}"), tags=(("project", "reef"),))
            attempts.append(await start(handle, await register(handle, f"w{number}"), f"r{number}", new=new))
        verdicts = await asyncio.gather(
            *(each.store.reserve([asks(each, f"c{n}") for n in range(3)]) for each in attempts)
        )
        granted = [one for some in verdicts for one in some if one.verdict is Verdict.GRANTED]
        assert len(granted) == 5, "five times 40 are 200"
        assert await stands(store, "project:reef") == (200, 0, 200)
        for each in attempts:
            for n in range(3):
                await settle(each, {OUT: 0}, f"c{n}")
        assert await stands(store, "project:reef") == (200, 0, 0)

    async def test_a_fenced_out_attempt_reserves_nothing_and_settles_nothing(
        self, store: Store, place: Place
    ) -> None:
        attempt = await begin(store)
        await reserve(store, asks(attempt))
        await store.update_run("r", cancel)
        assert await reserve(store, asks(attempt, "d")) == [Verdict.FENCED]
        assert isinstance(await settle(attempt, {OUT: 1}), RefusedChange)
        assert await stands(store) == (100, 0, 40)

    async def test_what_a_dead_attempt_reserved_counts_as_used_when_the_call_asks_again(
        self, store: Store, place: Place
    ) -> None:
        attempt = await begin(store)
        await reserve(store, asks(attempt))
        await store.retire_worker(attempt.run.worker or 0)
        again = await take(store, await register(store, "next"))
        assert await reserve(store, asks(again)) == [Verdict.GRANTED]
        assert await stands(store) == (100, 40, 40)
        assert await stands(store, unit=Unit.REQUESTS) == (None, 1, 1)
        await settle(again, {OUT: 10})
        assert await reserve(store, asks(again, "d", {OUT: 51})) == [Verdict.FULL]

    async def test_a_sweep_settles_what_attempts_that_are_over_had_reserved(
        self, store: Store, place: Place
    ) -> None:
        await store.change_budget("agent:refactor", BudgetChange(set={OUT: 1000}))
        attempt = await begin(store)
        await reserve(store, asks(attempt), asks(attempt, "d", {OUT: 5, Unit.STEPS: 1}))
        assert await store.sweep(100) == 0, "the attempt runs"
        await store.update_run("r", cancel)
        await store.delete_run("r")
        assert await store.sweep(100) == 2
        assert await stands(store, "agent:refactor") == (1000, 45, 0)
        assert await stands(store, "agent:refactor", Unit.STEPS) == (None, 0, 0), (
            "it is no step that was done"
        )
        assert await store.sweep(100) == 0

    async def test_a_soft_limit_that_a_lost_call_passes_is_told_once(
        self, store: Store, place: Place
    ) -> None:
        attempt = await begin(store)
        await reserve(store, asks(attempt, asked={OUT: 85}))
        await store.retire_worker(attempt.run.worker or 0)
        again = await take(store, await register(store, "next"))
        await reserve(store, asks(again, asked={OUT: 10}))
        await store.sweep(100)
        await settle(again, {OUT: 10})
        assert (await event_types(store, "r")).count("budget.soft") == 1

    async def test_a_limit_set_under_what_is_used_tells_of_its_soft_limit_once(
        self, store: Store, place: Place
    ) -> None:
        attempt = await begin(store)
        await reserve(store, asks(attempt))
        await settle(attempt, {OUT: 40})
        for hard in (50, 45, 200):
            await store.change_budget("run:r", BudgetChange(set={OUT: hard}))
        assert (await event_types(store, "r")).count("budget.soft") == 1

    async def test_amounts_that_no_database_counts_are_kept_as_the_most(
        self, store: Store, place: Place
    ) -> None:
        attempt = await begin(store, hard=None)
        await store.change_budget("run:r", BudgetChange(set={Unit.STEPS: 9}))
        for number in range(5):
            asked: Amounts = {Unit.USD: 1 << 60, Unit.STEPS: 1}
            assert await reserve(store, asks(attempt, f"c{number}", asked)) == [Verdict.GRANTED]
        assert (await stands(store, unit=Unit.USD))[2] == KEPT
        for number in range(5):
            await settle(attempt, {Unit.USD: 1 << 60}, f"c{number}")
        assert await stands(store, unit=Unit.USD) == (None, KEPT, 0)

    async def test_children_are_charged_to_all_of_their_ancestors_once(
        self, store: Store, place: Place
    ) -> None:
        await store.change_budget("agent:refactor", BudgetChange(set={OUT: 1000}))
        top = await begin(store, "top", hard=100)
        middle = await child_of(top, "middle")
        low = await child_of(middle, "low", limited(hard=50))
        await top.settle(Park(reason=Reason.CHILD, wait_name="holdfast:child/middle"))
        assert [one.scope for one in await store.budgets_of("low")] == [
            "run:low",
            "agent:refactor",
            "run:top",
        ]
        assert await reserve(store, asks(low)) == [Verdict.GRANTED]
        await settle(low, {OUT: 30})
        assert await stands(store, "run:low") == (50, 30, 0)
        assert await stands(store, "run:top") == (100, 30, 0), "while it is parked"
        assert await stands(store, "agent:refactor") == (1000, 30, 0), "once, though all are its runs"
        await reserve(store, asks(middle, "d", {OUT: 60}))
        assert [(one.verdict, one.scope) for one in await store.reserve([asks(low, "e", {OUT: 20})])] == [
            (Verdict.BUSY, "run:top")
        ]

    async def test_raising_a_budget_wakes_the_runs_that_wait_for_it(self, store: Store, place: Place) -> None:
        top = await begin(store, "top", hard=30)
        low = await child_of(top, "low")
        await top.settle(Park(reason=Reason.CHILD, wait_name="holdfast:child/low"))
        assert await reserve(store, asks(low, asked={OUT: 20})) == [Verdict.GRANTED]
        await settle(low, {OUT: 20})
        assert await reserve(store, asks(low, "d", {OUT: 20})) == [Verdict.FULL]
        parked = await low.settle(Park(reason=Reason.BUDGET, unfunded=True))
        assert (parked.state, parked.reason, parked.available_at_us) == (
            RunState.WAITING,
            Reason.BUDGET,
            None,
        )
        raised = await store.change_budget("run:top", BudgetChange(add={OUT: 20}))
        assert raised.waiting == 0
        woken = await store.get_run("low")
        assert (woken.state, woken.available_at_us) == (RunState.WAITING, await store.now())
        assert (await store.get_run("top")).available_at_us is None, "it waits for its child"
        again = await take(store, await register(store, "next"), "low")
        assert await reserve(store, asks(again, "d", {OUT: 20})) == [Verdict.GRANTED]

    async def test_a_raise_between_the_refusal_and_the_park_is_not_lost(
        self, store: Store, place: Place
    ) -> None:
        attempt = await begin(store, hard=60)
        await reserve(store, asks(attempt))
        await settle(attempt, {OUT: 40})
        assert await reserve(store, asks(attempt, "d")) == [Verdict.FULL]
        await store.change_budget("run:r", BudgetChange(add={OUT: 40}))
        parked = await attempt.settle(Park(reason=Reason.BUDGET, unfunded=True))
        assert parked.available_at_us == await store.now()

    async def test_a_run_whose_branches_wait_for_two_budgets_wakes_by_either(
        self, store: Store, place: Place
    ) -> None:
        await store.change_budget("agent:refactor", BudgetChange(set={Unit.USD: 1}))
        attempt = await begin(store, hard=10)
        await reserve(store, asks(attempt, "a", {Unit.USD: 1, OUT: 10}))
        await settle(attempt, {Unit.USD: 1, OUT: 10}, "a")
        for scope, more in (("run:r", {OUT: 1}), ("agent:refactor", {Unit.USD: 1})):
            found = await store.reserve([asks(attempt, "b", {OUT: 1}), asks(attempt, "c", {Unit.USD: 1})])
            assert [one.scope for one in found] == ["run:r", "agent:refactor"]
            parked = await attempt.settle(Park(reason=Reason.BUDGET, unfunded=True))
            assert parked.available_at_us is None
            await store.change_budget(scope, BudgetChange(add=more))
            assert (await store.get_run("r")).available_at_us == await store.now()
            attempt = await take(store, await register(store, scope))
            if scope == "run:r":
                await reserve(store, asks(attempt, "b", {OUT: 1}))
                await settle(attempt, {OUT: 1}, "b")

    async def test_a_raise_while_it_runs_counts_at_once(self, store: Store, place: Place) -> None:
        attempt = await begin(store, hard=60)
        await reserve(store, asks(attempt))
        await store.change_budget("run:r", BudgetChange(add={OUT: 40}))
        assert await reserve(store, asks(attempt, "d")) == [Verdict.GRANTED]
        assert "budget.set" in await event_types(store, "r")
        await attempt.commit(step())

    async def test_a_budget_lowered_under_what_is_used_stops_and_keeps_everything(
        self, store: Store, place: Place
    ) -> None:
        attempt = await begin(store)
        await reserve(store, asks(attempt))
        await settle(attempt, {OUT: 40})
        await store.change_budget("run:r", BudgetChange(set={OUT: 10}))
        assert await stands(store) == (10, 40, 0)
        assert (
            await reserve(store, asks(attempt, "d"), asks(attempt, "e", {Unit.STEPS: 1}))
            == [Verdict.FULL] * 2
        )
        await store.change_budget("run:r", BudgetChange(set={OUT: None}))
        assert await reserve(store, asks(attempt, "d", {OUT: 999})) == [Verdict.GRANTED]

    async def test_resuming_a_run_that_waits_for_its_budget_lets_it_ask_again(
        self, store: Store, place: Place
    ) -> None:
        attempt = await begin(store, hard=60)
        await reserve(store, asks(attempt, asked={OUT: 60}))
        await settle(attempt, {OUT: 60})
        assert await reserve(store, asks(attempt, "d")) == [Verdict.FULL]
        await attempt.settle(Park(reason=Reason.BUDGET, unfunded=True))
        assert (await store.get_budget("run:r")).waiting == 1  # type: ignore[union-attr]
        resumed = await store.update_run("r", resume)
        assert resumed.state is RunState.QUEUED

    async def test_the_soft_limit_is_told_once_in_the_feed_of_the_run_that_passes_it(
        self, store: Store, place: Place
    ) -> None:
        new = replace(new_run(), budget=limited(soft_percent=50))
        attempt = await start(store, await register(store), new=new)
        for number in range(3):
            await reserve(store, asks(attempt, f"c{number}", {OUT: 30}))
            await settle(attempt, {OUT: 30}, f"c{number}")
        events = await store.read_events("r", 0, 100)
        assert [event.n for event in events] == list(range(1, len(events) + 1)), "gapless"
        (told,) = [event.payload for event in events if event.type == "budget.soft"]
        assert told == b'{"scope":"run:r","unit":"tokens_out","used":60,"hard":100}'

    async def test_a_run_that_uses_a_model_without_a_budget_says_so_once_and_is_counted(
        self, store: Store, place: Place
    ) -> None:
        attempt = await begin(store, hard=None)
        assert await reserve(store, asks(attempt, asked={Unit.STEPS: 1})) == [Verdict.GRANTED]
        assert await store.get_budget("run:r") is None, "no model, no budget, no row"
        for number in range(2):
            assert await reserve(store, asks(attempt, f"c{number}")) == [Verdict.GRANTED]
            await settle(attempt, {OUT: 30, Unit.REQUESTS: 1}, f"c{number}")
        assert (await event_types(store, "r")).count("budget.missing") == 1
        assert await stands(store) == (None, 60, 0)
        assert await store.list_budgets(9, runs=True) == [], "it limits nothing"

    async def test_a_claim_knows_which_units_are_limited(self, store: Store, place: Place) -> None:
        assert (await begin(store, "free", hard=None)).claim.journal.limited == ()
        top = await begin(store, "top")
        assert top.claim.journal.limited == ("tokens_out",)
        await store.change_budget("agent:refactor", BudgetChange(set={Unit.USD: 1}))
        assert (await child_of(top, "low")).claim.journal.limited == ("tokens_out", "usd")

    async def test_a_window_begins_anew_and_tells_when(self, store: Store, place: Place) -> None:
        attempt = await begin(store, hard=None)
        change = BudgetChange(set={OUT: 50}, per_us=DAY_US)
        record = await store.change_budget("agent:refactor", change)
        now_us = await store.now()
        assert record.ends_at_us is not None
        assert 0 < record.ends_at_us - now_us <= DAY_US
        assert record.ends_at_us % DAY_US == 0
        await reserve(store, asks(attempt))
        await settle(attempt, {OUT: 40})
        (refused,) = await store.reserve([asks(attempt, "d")])
        assert (refused.verdict, refused.wait_us) == (Verdict.FULL, record.ends_at_us - now_us)
        place.clock.advance(record.ends_at_us - now_us)
        assert await stands(store, "agent:refactor") == (50, 0, 0)
        assert await reserve(store, asks(attempt, "d")) == [Verdict.GRANTED]
        place.clock.set_back(DAY_US)
        assert await stands(store, "agent:refactor") == (50, 0, 40), "a clock that is set back ends none"

    async def test_a_call_larger_than_the_whole_budget_waits_for_a_raise_and_for_no_window(
        self, store: Store, place: Place
    ) -> None:
        await store.change_budget("agent:refactor", BudgetChange(set={OUT: 30}, per_us=DAY_US))
        attempt = await begin(store, hard=None)
        (refused,) = await store.reserve([asks(attempt)])
        assert refused == Reserved(
            verdict=Verdict.FULL, scope="agent:refactor", unit=OUT, asked=40, hard=30, wait_us=None
        )
        parked = await attempt.settle(Park(reason=Reason.BUDGET, unfunded=True))
        assert parked.available_at_us is None, "the next window is no larger"
        await store.change_budget("agent:refactor", BudgetChange(add={OUT: 10}))
        again = await take(store, await register(store, "next"))
        assert await reserve(store, asks(again)) == [Verdict.GRANTED]

    async def test_budgets_are_listed_shared_ones_first(self, store: Store, place: Place) -> None:
        await begin(store, "a")
        await store.change_budget("project:reef", BudgetChange(set={OUT: 5}, soft_percent=60))
        shared = BudgetRecord(
            scope="project:reef",
            soft_percent=60,
            per_us=None,
            ends_at_us=None,
            accounts=(await store.get_budget("project:reef")).accounts,  # type: ignore[union-attr]
        )
        assert await store.list_budgets(9) == [shared]
        assert [one.scope for one in await store.list_budgets(9, runs=True)] == ["project:reef", "run:a"]
        assert [one.scope for one in await store.list_budgets(1, runs=True)] == ["project:reef"]

    async def test_what_cannot_be_changed_changes_nothing(self, store: Store, place: Place) -> None:
        await begin(store)
        for scope, change, error in (
            ("run:nobody", BudgetChange(set={OUT: 5}), RunNotFound),
            ("run:r", BudgetChange(set={OUT: 5}, add={Unit.USD: 5}), Refused),
            ("agent:x", BudgetChange(add={OUT: 5}), Refused),
        ):
            with pytest.raises(error):
                await store.change_budget(scope, change)
        assert await stands(store) == (100, 0, 0)
        assert await store.get_budget("agent:x") is None
        with pytest.raises(NotFound, match=r"no budget 'agent:x' in .*; there is 'run:r'"):
            await store.forget_budget("agent:x")
        with pytest.raises(RunNotFound):
            await store.budgets_of("nobody")

    async def test_a_budget_that_is_forgotten_stops_nobody(self, store: Store, place: Place) -> None:
        attempt = await begin(store, hard=30)
        await reserve(store, asks(attempt, asked={OUT: 30}))
        await settle(attempt, {OUT: 30})
        assert await reserve(store, asks(attempt, "d", {OUT: 9})) == [Verdict.FULL]
        await attempt.settle(Park(reason=Reason.BUDGET, unfunded=True))
        await store.forget_budget("run:r")
        again = await take(store, await register(store, "next"))
        assert again.claim.journal.limited == ()
        assert await reserve(store, asks(again, "d", {Unit.STEPS: 1})) == [Verdict.GRANTED]

    async def test_what_a_call_used_beyond_its_turn_moves_the_rate_with_its_entry(
        self, store: Store, place: Place
    ) -> None:
        attempt = await begin(store)
        terms = terms_of("60/m", burst=60)  # a token is a second
        run = attempt.run
        turn = NewTurn(rate="tpm", terms=terms, cost=50, run=run.key, token=run.token, call="c")
        assert [one.wait_us for one in await store.take_turns([turn])] == [0]
        await commit_one(store, with_beside(attempt, step(), AdjustRate(rate="tpm", units=-40)))
        attempt.position += 1
        assert [one.wait_us for one in await store.take_turns([turn])] == [0], "10 and 50 are 60"
        change = with_beside(attempt, step(occurrence=1), AdjustRate(rate="tpm", units=5))
        await commit_one(store, change)
        assert isinstance(await commit_one(store, change), RefusedChange), "a Change adjusts once"
        assert [one.wait_us for one in await store.take_turns([structs.replace(turn, cost=1)])] == [
            6 * SECOND_US
        ]
        await store.forget_rate("tpm")
        attempt.position += 1
        gone = with_beside(attempt, step(occurrence=2), AdjustRate(rate="tpm", units=5))
        assert isinstance(await commit_one(store, gone), Committed)

    async def test_what_is_known_of_loops_goes_with_its_checkpoint(self, store: Store, place: Place) -> None:
        attempt = await begin(store)
        for segment, turns in ((1, b"one"), (2, b"two"), (3, b"")):
            saved = structs.replace(save(segment), turns=turns)
            await attempt.commit(step(segment=segment - 1), checkpoint=saved)
        await place.damage_checkpoint(attempt.run.key, 3)
        await store.retire_worker(attempt.run.worker or 0)
        again = await take(store, await register(store, "next"))
        found = again.claim.journal.checkpoint
        assert found is not None
        assert (found.segment, found.turns) == (2, b"two")

    async def test_a_deleted_run_takes_its_budget_along(self, store: Store, place: Place) -> None:
        await begin(store)
        await store.update_run("r", cancel)
        await store.delete_run("r")
        assert await store.get_budget("run:r") is None
