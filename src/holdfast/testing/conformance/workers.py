"""Promises about workers, queues, and what a sweep does for runs that no worker can help."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from msgspec.structs import replace

from holdfast.heart import WorkerLock
from holdfast.model import (
    FailureKind,
    Level,
    NewRun,
    NewWorker,
    Park,
    QueueRecord,
    Reason,
    RefusedChange,
    Release,
    RunState,
    Sample,
    Served,
    Succeeded,
)
from holdfast.rules.transitions import cancel
from holdfast.store.protocol import Store
from holdfast.testing.conformance.claims import claimed_ids
from holdfast.testing.conformance.place import (
    DAY_US,
    LEASE_US,
    SECOND_US,
    SERVES,
    Place,
    Promises,
    commit_one,
    event_types,
    fingerprint,
    new_run,
    register,
    start,
    step,
    take,
)

NEWER = (Served(agent="refactor", version="2", continues=("1", "0")),)


@contextmanager
def locked(store: Store) -> Generator[WorkerLock, None, None]:
    """The lock of a worker of this process, gone afterwards. A store that has no place for locks has nothing to promise
    of them."""
    if store.lock_folder is None:
        pytest.skip("this store has no folder for the locks of workers")
    lock = WorkerLock(store.lock_folder)
    try:
        yield lock
    finally:
        lock.close()
        lock.path.unlink(missing_ok=True)


async def sweep_all(store: Store) -> int:
    """Sweep until nothing is left to do, and return how many rows changed."""
    changed = 0
    for _ in range(50):
        now = await store.sweep(100)
        if not now:
            return changed
        changed += now
    raise AssertionError("a sweep never comes to its end")


class WorkerPromises(Promises):
    """What the store promises about workers, queues and sweeps."""

    async def test_a_registered_worker_is_listed_with_all_it_said(self, store: Store, place: Place) -> None:
        serves = (Served(agent="x", version="1"), Served(agent="y", version="2"))
        new = NewWorker(name="näme", host="h", pid=77, capacity=3, serves=serves, apart=serves[1:])
        key = await store.register_worker(new, LEASE_US)
        await store.create_run(new_run("a", agent="x"))
        await store.claim(key, serves, 1)
        (record,) = await (await place.open()).list_workers()
        assert (record.key, record.name, record.host, record.pid, record.capacity) == (
            key,
            "näme",
            "h",
            77,
            3,
        )
        assert set(record.serves) == set(serves)
        assert record.apart == serves[1:]
        assert (record.alive, record.draining, record.runs) == (True, False, 1)
        assert record.started_at_us == place.clock.wall_us()

    async def test_a_worker_that_let_go_of_its_lock_is_dead_before_its_lease_ends(
        self, store: Store, place: Place
    ) -> None:
        with locked(store) as lock:
            first, second = await register(store, lock=lock.path), await register(store)
            await start(store, first)
            other = await place.open()
            assert await other.claim(second, SERVES, 1) == []
            lock.forget()  # as the kernel does for who dies
            assert [each.alive for each in await other.list_workers()] == [False, True]
            (taken,) = await other.claim(second, SERVES, 1)
            assert (taken.run.worker, taken.run.token, taken.run.crashes) == (second, 2, 1)
            await other.sweep(100)
            assert [each.key for each in await other.list_workers()] == [second]
            assert not lock.path.exists()

    async def test_a_held_lock_keeps_no_expired_lease_alive(self, store: Store, place: Place) -> None:
        with locked(store) as lock:
            first, second = await register(store, lock=lock.path), await register(store)
            await start(store, first)
            place.clock.advance(LEASE_US + 1)
            await store.claim(second, SERVES, 1)
            assert (await store.get_run("r")).worker != first

    async def test_two_workers_of_one_name_are_two(self, store: Store) -> None:
        first, second = await register(store, "twin"), await register(store, "twin")
        assert first != second
        await start(store, first)
        await store.retire_worker(second)
        assert await claimed_ids(store, await register(store, "other")) == []
        assert store.renew_lease(first, LEASE_US, None)
        assert not store.renew_lease(second, LEASE_US, None)

    async def test_a_renewed_lease_holds_from_the_renewal(self, store: Store, place: Place) -> None:
        worker = await register(store)
        await start(store, worker)
        for _ in range(5):
            place.clock.advance(LEASE_US - SECOND_US)
            assert store.renew_lease(worker, LEASE_US, None)
        assert await claimed_ids(store, await register(store, "other")) == []

    async def test_a_worker_is_listed_with_what_is_left_of_its_lease(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store)
        place.clock.advance(3 * SECOND_US)
        assert [one.lease_left_us for one in await store.list_workers()] == [LEASE_US - 3 * SECOND_US]
        assert store.renew_lease(worker, LEASE_US, None)
        assert [one.lease_left_us for one in await store.list_workers()] == [LEASE_US]

    async def test_renewal_records_the_sample(self, store: Store, place: Place) -> None:
        worker = await register(store)
        sample = Sample(
            cpu_percent=12.5, memory_mb=300.25, disk_mb=9.0, processes=4, level=Level.WARNING, shared=False
        )
        place.clock.advance(SECOND_US)
        assert store.renew_lease(worker, LEASE_US, sample)
        (record,) = await store.list_workers()
        assert record.sample is not None
        assert replace(record.sample, at_us=0) == sample
        assert store.renew_lease(worker, LEASE_US, None)

    async def test_renewal_works_from_a_thread_of_its_own_while_the_store_is_busy(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        answers: list[bool | BaseException] = []

        def renew() -> None:
            try:
                for _ in range(20):
                    answers.append(store.renew_lease(worker, LEASE_US, None))
            except BaseException as error:  # noqa: BLE001 - what happened in the thread is shown by the test
                answers.append(error)

        thread = threading.Thread(target=renew)
        thread.start()
        for number in range(40):
            await attempt.commit(step(occurrence=number))
        thread.join()
        assert answers == [True] * 20

    async def test_renewal_of_a_retired_generation_answers_false(self, store: Store) -> None:
        worker = await register(store)
        await start(store, worker)
        await store.retire_worker(worker)
        assert store.renew_lease(worker, LEASE_US, None) is False
        assert store.renew_lease(987_654, LEASE_US, None) is False
        assert await claimed_ids(store, await register(store, "other")) == ["r"]

    async def test_retiring_twice_is_retiring_once(self, store: Store) -> None:
        worker = await register(store)
        await start(store, worker)
        await store.retire_worker(worker)
        await store.retire_worker(worker, counted=True)
        (claim,) = await store.claim(await register(store, "other"), SERVES, 1)
        assert claim.run.crashes == 0

    async def test_a_draining_worker_is_alive_and_keeps_its_runs(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await store.mark_draining(worker)
        (record,) = await store.list_workers()
        assert (record.alive, record.draining, record.runs) == (True, True, 1)
        await attempt.commit(step())
        assert store.renew_lease(worker, LEASE_US, None)
        await store.create_run(new_run("next"))
        assert await claimed_ids(store, worker) == []
        assert await claimed_ids(store, await register(store, "other")) == ["next"]

    async def test_a_worker_hears_that_it_is_to_drain_and_no_other_does(
        self, store: Store, place: Place
    ) -> None:
        asked, other = await register(store), await register(store)  # of one name
        assert [await store.is_draining(one) for one in (asked, other)] == [False, False]
        await (await place.open()).mark_draining(asked)
        assert [await store.is_draining(one) for one in (asked, other)] == [True, False]
        await store.mark_draining(asked)
        assert await store.is_draining(asked)
        assert await store.is_draining(987_654) is False

    async def test_a_dead_worker_is_listed_while_it_holds_runs_and_forgotten_after(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store, "dies")
        await start(store, worker)
        place.clock.advance(LEASE_US + SECOND_US)
        (record,) = await store.list_workers()
        assert (record.key, record.alive, record.runs) == (worker, False, 1)
        await sweep_all(store)
        assert [r.key for r in await store.list_workers()] == [worker]
        heir = await register(store, "heir")
        await take(store, heir)
        assert [r.key for r in await store.list_workers()] == [heir]
        await sweep_all(store)
        assert store.renew_lease(worker, LEASE_US, None) is False

    async def test_asks_show_what_became_of_a_workers_runs(self, store: Store, place: Place) -> None:
        worker = await register(store, "stalls")
        kept, gone, stolen = [await start(store, worker, run_id) for run_id in ("kept", "gone", "stolen")]
        await store.update_run("gone", cancel)
        await kept.commit(step())
        asks = {ask.run: ask for ask in await store.asks(worker)}
        ask = asks[kept.run.key]
        assert (ask.state, ask.token, ask.position) == (RunState.RUNNING, kept.run.token, 1)
        assert asks[gone.run.key].state is RunState.CANCELLED
        assert asks[gone.run.key].token > gone.run.token
        place.clock.advance(LEASE_US + SECOND_US)
        await take(store, await register(store, "heir"), "stolen")
        assert stolen.run.key not in {ask.run for ask in await store.asks(worker)}
        assert await store.asks(987_654) == []

    # --- sweep --------------------------------------------------------------------------------------------------

    async def test_sweep_fails_runs_past_their_deadline_whatever_they_do(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store)

        def late(run_id: str) -> NewRun:
            return dataclasses.replace(new_run(run_id), deadline_us=10 * SECOND_US)

        await store.create_run(dataclasses.replace(late("queued"), delay_us=DAY_US))
        running = await start(store, worker, new=late("running"), run_id="running")
        waiting = await start(store, worker, new=late("waiting"), run_id="waiting")
        await waiting.settle(Park(reason=Reason.SIGNAL, wait_name="go"))
        place.clock.advance(10 * SECOND_US - 1)
        await sweep_all(store)
        assert (await store.get_run("queued")).state is RunState.QUEUED
        place.clock.advance(1)
        assert await sweep_all(store) == 3
        for run_id in ("queued", "running", "waiting"):
            run = await store.get_run(run_id)
            assert run.state is RunState.FAILED
            assert run.failure is not None
            assert run.failure.kind is FailureKind.TIMED_OUT
            assert (await event_types(store, run_id))[-1] == "run.failed"
        assert isinstance(await commit_one(store, running.change(step())), RefusedChange)

    async def test_sweep_does_at_most_limit_and_comes_to_an_end(self, store: Store, place: Place) -> None:
        for number in range(7):
            await store.create_run(dataclasses.replace(new_run(f"r{number}"), deadline_us=SECOND_US))
        place.clock.advance(SECOND_US)
        assert await store.sweep(3) == 3
        assert await sweep_all(store) == 4

    async def test_sweep_leaves_healthy_runs_alone(self, store: Store, place: Place) -> None:
        worker = await register(store)
        attempt = await start(store, worker, "runs")
        await store.create_run(new_run("queued"))
        await (await start(store, worker, "waits")).settle(Park(reason=Reason.PAUSED))
        await (await start(store, worker, "done")).settle(Succeeded(result=b"1"))
        before = [await fingerprint(store, run_id) for run_id in ("runs", "queued", "waits", "done")]
        place.clock.advance(SECOND_US)
        assert await sweep_all(store) == 0
        assert [await fingerprint(store, run_id) for run_id in ("runs", "queued", "waits", "done")] == before
        await attempt.commit(step())

    async def test_a_run_whose_version_nobody_serves_waits_for_code_and_comes_back(
        self, store: Store, place: Place
    ) -> None:
        await store.create_run(new_run("new", version="2"))
        await store.create_run(new_run("old", version="1"))
        await register(store, "has version 1")
        place.clock.advance(SECOND_US)
        await sweep_all(store)
        waiting = await store.get_run("new")
        assert (waiting.state, waiting.reason) == (RunState.WAITING, Reason.NEEDS_CODE)
        assert (await store.get_run("old")).state is RunState.QUEUED
        place.clock.advance(SECOND_US)
        await sweep_all(store)
        assert await event_types(store, "new") == ["run.queued", "run.waiting"]
        serves = (Served(agent="refactor", version="2"),)
        worker = await register(store, "has version 2", serves=serves)
        place.clock.advance(SECOND_US)
        await sweep_all(store)
        assert (await store.get_run("new")).state is RunState.QUEUED
        assert [claim.run.id for claim in await store.claim(worker, serves, 5)] == ["new"]

    async def test_a_dead_worker_serves_no_version(self, store: Store, place: Place) -> None:
        await register(store, "dies", serves=(Served(agent="refactor", version="2"),))
        place.clock.advance(LEASE_US + SECOND_US)
        await register(store, "lives")
        await store.create_run(new_run("new", version="2"))
        place.clock.advance(SECOND_US)
        await sweep_all(store)
        assert (await store.get_run("new")).reason is Reason.NEEDS_CODE

    async def test_a_suspect_whose_version_nobody_serves_waits_for_code_too(
        self, store: Store, place: Place
    ) -> None:
        await start(store, await register(store, "dies"))
        place.clock.advance(LEASE_US + SECOND_US)
        again = await take(store, await register(store, "heir"))
        assert (await again.settle(Release())).suspect
        place.clock.advance(LEASE_US + SECOND_US)
        await register(store, "serves another", serves=(Served(agent="refactor", version="2"),))
        await sweep_all(store)
        assert (await store.get_run("r")).reason is Reason.NEEDS_CODE

    async def test_without_any_live_worker_no_run_is_said_to_need_code(
        self, store: Store, place: Place
    ) -> None:
        await store.create_run(new_run("r"))
        place.clock.advance(SECOND_US)
        await sweep_all(store)
        assert (await store.get_run("r")).state is RunState.QUEUED

    async def test_a_worker_that_registers_brings_the_code_at_once(self, store: Store, place: Place) -> None:
        await store.create_run(new_run("new", version="2"))
        await register(store, "has version 1")
        place.clock.advance(SECOND_US)
        await sweep_all(store)
        serves = (Served(agent="refactor", version="2"),)
        worker = await register(store, "has version 2", serves=serves)
        assert [claim.run.id for claim in await store.claim(worker, serves, 5)] == ["new"]

    # --- versions side by side ----------------------------------------------------------------------------------

    async def test_a_newer_version_continues_the_runs_of_an_older_one_that_no_worker_has_any_more(
        self, store: Store, place: Place
    ) -> None:
        older = await register(store, "older")
        await (await start(store, older, "recorded")).commit(step())
        await store.create_run(new_run("queued"))
        newer = await register(store, "newer", serves=NEWER)
        place.clock.advance(SECOND_US)
        await sweep_all(store)
        assert await store.claim(newer, NEWER, 5) == [], "a run stays with its version while a worker has it"
        await store.mark_draining(older)
        assert await store.claim(newer, NEWER, 5) == [], "nor is it taken from one that drains"
        await store.retire_worker(older, counted=False)
        claims = {claim.run.id: claim for claim in await store.claim(newer, NEWER, 5)}
        assert {id: claim.run.version for id, claim in claims.items()} == {"recorded": "2", "queued": "2"}
        assert len(claims["recorded"].journal.entries) == 1, "what is recorded is kept"
        assert (await store.get_run("queued")).version == "2"
        events = await store.read_events("queued", 0, 10)
        running = next(event for event in events if event.type == "run.running")
        assert b'"version":"2","continues":"1"' in running.payload

    async def test_a_run_that_a_killed_worker_of_an_older_version_held_is_continued_too(
        self, store: Store, place: Place
    ) -> None:
        await start(store, await register(store, "older"))
        newer = await register(store, "newer", serves=NEWER)
        place.clock.advance(LEASE_US + SECOND_US)
        store.renew_lease(newer, 2 * LEASE_US, None)
        (claim,) = await store.claim(newer, NEWER, 5)
        assert (claim.run.version, claim.run.crashes) == ("2", 1)

    async def test_a_run_that_waits_for_code_is_continued_by_a_newer_version(
        self, store: Store, place: Place
    ) -> None:
        await store.create_run(new_run("old"))
        await register(store, "of another", serves=(Served(agent="other", version="1"),))
        place.clock.advance(SECOND_US)
        await sweep_all(store)
        assert (await store.get_run("old")).reason is Reason.NEEDS_CODE
        newer = await register(store, "newer", serves=NEWER)
        assert [claim.run.version for claim in await store.claim(newer, NEWER, 5)] == ["2"]

    async def test_a_sweep_does_not_miss_the_code_of_a_run_that_a_newer_version_continues(
        self, store: Store, place: Place
    ) -> None:
        await register(store, "newer", serves=NEWER)
        await store.create_run(new_run("old"))
        place.clock.advance(SECOND_US)
        await sweep_all(store)
        assert (await store.get_run("old")).state is RunState.QUEUED

    async def test_a_version_that_continues_no_other_leaves_its_runs_alone(
        self, store: Store, place: Place
    ) -> None:
        serves = (Served(agent="refactor", version="2"),)
        newer = await register(store, "newer", serves=serves)
        await store.create_run(new_run("old"))
        assert await store.claim(newer, serves, 5) == []

    async def test_what_a_worker_continues_is_listed(self, store: Store) -> None:
        await register(store, "newer", serves=NEWER)
        (listed,) = await store.list_workers()
        assert listed.serves == NEWER

    # --- queues -------------------------------------------------------------------------------------------------

    async def test_queues_are_listed_with_limits_and_counts(self, store: Store) -> None:
        worker = await register(store)
        await store.limit_queue("narrow", 3)
        await store.limit_queue("*", 50)
        await store.create_run(dataclasses.replace(new_run("a"), queue="narrow"))
        await store.create_run(dataclasses.replace(new_run("b"), queue="narrow"))
        await take(store, worker, "b")
        await store.create_run(new_run("c"))
        queues = {queue.name: queue for queue in await store.list_queues()}
        assert queues["narrow"] == QueueRecord(name="narrow", limit=3, queued=1, running=1)
        assert queues["default"] == QueueRecord(name="default", limit=None, queued=1, running=0)
        assert queues["*"].limit == 50
        await store.limit_queue("narrow", None)
        assert {queue.name: queue.limit for queue in await store.list_queues()}["narrow"] is None
