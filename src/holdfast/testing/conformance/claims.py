"""Promises about claims: who gets which run, in which order, within which limits."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from holdfast.model import NewRun, Park, Reason, Release, RunState, Served, Succeeded
from holdfast.rules.transitions import cancel
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import (
    DAY_US,
    LEASE_US,
    SECOND_US,
    SERVES,
    Place,
    Promises,
    event_types,
    new_run,
    register,
    start,
    step,
    take,
    take_any,
)


async def claimed_ids(store: Store, worker: int, limit: int = 100) -> list[str]:
    """The ids of the runs that the worker gets, in the order in which it gets them."""
    return [claim.run.id for claim in await store.claim(worker, SERVES, limit)]


async def enqueue(store: Store, place: Place, *runs: NewRun) -> None:
    """Create runs a moment apart."""
    for new in runs:
        await store.create_run(new)
        place.clock.advance(1_000)


class ClaimPromises(Promises):
    """What the store promises about claims."""

    async def test_claim_makes_the_run_running_under_a_higher_token(self, store: Store, place: Place) -> None:
        await store.create_run(new_run(input=b'{"n":1}'))
        worker = await register(store)
        (claim,) = await store.claim(worker, SERVES, 10)
        run = claim.run
        assert (run.state, run.token, run.attempts, run.worker) == (RunState.RUNNING, 1, 1, worker)
        assert run.started_at_us == place.clock.wall_us()
        assert claim.input == b'{"n":1}'
        assert (claim.journal.checkpoint, claim.journal.entries, claim.journal.lost) == (None, (), False)
        assert await store.get_run("r") == run
        assert await event_types(store, "r") == ["run.queued", "run.running"]

    async def test_a_run_with_a_live_holder_is_handed_to_nobody_else(
        self, store: Store, place: Place
    ) -> None:
        await start(store, await register(store, "holder"))
        place.clock.advance(LEASE_US // 2)
        assert await claimed_ids(store, await register(store, "other")) == []

    async def test_claim_hands_out_the_longest_due_first(self, store: Store, place: Place) -> None:
        await enqueue(store, place, *(new_run(f"r{n}") for n in range(5)))
        worker = await register(store)
        assert await claimed_ids(store, worker, 2) == ["r0", "r1"]
        assert await claimed_ids(store, worker) == ["r2", "r3", "r4"]

    async def test_claim_hands_out_at_most_limit_runs(self, store: Store, place: Place) -> None:
        await enqueue(store, place, *(new_run(f"r{n}") for n in range(4)))
        assert len(await claimed_ids(store, await register(store), 3)) == 3
        assert await claimed_ids(store, await register(store, "full"), 0) == []

    async def test_a_smaller_priority_number_goes_first(self, store: Store, place: Place) -> None:
        asked = [replace(new_run(f"p{priority}"), priority=priority) for priority in (5, 0, -3, 2)]
        await enqueue(store, place, *asked)
        assert await claimed_ids(store, await register(store)) == ["p-3", "p0", "p2", "p5"]

    async def test_waiting_long_enough_beats_a_better_priority(self, store: Store, place: Place) -> None:
        await store.create_run(replace(new_run("patient"), priority=3))
        place.clock.advance(30 * DAY_US)
        await store.create_run(replace(new_run("urgent"), priority=0))
        assert await claimed_ids(store, await register(store), 1) == ["patient"]

    async def test_a_delayed_run_is_due_at_its_time_and_not_before(self, store: Store, place: Place) -> None:
        await store.create_run(replace(new_run(), delay_us=10 * SECOND_US))
        worker = await register(store)
        place.clock.advance(10 * SECOND_US - 1)
        assert await claimed_ids(store, worker) == []
        place.clock.advance(1)
        assert await claimed_ids(store, worker) == ["r"]

    async def test_a_due_sleep_is_claimed_directly(self, store: Store, place: Place) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await attempt.settle(Park(reason=Reason.SLEEP, until_us=place.clock.wall_us() + SECOND_US))
        assert await claimed_ids(store, worker) == []
        place.clock.advance(SECOND_US)
        assert await claimed_ids(store, worker) == ["r"]

    async def test_a_run_past_its_deadline_is_handed_to_nobody(self, store: Store, place: Place) -> None:
        for run_id in ("fresh", "taken"):
            await store.create_run(replace(new_run(run_id), deadline_us=5 * SECOND_US))
        await take(store, await register(store, "dies"), "taken")
        place.clock.advance(LEASE_US + SECOND_US)
        assert await claimed_ids(store, await register(store)) == []

    # --- limits -------------------------------------------------------------------------------------------------

    async def test_a_queues_limit_bounds_its_live_leases(self, store: Store, place: Place) -> None:
        await store.limit_queue("narrow", 2)
        await enqueue(store, place, *(replace(new_run(f"n{n}"), queue="narrow") for n in range(4)))
        await enqueue(store, place, new_run("wide"))
        worker, other = await register(store), await register(store, "other")
        assert await claimed_ids(store, worker) == ["n0", "n1", "wide"]
        assert await claimed_ids(store, other) == []

    async def test_a_place_in_a_queue_is_free_when_its_run_ends(self, store: Store, place: Place) -> None:
        await store.limit_queue("default", 1)
        await enqueue(store, place, new_run("a"), new_run("b"))
        worker = await register(store)
        (first,) = await take_any(store, worker, 5)
        assert await claimed_ids(store, worker) == []
        await first.settle(Succeeded(result=b"1"))
        assert await claimed_ids(store, worker) == ["b"]

    async def test_the_limit_of_all_queues_bounds_them_together(self, store: Store, place: Place) -> None:
        await store.limit_queue("*", 3)
        await enqueue(store, place, *(replace(new_run(f"r{n}"), queue=f"q{n}") for n in range(5)))
        assert await claimed_ids(store, await register(store)) == ["r0", "r1", "r2"]
        assert await claimed_ids(store, await register(store, "other")) == []

    async def test_a_limit_can_be_lifted(self, store: Store, place: Place) -> None:
        await store.limit_queue("default", 0)
        await enqueue(store, place, new_run("a"))
        worker = await register(store)
        assert await claimed_ids(store, worker) == []
        await store.limit_queue("default", None)
        assert await claimed_ids(store, worker) == ["a"]

    async def test_a_full_queue_holds_up_no_other(self, store: Store, place: Place) -> None:
        await store.limit_queue("narrow", 1)
        await enqueue(store, place, *(replace(new_run(f"n{n}"), queue="narrow") for n in range(60)))
        await enqueue(store, place, new_run("last"))
        assert await claimed_ids(store, await register(store), 2) == ["n0", "last"]

    async def test_a_dead_holder_takes_no_place_in_its_queue(self, store: Store, place: Place) -> None:
        await store.limit_queue("default", 1)
        await enqueue(store, place, new_run("a"))
        assert await claimed_ids(store, await register(store, "dies")) == ["a"]
        place.clock.advance(LEASE_US + SECOND_US)
        assert await claimed_ids(store, await register(store)) == ["a"]

    # --- only, unclaimable, versions ------------------------------------------------------------------------------

    async def test_only_claims_this_run_and_no_other(self, store: Store, place: Place) -> None:
        await enqueue(store, place, new_run("a"), new_run("b"))
        worker = await register(store)
        assert [c.run.id for c in await store.claim(worker, SERVES, 5, only="b")] == ["b"]
        assert (await store.get_run("a")).state is RunState.QUEUED

    async def test_only_claims_whatever_the_queues_limit(self, store: Store) -> None:
        await store.limit_queue("default", 0)
        await store.limit_queue("*", 0)
        assert (await start(store, await register(store))).run.state is RunState.RUNNING

    async def test_only_does_not_take_a_run_from_a_live_holder(self, store: Store) -> None:
        await start(store, await register(store))
        assert await store.claim(await register(store, "other"), SERVES, 1, only="r") == []

    async def test_only_does_not_claim_a_final_run(self, store: Store) -> None:
        await store.create_run(new_run())
        await store.update_run("r", cancel)
        assert await store.claim(await register(store), SERVES, 1, only="r") == []

    async def test_only_does_not_claim_what_is_not_due(self, store: Store, place: Place) -> None:
        await store.create_run(replace(new_run(), delay_us=SECOND_US))
        worker = await register(store)
        assert await store.claim(worker, SERVES, 1, only="r") == []
        place.clock.advance(SECOND_US)
        await take(store, worker)

    async def test_an_unclaimable_run_is_claimed_by_its_id_alone(self, store: Store, place: Place) -> None:
        await store.create_run(replace(new_run(), claimable=False))
        worker = await register(store)
        assert await claimed_ids(store, worker) == []
        attempt = await take(store, worker)
        await attempt.settle(Release())
        assert await claimed_ids(store, await register(store, "other")) == []
        await take(store, worker)
        place.clock.advance(LEASE_US + SECOND_US)
        assert await claimed_ids(store, await register(store, "third")) == []

    async def test_claim_hands_out_only_agents_and_versions_served(self, store: Store, place: Place) -> None:
        asked = [
            new_run("a", agent="x", version="1"),
            new_run("b", agent="x", version="2"),
            new_run("c", agent="y"),
        ]
        await enqueue(store, place, *asked)
        serves = (Served(agent="x", version="2"), Served(agent="z", version="1"))
        worker = await register(store, serves=serves)
        assert [claim.run.id for claim in await store.claim(worker, serves, 10)] == ["b"]
        assert await store.claim(worker, (), 10) == []

    async def test_runs_of_no_use_to_a_worker_hide_none_behind_them(self, store: Store, place: Place) -> None:
        await enqueue(store, place, *(new_run(f"x{n}", agent="x") for n in range(80)), new_run("last"))
        assert await claimed_ids(store, await register(store), 1) == ["last"]

    async def test_a_retired_worker_gets_nothing(self, store: Store) -> None:
        await store.create_run(new_run())
        worker = await register(store)
        await store.retire_worker(worker)
        assert await claimed_ids(store, worker) == []

    # --- concurrency ----------------------------------------------------------------------------------------------

    async def test_concurrent_claimers_get_each_run_once(self, store: Store, place: Place) -> None:
        handles = [store, await place.open(), await place.open()]
        await enqueue(store, place, *(new_run(f"r{n:02}") for n in range(60)))
        workers = [await register(handle, f"w{n}", capacity=60) for n, handle in enumerate(handles)]

        async def drain(handle: Store, worker: int) -> list[str]:
            got: list[str] = []
            while ids := await claimed_ids(handle, worker, 4):
                got += ids
            return got

        shares = await asyncio.gather(*(drain(h, w) for h, w in zip(handles, workers, strict=True)))
        assert sorted(run_id for share in shares for run_id in share) == [f"r{n:02}" for n in range(60)]
        for run_id in ("r00", "r59"):
            assert (await store.get_run(run_id)).token == 1

    async def test_concurrent_claimers_keep_a_queues_limit(self, store: Store, place: Place) -> None:
        other = await place.open()
        await store.limit_queue("default", 5)
        await enqueue(store, place, *(new_run(f"r{n}") for n in range(20)))
        workers = [await register(store), await register(other, "other")]
        shares = await asyncio.gather(
            *(
                claimed_ids(handle, worker, 3)
                for _ in range(4)
                for handle, worker in zip((store, other), workers, strict=True)
            )
        )
        assert sum(len(share) for share in shares) == 5

    async def test_a_claim_right_after_an_end_sees_it(self, store: Store, place: Place) -> None:
        other = await place.open()
        worker, second = await register(store), await register(other, "other")
        attempt = await start(store, worker)
        await attempt.commit(step())
        await attempt.settle(Release())
        (claim,) = await other.claim(second, SERVES, 1)
        assert (claim.run.token, claim.run.position) == (2, 1)
