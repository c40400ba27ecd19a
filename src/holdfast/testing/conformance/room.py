"""Promises about budgets while calls are in flight: who waits for room gets it, and a death costs what is known."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import structs

from holdfast.model import (
    Amounts,
    BudgetChange,
    Committed,
    Crashed,
    Failure,
    FailureKind,
    Note,
    Park,
    Reason,
    Sample,
    Unit,
    Verdict,
)
from holdfast.rules.budget import RECHECK_US
from holdfast.rules.transitions import cancel, pause
from holdfast.store.protocol import Store
from holdfast.testing.conformance.budgets import OUT, asks, begin, reserve, settle, stands
from holdfast.testing.conformance.place import (
    LEASE_US,
    SECOND_US,
    Attempt,
    Place,
    Promises,
    commit_one,
    event_types,
    register,
    step,
    take,
)

WORK: Amounts = {Unit.WORKING_S: 1, Unit.STEPS: 1}


async def beside_a_call(store: Store, *ids: str) -> list[Attempt]:
    """A run whose call has reserved nearly all of a shared budget, and others under the same."""
    await store.change_budget("agent:refactor", BudgetChange(set={OUT: 100}))
    attempts = [await begin(store, each, hard=None) for each in ("h", *ids)]
    assert await reserve(store, asks(attempts[0], asked={OUT: 90})) == [Verdict.GRANTED]
    return attempts


async def begin_to_work(store: Store, name: str) -> Attempt:
    """A run with 100 s to work, and in the body of a step."""
    attempt = await begin(store, hard=None)
    await store.change_budget("run:r", BudgetChange(set={Unit.WORKING_S: 100 * SECOND_US}))
    assert await reserve(store, asks(attempt, asked=WORK)) == [Verdict.GRANTED]
    told = msgspec.json.encode({"name": name, "started_at_us": await store.now()})
    change = structs.replace(attempt.change(), step=name, notes=(Note("step.started", told),))
    assert isinstance(await commit_one(store, change), Committed)
    return attempt


async def is_busy(attempt: Attempt, asked: Amounts) -> None:
    """The attempt does not fit beside calls in flight, and parks."""
    (busy,) = await attempt.store.reserve([asks(attempt, asked=asked)])
    assert (busy.verdict, busy.wait_us) == (Verdict.BUSY, RECHECK_US)
    until_us = await attempt.store.now() + RECHECK_US
    parked = await attempt.settle(Park(reason=Reason.BUDGET, until_us=until_us, unfunded=True))
    assert parked.available_at_us == until_us


async def awake(store: Store, *ids: str) -> list[str]:
    """Those of the runs that can be claimed now."""
    runs, now_us = [await store.get_run(each) for each in ids], await store.now()
    return [run.id for run in runs if run.available_at_us is not None and run.available_at_us <= now_us]


class RoomPromises(Promises):
    """What the store promises about budgets that calls in flight have reserved of."""

    async def test_a_run_beside_calls_in_flight_waits_parked_until_there_is_room(
        self, store: Store, place: Place
    ) -> None:
        holder, *waiting = await beside_a_call(store, "a", "b", "c")
        await reserve(store, asks(holder, "small", {OUT: 5}))
        for each, asked in zip(waiting, (40, 80, 60), strict=True):
            await is_busy(each, {OUT: asked})
        place.clock.advance(300 * SECOND_US)
        await settle(holder, {OUT: 0}, "small")
        assert await awake(store, "a", "b", "c") == [], "it is too little room"
        await settle(holder, {OUT: 0})
        assert await awake(store, "a", "b", "c") == ["a", "c"], "as many as fit beside each other"
        record = await store.get_budget("agent:refactor")
        assert record is not None and record.waiting == 1
        again = [await take(store, await register(store, f"again-{id}"), id) for id in ("a", "c")]
        calls = [asks(one, asked={OUT: of}) for one, of in zip(again, (40, 60), strict=True)]
        assert await reserve(store, *calls) == [Verdict.GRANTED] * 2

    async def test_what_a_dead_attempt_had_reserved_makes_room_when_it_is_settled(
        self, store: Store, place: Place
    ) -> None:
        await store.change_budget("agent:refactor", BudgetChange(set={Unit.STEPS: 1}))
        holder, waiting, paused = [await begin(store, id, hard=None) for id in ("h", "a", "b")]
        one_step: Amounts = {Unit.STEPS: 1}
        assert await reserve(store, asks(holder, asked=one_step)) == [Verdict.GRANTED]
        await is_busy(waiting, one_step)
        await is_busy(paused, one_step)
        await store.update_run("b", pause)
        await store.update_run("h", cancel)
        await store.sweep(100)
        assert await awake(store, "a", "b") == ["a"], "who was paused meanwhile stays so"

    async def test_room_that_is_made_between_the_refusal_and_the_park_is_not_missed(
        self, store: Store, place: Place
    ) -> None:
        holder, waiting = await beside_a_call(store, "a")
        assert await reserve(store, asks(waiting)) == [Verdict.BUSY]
        await settle(holder, {OUT: 0})
        park = Park(reason=Reason.BUDGET, until_us=await store.now() + RECHECK_US, unfunded=True)
        assert (await waiting.settle(park)).available_at_us == await store.now()

    async def test_the_smallest_of_several_calls_that_wait_is_woken_for(
        self, store: Store, place: Place
    ) -> None:
        holder, waiting = await beside_a_call(store, "a")
        await reserve(store, asks(holder, "small", {OUT: 10}))
        assert await reserve(store, asks(waiting, "d", {OUT: 10})) == [Verdict.BUSY]
        await is_busy(waiting, {OUT: 90})
        await settle(holder, {OUT: 0}, "small")
        assert await awake(store, "a") == ["a"]

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
