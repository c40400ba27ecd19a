"""Promises about how an attempt ends by itself: each outcome, and what it leaves behind."""

from __future__ import annotations

from holdfast.model import (
    Call,
    Failed,
    Failure,
    FailureKind,
    Hold,
    Identity,
    Mismatch,
    Park,
    Reason,
    Release,
    Retry,
    Run,
    RunState,
    Succeeded,
)
from holdfast.store.protocol import Store
from holdfast.testing.conformance.claims import claimed_ids
from holdfast.testing.conformance.place import (
    FAILURE,
    LEASE_US,
    SECOND_US,
    Place,
    Promises,
    event_types,
    register,
    start,
    steps,
    take,
)


async def must_be_final(store: Store, place: Place, run: Run) -> None:
    """See that a run is at its end for good."""
    assert run.state.final
    assert run.finished_at_us == place.clock.wall_us()
    assert run.available_at_us is None
    assert run.step is None
    place.clock.advance(10 * LEASE_US)
    worker = await register(store, "later")
    assert await claimed_ids(store, worker) == []
    assert await store.claim(worker, (), 1, only=run.id) == []
    await store.sweep(100)
    assert await store.get_run(run.id) == run


class OutcomePromises(Promises):
    """What the store promises about the end of an attempt."""

    async def test_succeeded_keeps_the_result_for_good(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        big = b'"' + b"x" * 500_000 + b'"'
        run = await attempt.settle(Succeeded(result=big))
        assert (run.state, run.reason, run.result, run.failure) == (RunState.SUCCEEDED, None, big, None)
        assert (await event_types(store, "r"))[-1] == "run.succeeded"
        await must_be_final(store, place, run)

    async def test_failed_keeps_the_failure_with_its_causes(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        failure = Failure(
            kind=FailureKind.FATAL,
            type="ValueError",
            message="naïve",
            retry_after_s=1.5,
            unclassified=True,
            frames="agent.py:3 in fetch",
            cause=Failure(kind=FailureKind.TIMED_OUT, type="TimeoutError", message="", entries=(4,)),
            entries=(1, 2),
        )
        run = await attempt.settle(Failed(failure=failure))
        assert (run.state, run.failure, run.result) == (RunState.FAILED, failure, None)
        assert (await event_types(store, "r"))[-1] == "run.failed"
        await must_be_final(store, place, run)

    async def test_retry_queues_the_run_after_its_delay_and_counts_the_failure(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        run = await attempt.settle(Retry(failure=FAILURE, delay_us=5 * SECOND_US))
        assert (run.state, run.reason, run.failures) == (RunState.QUEUED, Reason.BACKOFF, 1)
        assert run.available_at_us == place.clock.wall_us() + 5 * SECOND_US
        place.clock.advance(5 * SECOND_US - 1)
        assert await claimed_ids(store, worker) == []
        place.clock.advance(1)
        again = await take(store, worker)
        assert (again.run.token, again.run.attempts, again.run.failures) == (2, 2, 1)

    async def test_retry_that_is_not_counted_counts_nothing(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        run = await attempt.settle(Retry(failure=FAILURE, delay_us=0, counted=False))
        assert (run.state, run.failures) == (RunState.QUEUED, 0)

    async def test_retry_supersedes_entries_in_the_same_change(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await attempt.commit(*steps(4))
        await attempt.settle(Retry(failure=FAILURE, delay_us=0, supersede=(2, 4)))
        assert [e.superseded for e in await store.read_entries("r")] == [False, True, False, True]
        assert [e.position for e in (await take(store, worker)).claim.journal.entries] == [1, 3]

    async def test_sleep_unloads_the_run_until_its_time(self, store: Store, place: Place) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        wake_us = place.clock.wall_us() + 3_600 * SECOND_US
        run = await attempt.settle(Park(reason=Reason.SLEEP, until_us=wake_us))
        assert (run.state, run.reason, run.available_at_us) == (RunState.WAITING, Reason.SLEEP, wake_us)
        assert run.failures == run.crashes == 0
        place.clock.advance(3_600 * SECOND_US)
        assert (await take(store, worker)).run.reason is None

    async def test_paused_and_parked_runs_wait_for_a_person(self, store: Store, place: Place) -> None:
        worker = await register(store)
        for run_id, reason in (("a", Reason.PAUSED), ("b", Reason.PARKED)):
            run = await (await start(store, worker, run_id)).settle(Park(reason=reason))
            assert (run.state, run.reason, run.available_at_us) == (RunState.WAITING, reason, None)
        place.clock.advance(100 * LEASE_US)
        assert await claimed_ids(store, await register(store, "later")) == []

    async def test_release_makes_the_run_claimable_at_once_and_counts_nothing(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(*steps(1))
        run = await attempt.settle(Release())
        assert (run.state, run.reason) == (RunState.QUEUED, Reason.DRAINED)
        assert (run.failures, run.crashes, run.crashes_alone, run.suspect) == (0, 0, 0, False)
        assert await claimed_ids(store, await register(store, "next")) == ["r"]

    async def test_hold_keeps_the_run_with_both_sides_of_the_mismatch(
        self, store: Store, place: Place
    ) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(*steps(1))
        mismatch = Mismatch(
            message="renamed",
            call=Call(identity=Identity(0, "", "load", None, 0), args_hash=b"\x00\xff"),
            entry=1,
        )
        failure = Failure(kind=FailureKind.MISMATCH, type="JournalMismatch", message="renamed")
        run = await attempt.settle(Hold(reason=Reason.MISMATCH, failure=failure, mismatch=mismatch))
        assert (run.state, run.reason) == (RunState.WAITING, Reason.MISMATCH)
        assert (run.failure, run.mismatch) == (failure, mismatch)
        place.clock.advance(100 * LEASE_US)
        assert await claimed_ids(store, await register(store, "later")) == []

    async def test_an_attempts_own_end_frees_its_worker(self, store: Store) -> None:
        worker = await register(store)
        for run_id, outcome in (
            ("a", Succeeded(result=b"1")),
            ("b", Failed(failure=FAILURE)),
            ("c", Retry(failure=FAILURE, delay_us=SECOND_US)),
            ("d", Park(reason=Reason.SIGNAL, wait_name="go")),
            ("e", Release()),
            ("f", Hold(reason=Reason.CHECKPOINT_LOST, failure=FAILURE)),
        ):
            await (await start(store, worker, run_id)).settle(outcome)
        (record,) = await store.list_workers()
        assert record.runs == 0
