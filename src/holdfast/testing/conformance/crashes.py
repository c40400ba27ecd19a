"""Promises about workers that go down: takeovers, suspects, poison, and what counts as a crash."""

from __future__ import annotations

from holdfast.model import Note, Reason, RefusedChange, Release, RunState, Succeeded, Wish
from holdfast.rules.transitions import pause, retry
from holdfast.store.protocol import Store
from holdfast.testing.conformance.claims import claimed_ids
from holdfast.testing.conformance.place import (
    LEASE_US,
    SECOND_US,
    Attempt,
    Place,
    Promises,
    commit_one,
    event_types,
    new_run,
    register,
    start,
    step,
    take_any,
)


def let_die(place: Place) -> None:
    """Let every lease there is run out."""
    place.clock.advance(LEASE_US + SECOND_US)


async def crash(store: Store, place: Place, times: int) -> list[Attempt]:
    """Let a fresh worker claim all it can, and die, so many times; return the last one's attempts."""
    attempts: list[Attempt] = []
    for number in range(times):
        attempts = await take_any(store, await register(store, f"dies-{number}"), 10)
        let_die(place)
    return attempts


class CrashPromises(Promises):
    """What the store promises about workers that go down."""

    async def test_a_dead_workers_run_is_claimed_under_a_higher_token(
        self, store: Store, place: Place
    ) -> None:
        dead = await start(store, await register(store, "dies"))
        await dead.commit(step())
        let_die(place)
        worker = await register(store)
        (attempt,) = await take_any(store, worker)
        assert (attempt.run.token, attempt.run.attempts, attempt.run.worker) == (2, 2, worker)
        assert attempt.run.claimed_position == attempt.run.position == 1
        assert attempt.run.failures == 0
        assert "run.running" in (await event_types(store, "r"))[-2:]

    async def test_a_crash_is_counted_in_the_claim_unless_something_was_recorded(
        self, store: Store, place: Place
    ) -> None:
        await store.create_run(new_run())
        await crash(store, place, 1)
        (second,) = await take_any(store, await register(store, "second"))
        assert (second.run.crashes, second.run.crashes_alone, second.run.suspect) == (1, 1, True)
        await second.commit(step())
        let_die(place)
        (third,) = await take_any(store, await register(store, "third"))
        assert (third.run.crashes, third.run.crashes_alone, third.run.suspect) == (0, 0, False)

    async def test_a_run_whose_attempt_was_to_be_killed_counts_no_crash_when_its_worker_dies_over_it(
        self, store: Store, place: Place
    ) -> None:
        dies = await register(store, "dies")
        for run_id in ("wished", "beside"):
            await start(store, dies, run_id)
        await store.wish("wished", Wish.KILL)
        let_die(place)
        claimed = [await take_any(store, await register(store, f"next-{n}"), 10) for n in range(2)]
        assert sorted(len(each) for each in claimed) == [1, 1], "beside is a suspect, and goes alone"
        runs = {each.run.id: each.run for attempts in claimed for each in attempts}
        wished, beside = runs["wished"], runs["beside"]
        assert (wished.crashes, wished.crashes_alone, wished.suspect) == (0, 0, False)
        assert (beside.crashes, beside.suspect) == (1, True)
        events = await store.read_events("wished", 0, 99)
        assert [
            b'"taken_over":"killed"' in each.payload for each in events if b"taken_over" in each.payload
        ] == [True]
        let_die(place)
        again = [await take_any(store, await register(store, f"then-{n}"), 10) for n in range(2)]
        crashes = {each.run.id: each.run.crashes for attempts in again for each in attempts}
        assert crashes == {"wished": 1, "beside": 2}, "the wish was for that attempt alone"

    async def test_who_was_to_be_killed_and_lost_its_worker_goes_on_beside_others(
        self, store: Store, place: Place
    ) -> None:
        await start(store, await register(store, "dies"), "wished")
        await store.wish("wished", Wish.KILL)
        let_die(place)
        busy = await register(store, "busy")
        await start(store, busy, "healthy")
        assert await claimed_ids(store, busy) == ["wished"]

    async def test_a_lease_lasts_exactly_as_long_as_granted(self, store: Store, place: Place) -> None:
        await start(store, await register(store, "dies"))
        place.clock.advance(LEASE_US - 1)
        assert await claimed_ids(store, await register(store)) == []
        place.clock.advance(SECOND_US)
        assert await claimed_ids(store, await register(store)) == ["r"]

    async def test_an_expired_lease_that_nobody_claimed_still_writes_and_renews(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        let_die(place)
        await attempt.commit(step())
        assert store.renew_lease(worker, LEASE_US, None)
        assert await claimed_ids(store, await register(store, "other")) == []
        assert (await attempt.settle(Succeeded(result=b"1"))).state is RunState.SUCCEEDED

    async def test_a_run_that_went_down_with_others_is_handed_out_alone(
        self, store: Store, place: Place
    ) -> None:
        for run_id in ("a", "b", "c"):
            await store.create_run(new_run(run_id))
        dead = await crash(store, place, 1)
        assert len(dead) == 3
        worker = await register(store)
        (suspect,) = await take_any(store, worker, 10)
        assert suspect.run.suspect
        assert await claimed_ids(store, worker) == []
        other = await register(store, "other")
        (second,) = await take_any(store, other, 10)
        assert second.run.id != suspect.run.id
        await suspect.settle(Succeeded(result=b"1"))
        assert len(await claimed_ids(store, worker)) == 1

    async def test_a_suspect_is_not_handed_to_a_worker_with_other_runs(
        self, store: Store, place: Place
    ) -> None:
        await store.create_run(new_run("suspect"))
        await crash(store, place, 1)
        busy = await register(store, "busy")
        await start(store, busy, "healthy")
        assert await claimed_ids(store, busy) == []
        assert await claimed_ids(store, await register(store, "idle")) == ["suspect"]

    async def test_a_suspect_holds_up_no_healthy_run(self, store: Store, place: Place) -> None:
        await store.create_run(new_run("suspect"))
        await crash(store, place, 1)
        busy = await register(store, "busy")
        await start(store, busy, "first")
        await store.create_run(new_run("second"))
        assert await claimed_ids(store, busy) == ["second"]

    async def test_a_suspect_that_recorded_something_is_healthy_again(
        self, store: Store, place: Place
    ) -> None:
        for run_id in ("a", "b"):
            await store.create_run(new_run(run_id))
        await crash(store, place, 1)
        worker = await register(store)
        (suspect,) = await take_any(store, worker, 10)
        await suspect.commit(step())
        await suspect.settle(Release())
        assert not (await store.get_run(suspect.run.id)).suspect

    async def test_three_crashes_alone_without_a_new_entry_make_poison(
        self, store: Store, place: Place
    ) -> None:
        await store.create_run(new_run())
        last = await crash(store, place, 3)
        assert [a.run.id for a in last] == ["r"]
        worker = await register(store)
        assert await claimed_ids(store, worker) == []
        held = await store.get_run("r")
        assert (held.state, held.reason) == (RunState.WAITING, Reason.POISON)
        assert held.token > last[0].run.token
        assert (await event_types(store, "r"))[-1] == "run.waiting"
        await store.create_run(new_run("healthy"))
        assert await claimed_ids(store, worker) == ["healthy"]

    async def test_a_poisoned_run_goes_on_when_an_operator_says_so(self, store: Store, place: Place) -> None:
        await store.create_run(new_run())
        await crash(store, place, 4)
        assert (await store.get_run("r")).reason is Reason.POISON
        await store.update_run("r", retry)
        assert await claimed_ids(store, await register(store)) == ["r"]

    async def test_a_new_entry_between_crashes_prevents_poison(self, store: Store, place: Place) -> None:
        await store.create_run(new_run())
        for number in range(6):
            (attempt,) = await take_any(store, await register(store, f"dies-{number}"), 10)
            await attempt.commit(step(occurrence=number))
            let_die(place)
        assert await claimed_ids(store, await register(store)) == ["r"]

    async def test_a_note_between_crashes_does_not_prevent_poison(self, store: Store, place: Place) -> None:
        await store.create_run(new_run())
        for number in range(3):
            (attempt,) = await take_any(store, await register(store, f"dies-{number}"), 10)
            await attempt.commit(notes=(Note("log"),))
            let_die(place)
        assert await claimed_ids(store, await register(store)) == []
        assert (await store.get_run("r")).reason is Reason.POISON

    async def test_crashes_beside_others_alone_make_no_poison(self, store: Store, place: Place) -> None:
        for run_id in ("a", "b"):
            await store.create_run(new_run(run_id))
        await crash(store, place, 1)
        for run_id in ("a", "b"):
            assert (await store.get_run(run_id)).crashes_alone == 0
        (suspect,) = await take_any(store, await register(store), 10)
        assert (suspect.run.crashes, suspect.run.crashes_alone) == (1, 0)

    async def test_a_pause_asked_of_a_dead_attempt_is_kept(self, store: Store, place: Place) -> None:
        await start(store, await register(store, "dies"))
        await store.update_run("r", pause)
        let_die(place)
        assert await claimed_ids(store, await register(store)) == []
        run = await store.get_run("r")
        assert (run.state, run.reason, run.token) == (RunState.WAITING, Reason.PAUSED, 2)

    # --- what counts nothing ----------------------------------------------------------------------------------------

    async def test_a_retired_workers_runs_are_claimable_at_once_and_count_no_crash(
        self, store: Store
    ) -> None:
        worker = await register(store, "drains")
        await start(store, worker)
        await store.retire_worker(worker)
        (attempt,) = await take_any(store, await register(store))
        assert (attempt.run.crashes, attempt.run.crashes_alone, attempt.run.suspect) == (0, 0, False)
        assert attempt.run.token == 2

    async def test_a_worker_retired_as_crashed_counts_a_crash(self, store: Store) -> None:
        worker = await register(store, "dies")
        await start(store, worker)
        await store.retire_worker(worker, counted=True)
        (attempt,) = await take_any(store, await register(store))
        assert (attempt.run.crashes, attempt.run.suspect) == (1, True)

    async def test_a_changed_boot_counts_no_crash(self, store: Store, place: Place) -> None:
        await start(store, await register(store, "unplugged"))
        place.clock.reboot()
        (attempt,) = await take_any(await place.open(), await register(store))
        assert (attempt.run.crashes, attempt.run.crashes_alone, attempt.run.suspect) == (0, 0, False)

    async def test_any_number_of_uncounted_takeovers_makes_no_poison(self, store: Store) -> None:
        await store.create_run(new_run())
        for number in range(8):
            worker = await register(store, f"deploy-{number}")
            assert await claimed_ids(store, worker) == ["r"]
            await store.retire_worker(worker)
        assert (await store.get_run("r")).crashes == 0

    async def test_a_retired_workers_attempt_is_fenced_once_its_run_is_claimed(self, store: Store) -> None:
        worker = await register(store, "drains")
        attempt = await start(store, worker)
        await store.retire_worker(worker)
        await take_any(store, await register(store))
        assert isinstance(await commit_one(store, attempt.change(step())), RefusedChange)
        assert await store.read_entries("r") == []
