"""Promises about concurrency keys: never over the limit, in line at no slot, in the order of claims, no lost wake."""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest

from holdfast.errors import Refused
from holdfast.model import (
    Failed,
    Hold,
    Lane,
    NewRun,
    Outcome,
    Park,
    Reason,
    Release,
    Retry,
    Run,
    RunFilter,
    RunState,
    Served,
    Succeeded,
)
from holdfast.rules.lanes import CALL_LAPSES_US
from holdfast.rules.transitions import cancel, pause, resume, retry
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import (
    AGENT,
    FAILURE,
    LEASE_US,
    SECOND_US,
    Attempt,
    Place,
    Promises,
    new_run,
    register,
    take,
    take_any,
)

LEAVES: dict[str, Outcome] = {
    "succeeded": Succeeded(result=b"1"),
    "failed": Failed(failure=FAILURE),
    "retried": Retry(failure=FAILURE, delay_us=5 * SECOND_US),
    "sleeps": Park(reason=Reason.SLEEP, until_us=1_900_000_000 * SECOND_US),
    "waits": Park(reason=Reason.SIGNAL, wait_name="go"),
    "parked": Park(reason=Reason.PARKED),
    "paused": Park(reason=Reason.PAUSED),
    "held": Hold(reason=Reason.MISMATCH, failure=FAILURE),
}


def keyed(run_id: str, key: str = "k", at_most: int = 1, priority: int = 0) -> NewRun:
    """A run with a concurrency key."""
    return replace(new_run(run_id), lane=Lane(key=key, at_most=at_most), priority=priority)


async def line(store: Store, place: Place, *runs: NewRun) -> list[Attempt]:
    """Create the runs a moment apart, and let a worker claim what it can: the rest stands in line."""
    for new in runs:
        await store.create_run(new)
        place.clock.advance(1_000)
    return await take_any(store, await register(store), 100)


async def in_line(store: Store) -> list[str]:
    """The ids of the runs in a line."""
    runs = await store.list_runs(RunFilter(limit=10_000))
    return sorted(run.id for run in runs if run.reason is Reason.LIMIT)


async def is_due(store: Store, run_id: str) -> bool:
    """Whether the run may be claimed as soon as a worker looks."""
    run = await store.get_run(run_id)
    return run.state is RunState.QUEUED and run.available_at_us is not None


class LanePromises(Promises):
    """What the store promises about concurrency keys."""

    async def test_at_most_the_limit_of_a_key_runs_at_once_across_workers(
        self, store: Store, place: Place
    ) -> None:
        first = await line(store, place, *(keyed(f"r{n}", at_most=2) for n in range(5)))
        assert [attempt.run.id for attempt in first] == ["r0", "r1"]
        assert await take_any(store, await register(store, "other"), 100) == []
        assert await in_line(store) == ["r2", "r3", "r4"]

    async def test_runs_of_other_keys_and_without_one_are_not_held_up(
        self, store: Store, place: Place
    ) -> None:
        runs = [keyed("a1", "a"), keyed("a2", "a"), keyed("b1", "b"), new_run("free")]
        assert [each.run.id for each in await line(store, place, *runs)] == ["a1", "b1", "free"]

    async def test_a_run_in_line_is_queued_for_its_limit_and_says_where_it_stands(
        self, store: Store, place: Place
    ) -> None:
        await line(store, place, keyed("r0"), keyed("r1"), keyed("r2"))
        run = await store.get_run("r2")
        assert (run.state, run.reason, run.available_at_us) == (RunState.QUEUED, Reason.LIMIT, None)
        told = json.loads((await store.read_events("r2", 0, 10))[-1].payload)
        assert (told["reason"], told["concurrency"], told["ahead"]) == ("limit", "k", 2)

    async def test_a_key_with_more_runs_than_a_claim_looks_at_hides_nobody(
        self, store: Store, place: Place
    ) -> None:
        await store.create_runs([keyed(f"a{n}", "a", at_most=2) for n in range(1_100)])
        worker = await register(store)
        both = await take_any(store, worker, 100)
        assert {attempt.run.id for attempt in both} == {"a0", "a1"}
        await store.create_run(keyed("b0", "b"))
        assert [attempt.run.id for attempt in await take_any(store, worker, 100)] == ["b0"]

    async def test_a_new_run_waits_in_line_from_the_first_on_and_one_with_room_does_not(
        self, store: Store, place: Place
    ) -> None:
        for n in range(4):
            await store.create_run(keyed(f"r{n}", at_most=2))
        assert await in_line(store) == ["r2", "r3"]
        later = replace(keyed("later"), delay_us=60 * SECOND_US)
        await store.create_run(later)
        assert await in_line(store) == ["r2", "r3"], "what is not due stands in no line"
        await store.update_run("r0", cancel)
        assert await in_line(store) == ["r3"]

    @pytest.mark.parametrize("outcome", LEAVES.values(), ids=LEAVES)
    async def test_whoever_leaves_calls_the_next_in_the_same_transaction(
        self, store: Store, place: Place, outcome: Outcome
    ) -> None:
        created = place.clock.wall_us()
        (holder,) = await line(store, place, keyed("r0"), keyed("r1"), keyed("r2"))
        await holder.settle(outcome)
        called = await store.get_run("r1")
        assert (called.state, called.reason, called.available_at_us) == (
            RunState.QUEUED,
            None,
            created + 1_000,
        )
        assert await in_line(store) == ["r2"]

    async def test_a_cancelled_an_expired_and_a_poisoned_run_call_the_next_too(
        self, store: Store, place: Place
    ) -> None:
        await line(store, place, keyed("r0"), replace(keyed("r1"), deadline_us=LEASE_US), keyed("r2"))
        await store.update_run("r0", cancel)
        assert await is_due(store, "r1")
        await take(store, await register(store, "b"), "r1")
        place.clock.advance(LEASE_US)
        await store.sweep(100)
        assert (await store.get_run("r1")).state is RunState.FAILED
        assert await is_due(store, "r2")

    async def test_a_released_run_stands_before_those_that_came_later(
        self, store: Store, place: Place
    ) -> None:
        (holder,) = await line(store, place, keyed("r0"), keyed("r1"))
        await holder.settle(Release())
        assert await is_due(store, "r1")
        await store.create_run(keyed("r2"))
        assert [each.run.id for each in await take_any(store, await register(store, "b"), 9)] == ["r1"]
        assert await in_line(store) == ["r0", "r2"]

    async def test_the_line_is_in_the_order_of_claims(self, store: Store, place: Place) -> None:
        runs = [keyed("first"), keyed("late", priority=3), keyed("soon"), keyed("urgent", priority=-3)]
        (holder,) = await line(store, place, keyed("holder", priority=-9), *runs)
        order: list[str] = []
        worker = await register(store, "b")
        while True:
            await holder.settle(Succeeded(result=b"1"))
            claimed = await take_any(store, worker, 9)
            if not claimed:
                break
            (holder,) = claimed
            order.append(holder.run.id)
        assert order == ["urgent", "first", "soon", "late"]

    async def test_a_newcomer_does_not_overtake_one_that_is_called(self, store: Store, place: Place) -> None:
        """… though its worker looks first, and the called one's has not looked yet."""
        (holder,) = await line(store, place, keyed("r0"), keyed("called"))
        await holder.settle(Succeeded(result=b"1"))
        await store.create_run(replace(keyed("new"), agent="other"))
        other = Served(agent="other", version="1")
        assert await store.claim(await register(store, "o", serves=[other]), [other], 9) == []
        assert [each.run.id for each in await take_any(store, await register(store, "b"), 9)] == ["called"]

    async def test_a_call_that_nobody_answers_passes_to_the_next(self, store: Store, place: Place) -> None:
        left = replace(keyed("left"), claimable=False)  # to a `holdfast run` that is gone
        (holder,) = await line(store, place, keyed("r0"))
        await store.create_run(left)
        assert await store.claim(await register(store, "run"), [], 1, only="left") == []
        await line(store, place, keyed("next"))
        await holder.settle(Succeeded(result=b"1"))
        assert await is_due(store, "left") and not await is_due(store, "next")
        place.clock.advance(CALL_LAPSES_US - 1)
        await store.sweep(100)
        assert not await is_due(store, "next")
        place.clock.advance(1)
        await store.sweep(100)
        assert await is_due(store, "next") and await is_due(store, "left")
        assert len(await take_any(store, await register(store, "b"), 9)) == 1

    async def test_runs_that_no_worker_can_take_hold_up_a_key_for_one_call_and_not_for_one_each(
        self, store: Store, place: Place
    ) -> None:
        await store.limit_queue("closed", 0)
        for n in range(12):
            await store.create_run(replace(keyed(f"closed{n}"), queue="closed"))
        await store.create_run(keyed("open"))
        assert await take_any(store, await register(store), 9) == []
        place.clock.advance(CALL_LAPSES_US)
        await store.sweep(100)
        (taken,) = await take_any(store, await register(store, "b"), 9)
        assert taken.run.id == "open"
        await store.limit_queue("closed", None)
        assert await take_any(store, await register(store, "c"), 9) == [], "the key is taken"
        await taken.settle(Succeeded(result=b"1"))
        assert len(await take_any(store, await register(store, "d"), 9)) == 1

    @pytest.mark.parametrize("deed", [cancel, pause])
    async def test_who_leaves_the_line_or_is_called_and_leaves_holds_nobody_up(
        self, store: Store, place: Place, deed: object
    ) -> None:
        decide = cancel if deed is cancel else pause
        (holder,) = await line(store, place, keyed("r0"), keyed("r1"), keyed("r2"), keyed("r3"))
        await store.update_run("r1", decide)
        assert await in_line(store) == ["r2", "r3"]
        await holder.settle(Succeeded(result=b"1"))
        assert await is_due(store, "r2")
        await store.update_run("r2", decide)
        assert await is_due(store, "r3")

    async def test_a_dead_workers_run_keeps_its_place_until_it_is_taken_over(
        self, store: Store, place: Place
    ) -> None:
        await line(store, place, keyed("r0"), keyed("r1"))
        place.clock.advance(LEASE_US)
        attempts = await take_any(store, await register(store, "b"), 9)
        assert [each.run.id for each in attempts] == ["r0"]
        assert await in_line(store) == ["r1"]

    async def test_a_woken_run_takes_the_line_again(self, store: Store, place: Place) -> None:
        (holder,) = await line(store, place, keyed("r0"), keyed("r1"))
        await holder.settle(Park(reason=Reason.SIGNAL, wait_name="go"))
        (second,) = await take_any(store, await register(store, "b"), 9)
        await store.add_signal("r0", "go", b"1")
        assert await take_any(store, await register(store, "c"), 9) == []
        woken = await store.get_run("r0")
        assert (woken.state, woken.reason) == (RunState.QUEUED, Reason.LIMIT)
        await second.settle(Succeeded(result=b"1"))
        assert [each.run.id for each in await take_any(store, await register(store, "d"), 9)] == ["r0"]

    async def test_of_two_limits_the_smaller_holds(self, store: Store, place: Place) -> None:
        wide = [keyed(f"wide{n}", at_most=3) for n in range(2)]
        attempts = await line(store, place, *wide, keyed("narrow", at_most=2))
        assert [each.run.id for each in attempts] == ["wide0", "wide1"]
        await attempts[0].settle(Succeeded(result=b"1"))
        (narrow,) = await take_any(store, await register(store, "b"), 9)
        await store.create_run(keyed("wide2", at_most=3))
        assert await take_any(store, await register(store, "c"), 9) == []
        await narrow.settle(Succeeded(result=b"1"))
        assert await is_due(store, "wide2")

    async def test_a_long_line_hides_nobody_behind_it(self, store: Store, place: Place) -> None:
        runs = [keyed(f"r{n}") for n in range(300)]
        for new in [*runs, new_run("behind")]:
            await store.create_run(new)
        claimed = await take_any(store, await register(store), 2)
        assert [each.run.id for each in claimed] == ["r0", "behind"]

    async def test_the_limit_of_the_queue_holds_beside_that_of_the_key(
        self, store: Store, place: Place
    ) -> None:
        await store.limit_queue("default", 2)
        runs = [keyed("a1", "a"), keyed("a2", "a"), keyed("b1", "b"), keyed("c1", "c")]
        attempts = await line(store, place, *runs)
        assert [each.run.id for each in attempts] == ["a1", "b1"]
        assert await take_any(store, await register(store, "b"), 9) == []
        await attempts[0].settle(Succeeded(result=b"1"))
        assert [each.run.id for each in await take_any(store, await register(store, "c"), 9)] == ["a2"]

    async def test_a_claim_by_id_waits_for_its_key_as_others_do(self, store: Store, place: Place) -> None:
        (holder,) = await line(store, place, keyed("r0"))
        await store.create_run(replace(keyed("mine"), claimable=False))
        here = await register(store, "run")
        assert await store.claim(here, [], 1, only="mine") == []
        assert await in_line(store) == ["mine"]
        await holder.settle(Succeeded(result=b"1"))
        assert [claim.run.id for claim in await store.claim(here, [], 1, only="mine")] == ["mine"]

    @pytest.mark.parametrize("seed", range(10))
    async def test_whatever_happens_no_limit_is_exceeded_and_no_wake_is_lost(
        self, store: Store, place: Place, seed: int
    ) -> None:
        walk = _Walk(store, place, random.Random(seed))
        for _ in range(100):
            await walk.step()
            await walk.check()
        await walk.finish()


class _Walk:
    """Any sequence of operations on runs of three keys."""

    def __init__(self, store: Store, place: Place, chance: random.Random) -> None:
        self.store, self.place, self.chance = store, place, chance
        self.attempts: list[Attempt] = []
        self.lanes: dict[str, Lane | None] = {}
        self.workers: list[int] = []

    async def step(self) -> None:
        """Do one thing."""
        deeds = [self.create] * 4 + [self.claim] * 4 + [self.settle] * 4 + [self.operate] * 3
        self.place.clock.advance(self.chance.choice([1, 1_000, 2 * SECOND_US]))
        await self.chance.choice([*deeds, self.pass_time, self.die])()

    async def create(self) -> None:
        """Another run."""
        chance, name = self.chance, f"r{len(self.lanes)}"
        lane = Lane(key=chance.choice("abc"), at_most=chance.choice([1, 1, 2, 3]))
        self.lanes[name] = lane if chance.random() < 0.9 else None
        new = replace(
            new_run(name),
            lane=self.lanes[name],
            priority=chance.choice([-1, 0, 0, 1]),
            delay_us=chance.choice([0, 0, 3 * SECOND_US]),
            claimable=chance.random() < 0.95,
        )
        await self.store.create_run(new)

    async def claim(self) -> None:
        """Some worker claims, any runs or one by its id."""
        if not self.workers or self.chance.random() < 0.2:
            self.workers.append(await register(self.store, f"w{len(self.workers)}"))
        only = self.chance.choice(sorted(self.lanes)) if self.lanes and self.chance.random() < 0.2 else None
        served = [Served(agent=AGENT, version="1")]
        worker = self.chance.choice(self.workers)
        claims = await self.store.claim(worker, served, self.chance.randint(1, 3), only=only)
        self.attempts += [Attempt(self.store, claim) for claim in claims]

    async def settle(self) -> None:
        """Some attempt ends, or is a zombie's and does not count."""
        if self.attempts:
            attempt = self.attempts.pop(self.chance.randrange(len(self.attempts)))
            until_us = self.place.clock.wall_us() + 4 * SECOND_US
            sleep = Park(reason=Reason.SLEEP, until_us=until_us)
            outcome = self.chance.choice([*LEAVES.values(), Release(), sleep, sleep])
            await self.store.commit([attempt.change(outcome=outcome)])

    async def operate(self) -> None:
        """People steer."""
        if not self.lanes:
            return
        name = self.chance.choice(sorted(self.lanes))
        deeds = [partial(self.store.update_run, name, decide) for decide in (cancel, pause, resume, retry)]
        with suppress(Refused):
            if self.chance.random() < 0.3:
                await self.store.add_signal(name, "go", b"1")
            else:
                await self.chance.choice(deeds)()

    async def pass_time(self) -> None:
        """Seconds pass, or go back; the controller sweeps."""
        if self.chance.random() < 0.2:
            self.place.clock.set_back(5 * SECOND_US)
        else:
            self.place.clock.advance(self.chance.choice([SECOND_US, CALL_LAPSES_US, LEASE_US]))
        await self.store.sweep(100)

    async def die(self) -> None:
        """A worker goes."""
        if self.workers:
            worker = self.workers.pop(self.chance.randrange(len(self.workers)))
            await self.store.retire_worker(worker, counted=self.chance.random() < 0.3)

    async def check(self) -> None:
        """Never more than a limit; nobody in line while there is a place that nobody is called to."""
        runs = await self.store.list_runs(RunFilter(limit=10_000))
        live = Counter(
            lane.key for run in runs if run.state is RunState.RUNNING and (lane := self.lanes[run.id])
        )
        due = Counter(lane.key for run in runs if _due(run) and (lane := self.lanes[run.id]))
        for run in runs:
            lane = self.lanes[run.id]
            if lane is None:
                assert run.reason is not Reason.LIMIT
            elif run.state is RunState.RUNNING:
                assert live[lane.key] <= lane.at_most, f"{live} run, {run.id} allows {lane}"
            elif run.reason is Reason.LIMIT:
                assert live[lane.key] + due[lane.key] > 0, f"{run.id} stands in line, and nobody holds it up"

    async def finish(self) -> None:
        """Everything wakes up, and runs in time."""
        for attempt in self.attempts:
            await self.store.commit([attempt.change(outcome=Succeeded(result=b"1"))])
        worker = await register(self.store, "last")
        for _ in range(3 * len(self.lanes) + 5):
            self.place.clock.advance(LEASE_US // 3)
            self.store.renew_lease(worker, LEASE_US, None)
            await self.store.sweep(100)
            for run in await self.store.list_runs(RunFilter(limit=10_000)):
                await self._help(run, worker)
            for attempt in await take_any(self.store, worker, 100):
                await attempt.settle(Succeeded(result=b"1"))
        left = [run for run in await self.store.list_runs(RunFilter(limit=10_000)) if not run.state.final]
        assert not left, [(run.id, run.state, run.reason, self.lanes[run.id]) for run in left]

    async def _help(self, run: Run, worker: int) -> None:
        with suppress(Refused):
            if run.state is RunState.WAITING:
                await self.store.update_run(run.id, resume if run.reason in _RESUMED else retry)
        with suppress(Refused):
            if run.reason in (Reason.SIGNAL, Reason.SLEEP):
                await self.store.update_run(run.id, cancel)
        served = [Served(agent=AGENT, version="1")]
        for claim in await self.store.claim(worker, served, 1, only=run.id):
            await Attempt(self.store, claim).settle(Succeeded(result=b"1"))


_RESUMED = (Reason.PAUSED, Reason.PARKED)


def _due(run: Run) -> bool:
    return run.state is RunState.QUEUED and run.available_at_us is not None
