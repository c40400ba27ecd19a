"""Promises about budgets when attempts die: what they had reserved is charged, and what they used is counted."""

from __future__ import annotations

import pytest
from msgspec import structs

from holdfast.model import (
    BudgetChange,
    Committed,
    Crashed,
    Failure,
    FailureKind,
    RefusedChange,
    Sample,
    Unit,
    Verdict,
)
from holdfast.rules.transitions import cancel
from holdfast.store.protocol import Store
from holdfast.testing.conformance.budgets import (
    OUT,
    WORK,
    asks,
    begin,
    begin_to_work,
    reserve,
    settle,
    stands,
)
from holdfast.testing.conformance.place import (
    LEASE_US,
    SECOND_US,
    Place,
    Promises,
    commit_one,
    event_types,
    register,
    step,
    take,
)


class BudgetCrashPromises(Promises):
    """What the store promises about budgets of attempts that are over."""

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

    async def test_a_body_that_died_with_its_worker_is_charged_the_working_time_until_its_last_sign_of_life(
        self, store: Store, place: Place
    ) -> None:
        attempt = await begin_to_work(store, "fetch")
        worker = attempt.run.worker or 0
        place.clock.advance(40 * SECOND_US)
        figures = Sample(cpu_percent=1.0, memory_mb=1.0, disk_mb=1.0, processes=1, at_us=await store.now())
        assert store.renew_lease(worker, LEASE_US, figures)
        place.clock.advance(LEASE_US + 500 * SECOND_US)
        again = await take(store, await register(store, "next"))
        assert await stands(store, unit=Unit.WORKING_S) == (100 * SECOND_US, 40 * SECOND_US, 1)
        assert (await event_types(store, "r")).count("budget.soft") == 0
        assert await reserve(store, asks(again, asked=WORK)) == [Verdict.GRANTED]
        assert await stands(store, unit=Unit.WORKING_S) == (100 * SECOND_US, 40 * SECOND_US, 1)
        events = await store.read_events("r", 0, 100)
        assert [event.n for event in events] == list(range(1, len(events) + 1)), "gapless"

    async def test_a_body_whose_process_died_is_charged_the_working_time_until_then(
        self, store: Store, place: Place
    ) -> None:
        attempt = await begin_to_work(store, "fetch")
        place.clock.advance(90 * SECOND_US)
        failure = Failure(kind=FailureKind.LOST, type="ProcessLost", message="was killed")
        change = structs.replace(attempt.change(), step="fetch", outcome=Crashed(failure=failure))
        assert isinstance(await commit_one(store, change), Committed)
        assert await stands(store, unit=Unit.WORKING_S) == (100 * SECOND_US, 90 * SECOND_US, 1)
        assert (await event_types(store, "r")).count("budget.soft") == 1
        events = await store.read_events("r", 0, 100)
        assert [event.n for event in events] == list(range(1, len(events) + 1)), "gapless"
        await store.sweep(100)
        assert await stands(store, unit=Unit.WORKING_S) == (100 * SECOND_US, 90 * SECOND_US, 0)

    @pytest.mark.parametrize("what", ["it was over", "nobody heard of it again", "another one is open"])
    async def test_working_time_that_nobody_knows_of_is_not_charged(
        self, store: Store, place: Place, what: str
    ) -> None:
        attempt = await begin_to_work(store, "fetch")
        place.clock.advance(40 * SECOND_US)
        match what:
            case "it was over":
                await settle(attempt, {Unit.WORKING_S: 7})
            case "another one is open":  # the newest of its name that was told is over
                await commit_one(store, structs.replace(attempt.change(step()), step="fetch"))
            case _:
                await store.retire_worker(attempt.run.worker or 0)
        figures = Sample(cpu_percent=1.0, memory_mb=1.0, disk_mb=1.0, processes=1, at_us=await store.now())
        store.renew_lease(attempt.run.worker or 0, LEASE_US, figures)
        place.clock.advance(LEASE_US + SECOND_US)
        await take(store, await register(store, "next"))
        _, used, _ = await stands(store, unit=Unit.WORKING_S)
        assert used == (7 if what == "it was over" else 0)

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
