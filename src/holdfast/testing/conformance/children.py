"""Promises about children: born with an entry, told once, ended with their parent, undone with a retry."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from holdfast.errors import Conflict, Refused, RunNotFound
from holdfast.model import (
    CancelChild,
    Change,
    Committed,
    Entry,
    EntryKind,
    EntryStatus,
    Failed,
    Lane,
    NewChild,
    Outcome,
    ParentPolicy,
    Park,
    Reason,
    RefusedChange,
    RunState,
    Succeeded,
)
from holdfast.rules.transitions import cancel, expire, retry
from holdfast.rules.waits import of_child
from holdfast.store.protocol import Store
from holdfast.testing.conformance.claims import claimed_ids
from holdfast.testing.conformance.place import (
    DAY_US,
    FAILURE,
    SECOND_US,
    SERVES,
    Attempt,
    Place,
    Promises,
    commit_one,
    fingerprint,
    new_run,
    register,
    start,
    step,
    take,
)

DONE = Succeeded(result=b'"done"')
BROKEN = Failed(failure=FAILURE)
LEAVE = ParentPolicy.LEAVE


def born(
    attempt: Attempt, *ids: str, policy: ParentPolicy = ParentPolicy.CANCEL, occurrence: int = 0
) -> Change:
    """A Change that records a start with children beside it."""
    entry = step("child:start", kind=EntryKind.CHILD, occurrence=occurrence)
    children = tuple(NewChild(new=new_run(each), on_parent_end=policy) for each in ids)
    return structs.replace(attempt.change(entry), beside=children)


async def bear(attempt: Attempt, *ids: str, policy: ParentPolicy = ParentPolicy.CANCEL) -> None:
    """Commit it."""
    answer = await commit_one(attempt.store, born(attempt, *ids, policy=policy, occurrence=attempt.position))
    assert isinstance(answer, Committed), answer
    attempt.position = answer.position


async def family(store: Store, worker: int, *ids: str, policy: ParentPolicy = ParentPolicy.CANCEL) -> Attempt:
    """A parent "r" that runs, with these children."""
    parent = await start(store, worker)
    await bear(parent, *ids, policy=policy)
    return parent


async def end(store: Store, worker: int, run_id: str, outcome: Outcome = DONE) -> None:
    """Claim the run, and settle it."""
    await (await take(store, worker, run_id)).settle(outcome)


async def states(store: Store, *ids: str) -> list[str]:
    """The states of these runs."""
    return [(await store.get_run(each)).state.value for each in ids]


def taken(n: int, status: EntryStatus = EntryStatus.OK) -> Entry:
    """The entry of a call that took the outcome in signal `n`."""
    return step("child", kind=EntryKind.CHILD, occurrence=n, signal=n, status=status)


def wait(child: str, seen: int = 0) -> Park:
    """Park until the child has ended."""
    return Park(reason=Reason.CHILD, wait_name=of_child(child), inbox_seen=seen)


class ChildPromises(Promises):
    """What the store promises about children."""

    async def test_a_child_comes_into_being_with_the_entry_of_its_start(self, store: Store) -> None:
        worker = await register(store)
        parent = await start(store, worker)
        stale = structs.replace(born(parent, "c"), position=7)
        assert isinstance(await commit_one(store, stale), RefusedChange)
        with pytest.raises(RunNotFound):
            await store.get_run("c")
        await bear(parent, "c")
        child = await store.get_run("c")
        assert (child.state, child.event_no) == (RunState.QUEUED, 1)
        assert await store.parents_of([child.key, parent.run.key]) == {child.key: "r"}
        (kin,) = await store.list_children(["r"], 10)
        assert (kin.run.id, kin.parent, kin.on_parent_end) == ("c", "r", ParentPolicy.CANCEL)
        for queue, limit, closed in ((child.queue, 1, False), (child.queue, 0, True), ("*", 0, True)):
            await store.limit_queue(queue, limit)
            assert [each.closed for each in await store.list_children(["r"], 10)] == [closed]
            await store.limit_queue(queue, None)
        standing = await store.read_child(parent.run.key, "c")
        assert standing is not None
        assert (standing.ended, standing.signal, standing.inbox_no) == (False, None, 0)
        assert await store.read_child(child.key, "c") is None

    async def test_a_start_that_is_recorded_again_meets_the_child_that_is_there(self, store: Store) -> None:
        parent = await family(store, await register(store), "c")
        before = await fingerprint(store, "c")
        await bear(parent, "c")
        assert await fingerprint(store, "c") == before
        assert len(await store.list_children(["r"], 10)) == 1

    @pytest.mark.parametrize("whose", ["nobody's", "another's", "with another input"])
    async def test_an_id_that_is_taken_refuses_the_start_and_the_attempt_goes_on(
        self, store: Store, whose: str
    ) -> None:
        worker = await register(store)
        parent = await start(store, worker)
        new = new_run("c")
        if whose == "nobody's":
            await store.create_run(new)
        elif whose == "another's":
            await bear(await start(store, worker, "other"), "c")
        else:
            await bear(parent, "c")
            new = replace(new, input=b'{"other":1}')
        before = [await fingerprint(store, each) for each in ("r", "c")]
        change = structs.replace(born(parent, occurrence=9), beside=(NewChild(new=new),))
        answer = await commit_one(store, change)
        assert isinstance(answer, RefusedChange)
        assert answer.conflict
        assert "'c' is taken" in answer.message
        with pytest.raises(Conflict, match="'c' is taken"):
            await store.check_child(parent.run.key, NewChild(new=new))
        assert [await fingerprint(store, each) for each in ("r", "c")] == before
        await parent.commit(step("onwards"))

    async def test_a_change_that_is_fenced_out_is_no_conflict(self, store: Store) -> None:
        parent = await start(store, await register(store))
        await store.create_run(new_run("c"))
        answer = await commit_one(store, structs.replace(born(parent, "c"), position=5))
        assert isinstance(answer, RefusedChange)
        assert not answer.conflict

    @pytest.mark.parametrize("outcome", [DONE, BROKEN, "cancelled"])
    async def test_the_end_of_a_child_is_in_the_inbox_of_its_parent_and_wakes_it(
        self, store: Store, outcome: Outcome | str
    ) -> None:
        worker = await register(store)
        parent = await family(store, worker, "c")
        parked = await parent.settle(wait("c"))
        assert (parked.state, parked.reason, parked.available_at_us) == (RunState.WAITING, Reason.CHILD, None)
        if isinstance(outcome, str):
            await store.update_run("c", cancel)
        else:
            await end(store, worker, "c", outcome)
        inbox_no, (signal,) = await store.read_inbox(parent.run.key)
        state = (await store.get_run("c")).state
        assert (inbox_no, signal.name, signal.payload) == (
            1,
            of_child("c"),
            b'{"state":"%s"}' % state.encode(),
        )
        assert await claimed_ids(store, worker) == ["r"]
        standing = await store.read_child(parent.run.key, "c")
        assert standing is not None
        assert (standing.run.state, standing.ended, standing.signal) == (state, True, 1)
        assert standing.run.result == (b'"done"' if outcome is DONE else None)

    async def test_an_end_before_the_park_that_was_not_seen_is_not_lost(self, store: Store) -> None:
        worker = await register(store)
        parent = await family(store, worker, "c")
        await end(store, worker, "c")
        await parent.settle(wait("c"))
        assert await claimed_ids(store, worker) == ["r"]

    async def test_an_outcome_is_taken_once(self, store: Store) -> None:
        worker = await register(store)
        parent = await family(store, worker, "c")
        await end(store, worker, "c")
        await parent.commit(taken(1))
        assert (await store.read_inbox(parent.run.key))[1] == []
        standing = await store.read_child(parent.run.key, "c")
        assert standing is not None
        assert (standing.ended, standing.signal) == (True, None)

    @pytest.mark.parametrize("how", ["succeeded", "failed", "cancelled", "expired"])
    async def test_the_end_of_a_parent_ends_its_children_and_theirs(
        self, store: Store, place: Place, how: str
    ) -> None:
        worker = await register(store)
        parent = await start(store, worker, new=replace(new_run(), deadline_us=60 * SECOND_US))
        await bear(parent, "queued", "runs", "done")
        await bear(parent, "left", policy=LEAVE)
        await end(store, worker, "done")
        child = await take(store, worker, "runs")
        await bear(child, "grandchild")
        match how:
            case "succeeded" | "failed":
                await parent.settle(DONE if how == "succeeded" else BROKEN)
            case "cancelled":
                await store.update_run("r", cancel)
            case _:
                place.clock.advance(61 * SECOND_US)
                await store.update_run("r", expire)
        assert await states(store, "queued", "runs", "grandchild") == ["cancelled"] * 3
        assert await states(store, "done", "left") == ["succeeded", "queued"]
        assert isinstance(await commit_one(store, child.change(step())), RefusedChange)
        (told,) = [e for e in await store.read_events("grandchild", 0, 10) if e.type == "run.cancelled"]
        assert b'"parent":"runs"' in told.payload

    @pytest.mark.parametrize("count", [100, 1_200])
    async def test_a_cancel_ends_any_number_of_children(self, store: Store, count: int) -> None:
        worker = await register(store)
        ids = [f"c{n}" for n in range(count)]
        await family(store, worker, *ids)
        await store.update_run("r", cancel)
        left = len(await store.list_children(["r"], count, unfinished=True))
        assert left == max(0, count - 1_000)
        if left:
            with pytest.raises(Refused, match="children"):
                await store.delete_run("r")
            assert await store.prune(await store.now() + DAY_US, count) == 1_000
        await store.sweep(count)
        assert await store.list_children(["r"], count, unfinished=True) == []
        await store.delete_run("r")

    async def test_one_sweep_meets_the_deadlines_of_a_parent_and_of_its_child(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store)
        parent = await start(store, worker, new=replace(new_run(), deadline_us=SECOND_US))
        child = replace(new_run("a"), deadline_us=2 * SECOND_US)
        change = parent.change(step("child:start", kind=EntryKind.CHILD))
        await commit_one(store, structs.replace(change, beside=(NewChild(new=child),)))
        place.clock.advance(3 * SECOND_US)
        await store.sweep(100)
        assert await states(store, "r", "a") == ["failed", "cancelled"]

    async def test_the_end_of_a_parent_ends_children_that_stand_in_one_line(self, store: Store) -> None:
        worker = await register(store)
        parent = await start(store, worker)
        keyed = [replace(new_run(each), lane=Lane(key="k", at_most=1)) for each in ("a", "b", "c")]
        change = parent.change(step("child:start", kind=EntryKind.CHILD))
        answer = await commit_one(
            store, structs.replace(change, beside=tuple(NewChild(new=each) for each in keyed))
        )
        assert isinstance(answer, Committed), answer
        assert await claimed_ids(store, worker, 5) == ["a"]
        await store.update_run("r", cancel)
        assert await states(store, "r", "a", "b", "c") == ["cancelled"] * 4

    async def test_a_retry_of_the_parent_queues_again_what_its_end_cancelled(self, store: Store) -> None:
        worker = await register(store)
        parent = await family(store, worker, "c", "stopped")
        await bear(await take(store, worker, "c"), "grandchild")
        await store.update_run("stopped", cancel)
        await parent.settle(BROKEN)
        assert await states(store, "c", "grandchild", "stopped") == ["cancelled"] * 3
        await store.update_run("r", retry)
        assert await states(store, "r", "c", "grandchild", "stopped") == ["queued"] * 3 + ["cancelled"]
        await end(store, worker, "c")
        assert [s.n for s in (await store.read_inbox(parent.run.key))[1]] == [1, 2]

    async def test_a_retry_that_reaches_a_thousand_children_leaves_the_rest_to_the_sweep(
        self, store: Store
    ) -> None:
        worker = await register(store)
        ids = [f"c{n}" for n in range(1_200)]
        await family(store, worker, *ids)
        await store.update_run("r", cancel)
        await store.sweep(2_000)
        await store.update_run("r", retry)
        assert len(await store.list_children(["r"], 2_000, unfinished=True)) == 1_000
        standing = await store.read_child((await store.get_run("r")).key, "c1199")
        assert standing is not None
        assert not standing.ended  # cancelled by its parent's end, and about to be queued again
        await store.sweep(2_000)
        assert len(await store.list_children(["r"], 2_000, unfinished=True)) == 1_200

    @pytest.mark.parametrize("outcome", [BROKEN, "cancelled"])
    async def test_a_retry_that_supersedes_a_failed_outcome_retries_the_child(
        self, store: Store, outcome: Outcome | str
    ) -> None:
        worker = await register(store)
        parent = await family(store, worker, "c")
        child = await take(store, worker, "c")
        await child.commit(step("fine"), step("bad", status=EntryStatus.FAILED))
        if isinstance(outcome, str):
            await store.update_run("c", cancel)
        else:
            await child.settle(Failed(failure=replace(FAILURE, entries=(2,))))
        await parent.commit(taken(1, EntryStatus.FAILED))
        await parent.settle(BROKEN)
        await store.update_run("r", lambda run, now: retry(run, now, supersede=(2,)))
        assert await states(store, "r", "c") == ["queued", "queued"]
        assert (await store.read_inbox(parent.run.key))[1] == []
        superseded = [entry.superseded for entry in await store.read_entries("c")]
        assert superseded == [False, outcome is BROKEN]
        await end(store, worker, "c")
        assert [s.n for s in (await store.read_inbox(parent.run.key))[1]] == [2]

    async def test_a_retry_that_supersedes_a_good_outcome_delivers_it_again(self, store: Store) -> None:
        worker = await register(store)
        parent = await family(store, worker, "c")
        await end(store, worker, "c")
        await parent.commit(taken(1))
        await parent.settle(BROKEN)
        await store.update_run("r", lambda run, now: retry(run, now, supersede=(2,)))
        assert await states(store, "r", "c") == ["queued", "succeeded"]
        assert [s.n for s in (await store.read_inbox(parent.run.key))[1]] == [1]

    async def test_a_child_that_is_retried_takes_its_outcome_back(self, store: Store) -> None:
        worker = await register(store)
        parent = await family(store, worker, "c")
        await end(store, worker, "c", BROKEN)
        await store.update_run("c", retry)
        assert await store.read_inbox(parent.run.key) == (1, [])
        assert isinstance(await commit_one(store, parent.change(taken(1))), RefusedChange)
        await end(store, worker, "c")
        standing = await store.read_child(parent.run.key, "c")
        assert standing is not None
        assert (standing.ended, standing.signal) == (True, 2)

    async def test_an_outcome_from_before_the_child_was_retried_does_not_come_back(
        self, store: Store
    ) -> None:
        worker = await register(store)
        parent = await family(store, worker, "c")
        await end(store, worker, "c", BROKEN)
        await parent.commit(taken(1, EntryStatus.FAILED))
        await parent.settle(BROKEN)
        await store.update_run("c", retry)
        await store.update_run("r", lambda run, now: retry(run, now, supersede=(2,)))
        assert (await store.read_inbox(parent.run.key))[1] == []
        await end(store, worker, "c")
        assert [s.n for s in (await store.read_inbox(parent.run.key))[1]] == [2]

    async def test_an_end_after_that_of_the_parent_is_told_when_the_parent_goes_on(
        self, store: Store
    ) -> None:
        worker = await register(store)
        parent = await family(store, worker, "c", "d", policy=LEAVE)
        await parent.settle(BROKEN)
        await end(store, worker, "c")
        await end(store, worker, "d")
        assert await store.read_inbox(parent.run.key) == (0, [])
        await store.update_run("r", retry)
        assert [s.name for s in (await store.read_inbox(parent.run.key))[1]] == [of_child("c"), of_child("d")]

    async def test_a_child_is_cancelled_with_an_entry_and_retried_when_that_is_superseded(
        self, store: Store
    ) -> None:
        worker = await register(store)
        parent = await family(store, worker, "c")
        await bear(await start(store, worker, "other"), "theirs")
        ended = step("child:cancel", kind=EntryKind.CHILD)
        beside = (CancelChild("c"), CancelChild("theirs"), CancelChild("nobody"))
        change = structs.replace(parent.change(ended), beside=beside)
        assert isinstance(await commit_one(store, structs.replace(change, position=9)), RefusedChange)
        assert await states(store, "c") == ["queued"]
        assert isinstance(await commit_one(store, change), Committed)
        assert await states(store, "c", "theirs") == ["cancelled", "queued"]
        parent.position = 2
        await parent.settle(BROKEN)
        await store.update_run("r", lambda run, now: retry(run, now, supersede=(2,)))
        assert await states(store, "c") == ["queued"]

    async def test_a_child_is_kept_until_its_outcome_is_taken(self, store: Store) -> None:
        worker = await register(store)
        parent = await family(store, worker, "c", "d")
        await end(store, worker, "c")
        await end(store, worker, "d")
        later_us = await store.now() + DAY_US
        with pytest.raises(Refused, match="outcome"):
            await store.delete_run("c")
        assert await store.prune(later_us, 10) == 0
        await parent.commit(taken(1))
        await store.delete_run("c")
        assert await store.prune(later_us, 10) == 0
        await parent.settle(DONE)
        assert await store.prune(later_us, 10) == 2

    async def test_a_child_outlives_the_deletion_of_its_parent(self, store: Store) -> None:
        worker = await register(store)
        parent = await family(store, worker, "c", policy=LEAVE)
        await parent.settle(DONE)
        await store.delete_run("r")
        child = await store.get_run("c")
        assert await store.parents_of([child.key]) == {}
        await end(store, worker, "c")
        assert await states(store, "c") == ["succeeded"]

    async def test_a_claim_by_id_takes_what_the_run_started_and_nothing_else(self, store: Store) -> None:
        worker = await register(store)
        parent = await family(store, worker, "c", "d")
        await store.create_run(new_run("stranger"))
        await parent.settle(wait("c"))

        async def claimed() -> list[str]:
            return [claim.run.id for claim in await store.claim(worker, SERVES, 9, only="r")]

        (first,) = await store.claim(worker, SERVES, 1, only="r")
        child = Attempt(store, first)
        assert child.run.id == "c"
        assert await claimed() == ["d"]
        assert await claimed() == []
        await bear(child, "grandchild")
        assert await claimed() == ["grandchild"]
        await child.settle(DONE)
        assert await claimed() == ["r"]

    async def test_the_limits_of_queues_hold_for_children_of_a_run_that_is_claimed_by_id(
        self, store: Store
    ) -> None:
        worker = await register(store)
        parent = await family(store, worker, "c", "d")
        await parent.settle(wait("c"))
        await store.limit_queue("default", 1)
        assert [claim.run.id for claim in await store.claim(worker, SERVES, 9, only="r")] == ["c"]
        assert await store.claim(worker, SERVES, 9, only="r") == []
