"""Promises about signals: kept until consumed, never lost, never delivered twice."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from holdfast.errors import Refused
from holdfast.model import (
    Entry,
    EntryKind,
    EntryStatus,
    Failed,
    Park,
    Reason,
    RefusedChange,
    RunState,
    Signal,
    Succeeded,
)
from holdfast.rules.transitions import cancel, retry
from holdfast.store.protocol import Store
from holdfast.testing.conformance.claims import claimed_ids
from holdfast.testing.conformance.place import (
    FAILURE,
    SECOND_US,
    Place,
    Promises,
    fingerprint,
    new_run,
    register,
    start,
    step,
    take,
)


def taken(n: int, name: str = "go") -> Entry:
    """The entry of a wait that consumed signal `n`."""
    return step(name, kind=EntryKind.SIGNAL, occurrence=n, signal=n)


def wait(seen: int, name: str = "go", until_us: int | None = None) -> Park:
    """Park for a signal, having seen the inbox up to `seen`."""
    return Park(reason=Reason.SIGNAL, wait_name=name, inbox_seen=seen, until_us=until_us)


class SignalPromises(Promises):
    """What the store promises about signals."""

    async def test_signals_are_numbered_and_kept_in_order(self, store: Store, place: Place) -> None:
        run = (await store.create_run(new_run())).run
        assert await store.read_inbox(run.key) == (0, [])
        now_us = place.clock.wall_us()
        sent = [
            await store.add_signal("r", name, b"%d" % n) for n, name in enumerate(["go", "stop", "go"], 1)
        ]
        assert sent[0] == Signal(n=1, name="go", payload=b"1", at_us=now_us)
        assert await (await place.open()).read_inbox(run.key) == (3, sent)
        assert (await store.get_run("r")).inbox_no == 3

    async def test_a_signal_with_a_known_dedup_key_is_the_first_one(self, store: Store) -> None:
        run = (await store.create_run(new_run())).run
        await store.create_run(new_run("other"))
        first = await store.add_signal("r", "go", b"1", dedup="k")
        assert await store.add_signal("r", "go", b"2", dedup="k") == first
        assert (await store.add_signal("r", "go", b"3", dedup="l")).n == 2
        assert (await store.add_signal("other", "go", b"4", dedup="k")).n == 1
        assert [s.payload for s in (await store.read_inbox(run.key))[1]] == [b"1", b"3"]

    async def test_a_known_dedup_key_wakes_nobody_again(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await store.add_signal("r", "go", b"1", dedup="k")
        await attempt.commit(taken(1))
        await attempt.settle(wait(1))
        await store.add_signal("r", "go", b"1", dedup="k")
        assert await claimed_ids(store, worker) == []
        assert await store.read_inbox(attempt.run.key) == (1, [])

    async def test_signal_to_a_final_run_is_refused(self, store: Store) -> None:
        await (await start(store, await register(store))).settle(Succeeded(result=b"1"))
        await store.create_run(new_run("gone"))
        await store.update_run("gone", cancel)
        for run_id in ("r", "gone"):
            before = await fingerprint(store, run_id)
            with pytest.raises(Refused, match=run_id):
                await store.add_signal(run_id, "go", b"1")
            assert await fingerprint(store, run_id) == before

    async def test_a_signal_wakes_the_run_that_waits_for_its_name_at_once(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        parked = await attempt.settle(wait(0))
        assert (parked.state, parked.reason, parked.wait_name) == (RunState.WAITING, Reason.SIGNAL, "go")
        assert await claimed_ids(store, worker) == []
        await store.add_signal("r", "other", b"1")
        assert await claimed_ids(store, worker) == []
        await store.add_signal("r", "go", b"2")
        woken = await take(store, worker)
        assert woken.run.wait_name is None
        assert [s.n for s in (await store.read_inbox(woken.run.key))[1]] == [1, 2]

    async def test_a_signal_before_the_park_that_was_not_seen_is_not_lost(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        seen, _ = await store.read_inbox(attempt.run.key)
        await store.add_signal("r", "go", b"1")
        await attempt.settle(wait(seen))
        assert await claimed_ids(store, worker) == ["r"]

    async def test_a_signal_that_was_seen_does_not_wake_again(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await store.add_signal("r", "other", b"1")
        seen, _ = await store.read_inbox(attempt.run.key)
        await attempt.settle(wait(seen))
        assert await claimed_ids(store, worker) == []

    async def test_a_wait_that_consumes_and_waits_again_in_one_change_sleeps(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await store.add_signal("r", "go", b"1")
        await attempt.commit(taken(1), outcome=wait(1))
        assert await claimed_ids(store, worker) == []
        await store.add_signal("r", "go", b"2")
        assert await claimed_ids(store, worker) == ["r"]

    @pytest.mark.parametrize("signal_first", [True, False])
    async def test_no_wake_is_lost_in_a_race_of_signal_and_park(
        self, store: Store, place: Place, signal_first: bool
    ) -> None:
        other = await place.open()
        worker = await register(store)
        for number in range(12):
            run_id = f"r{number}"
            attempt = await start(store, worker, run_id)
            park = attempt.commit(outcome=wait(0))
            send = other.add_signal(run_id, "go", b"1")
            await asyncio.gather(*((send, park) if signal_first else (park, send)))
            assert await claimed_ids(store, worker) == [run_id]

    async def test_a_wait_with_a_timeout_is_claimable_at_its_time(self, store: Store, place: Place) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await attempt.settle(wait(0, until_us=place.clock.wall_us() + SECOND_US))
        assert await claimed_ids(store, worker) == []
        place.clock.advance(SECOND_US)
        assert await claimed_ids(store, worker) == ["r"]

    async def test_a_signal_does_not_wake_a_sleep_or_a_pause(self, store: Store, place: Place) -> None:
        worker = await register(store)
        for run_id, park in (
            ("sleeps", Park(reason=Reason.SLEEP, until_us=place.clock.wall_us() + 60 * SECOND_US)),
            ("pauses", Park(reason=Reason.PAUSED)),
        ):
            await (await start(store, worker, run_id)).settle(park)
            await store.add_signal(run_id, "go", b"1")
        assert await claimed_ids(store, worker) == []

    async def test_a_consumed_signal_leaves_the_inbox_with_its_entry(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        for n in range(3):
            await store.add_signal("r", "go", b"%d" % n)
        await attempt.commit(taken(2))
        assert [s.n for s in (await store.read_inbox(attempt.run.key))[1]] == [1, 3]
        assert [e.signal for e in await store.read_entries("r")] == [2]

    async def test_a_refused_change_consumes_no_signal(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await store.add_signal("r", "go", b"1")
        (answer,) = await store.commit([structs.replace(attempt.change(taken(1)), position=5)])
        assert isinstance(answer, RefusedChange)
        assert [s.n for s in (await store.read_inbox(attempt.run.key))[1]] == [1]

    async def test_a_consumed_signal_is_not_consumed_again(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await store.add_signal("r", "go", b"1")
        await attempt.commit(taken(1))
        before = await fingerprint(store, "r")
        second = step("go", kind=EntryKind.SIGNAL, occurrence=9, signal=1)
        (answer,) = await store.commit([attempt.change(second)])
        assert isinstance(answer, RefusedChange)
        assert await fingerprint(store, "r") == before

    async def test_superseding_an_entry_returns_its_signal_to_the_inbox(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        for n in range(3):
            await store.add_signal("r", "go", b"%d" % n)
        await attempt.commit(taken(1), step("between"), taken(2))
        await attempt.settle(Failed(failure=FAILURE))
        await store.update_run("r", lambda run, now: retry(run, now, supersede=(2, 3)))
        assert [s.n for s in (await store.read_inbox(attempt.run.key))[1]] == [2, 3]
        second = await take(store, worker)
        await second.commit(taken(2))
        assert [s.n for s in (await store.read_inbox(attempt.run.key))[1]] == [3]
        assert [e.status for e in second.claim.journal.entries] == [EntryStatus.OK]

    async def test_a_signal_to_a_running_run_shows_in_its_workers_asks(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        assert [ask.inbox_no for ask in await store.asks(worker)] == [0]
        await store.add_signal("r", "go", b"1")
        assert [(ask.run, ask.inbox_no) for ask in await store.asks(worker)] == [(attempt.run.key, 1)]
