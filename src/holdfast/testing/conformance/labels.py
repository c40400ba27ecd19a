"""Promises about labels: what a run asks of a worker, and which worker gets it."""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from holdfast.model import EntryKind, NewChild, NewWorker, Overlap, RunFilter, RunState
from holdfast.store.protocol import Store
from holdfast.testing.conformance.claims import claimed_ids, enqueue
from holdfast.testing.conformance.place import (
    LEASE_US,
    SECOND_US,
    SERVES,
    Place,
    Promises,
    commit_one,
    new_run,
    register,
    start,
    step,
    take,
)
from holdfast.testing.conformance.schedules import TEN_S, fire, schedule


async def labelled(store: Store, *labels: str) -> int:
    """A new worker with these labels."""
    new = NewWorker(name="w", host="here", pid=1, capacity=8, serves=tuple(SERVES), labels=labels)
    return await store.register_worker(new, LEASE_US)


class LabelPromises(Promises):
    """What the store promises about labels."""

    async def test_what_runs_ask_for_and_workers_have_is_told(self, store: Store, place: Place) -> None:
        await store.create_run(replace(new_run(), needs=("eu", "gpu")))
        await labelled(store, "gpu", "ssd")
        assert (await store.get_run("r")).needs == ("eu", "gpu")
        assert [run.needs for run in await store.list_runs(RunFilter())] == [("eu", "gpu")]
        assert [one.labels for one in await store.list_workers()] == [("gpu", "ssd")]

    async def test_a_run_goes_to_a_worker_that_has_all_it_asks_for_and_to_no_other(
        self, store: Store, place: Place
    ) -> None:
        asked = {"plain": (), "gpu": ("gpu",), "both": ("eu", "gpu"), "eu": ("eu",), "other": ("gpus",)}
        await enqueue(store, place, *(replace(new_run(name), needs=needs) for name, needs in asked.items()))
        assert await claimed_ids(store, await labelled(store, "g", "ssd")) == ["plain"]
        assert await claimed_ids(store, await labelled(store, "gpu")) == ["gpu"]
        assert await claimed_ids(store, await labelled(store, "eu", "gpu", "ssd")) == ["both", "eu"]
        assert (await store.get_run("other")).state is RunState.QUEUED

    async def test_what_asks_for_other_workers_hides_nobody(self, store: Store, place: Place) -> None:
        """Whoever waits for another kind of machine stands in nobody's way, however many they are."""
        first = [replace(new_run(f"a{n}"), needs=("gpu",), priority=-n) for n in range(20)]
        await enqueue(store, place, *first, replace(new_run("b1"), priority=3), new_run("b2"))
        await enqueue(
            store, place, replace(new_run("b3"), queue="slow"), replace(new_run("c"), needs=("zfs",))
        )
        assert sorted(await claimed_ids(store, await labelled(store), 2)) == ["b2", "b3"]
        assert await claimed_ids(store, await labelled(store, "zfs"), 2) == ["c", "b1"]
        assert await claimed_ids(store, await labelled(store, "gpu"), 1) == ["a19"]

    async def test_a_dead_workers_run_waits_for_a_worker_with_its_labels(
        self, store: Store, place: Place
    ) -> None:
        await start(store, await labelled(store, "gpu"), new=replace(new_run(), needs=("gpu",)))
        place.clock.advance(LEASE_US + SECOND_US)
        assert await claimed_ids(store, await labelled(store)) == []
        assert await claimed_ids(store, await labelled(store, "gpu")) == ["r"]
        place.clock.advance(LEASE_US + SECOND_US)  # a suspect by now, which runs alone
        assert await claimed_ids(store, await labelled(store)) == []
        assert await claimed_ids(store, await labelled(store, "gpu")) == ["r"]

    async def test_a_claim_by_id_takes_the_run_itself_and_of_its_children_those_that_fit(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store)
        parent = await start(store, worker, new=replace(new_run(), needs=("gpu",)))
        children = (NewChild(new=new_run("c")), NewChild(new=replace(new_run("d"), needs=("gpu",))))
        entry = step("child:start", kind=EntryKind.CHILD)
        await commit_one(store, structs.replace(parent.change(entry), beside=children))
        assert [claim.run.id for claim in await store.claim(worker, SERVES, 9, only="r")] == ["c"]
        other = await labelled(store, "gpu")
        assert [claim.run.id for claim in await store.claim(other, SERVES, 9, only="r")] == ["d"]

    async def test_the_runs_of_a_schedule_ask_for_what_it_asks_for_now(
        self, store: Store, place: Place
    ) -> None:
        for needs in (("gpu",), ()):
            await store.put_schedule(structs.replace(schedule(overlap=Overlap.ALLOW), needs=needs))
            place.clock.advance(TEN_S)
            await fire(store)
            assert (await store.list_runs(RunFilter(limit=1)))[0].needs == needs

    async def test_runs_that_ask_for_other_labels_are_left_out_of_a_workers_list(
        self, store: Store, place: Place
    ) -> None:
        await enqueue(store, place, new_run("plain"), replace(new_run("gpu"), needs=("gpu",)))
        await enqueue(store, place, replace(new_run("both"), needs=("eu", "gpu")))

        async def listed(*labels: str) -> list[str]:
            return [run.id for run in await store.list_runs(RunFilter(labels=frozenset(labels)))]

        assert await listed() == ["plain"]
        assert await listed("gpu") == ["gpu", "plain"]
        assert await listed("gpu", "eu") == ["both", "gpu", "plain"]
        attempt = await take(store, await labelled(store, "eu", "gpu"), "both")
        await attempt.commit(step())
        assert await listed() == ["plain"]
