"""Promises about what an attempt goes on from: checkpoints, the journal of a claim, resolutions."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from holdfast.errors import CheckpointNotFound, StoreCorrupt
from holdfast.model import (
    SETUP,
    Call,
    Decision,
    EntryKind,
    EntryStatus,
    Failed,
    Identity,
    Release,
    Resolution,
    ResolutionKind,
    Run,
)
from holdfast.rules.transitions import retry
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import (
    FAILURE,
    SECOND_US,
    Attempt,
    Place,
    Promises,
    event_types,
    register,
    save,
    start,
    step,
    steps,
    take,
)


async def again(store: Store, attempt: Attempt) -> Attempt:
    """Let the attempt be released and the run be claimed anew."""
    await attempt.settle(Release())
    return await take(store, await register(store, "again"))


async def save_many(
    attempt: Attempt, count: int, *, keep: int = 5, names: dict[int, str] | None = None
) -> None:
    """Record a step and a checkpoint, so many times: checkpoint n opens segment n and holds n."""
    for n in range(1, count + 1):
        name = (names or {}).get(n)
        new = save(n, name=name, state=b'{"n":%d}' % n, keep=keep)
        await attempt.commit(step(segment=n - 1, payload=b"%d" % n), checkpoint=new)


class JournalPromises(Promises):
    """What the store promises about checkpoints and journals."""

    async def test_checkpoints_count_up_and_come_back_whole(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        big = b'{"s":"' + b"x" * 2_000_000 + b'"}'
        await attempt.commit(checkpoint=save(1, state=b'{"a":1}'))
        place.clock.advance(SECOND_US)
        await attempt.commit(checkpoint=replace(save(4, name="collected", state=big), now_us=77))
        listed = await store.list_checkpoints("r")
        assert [(c.n, c.segment, c.name, c.good, c.state) for c in listed] == [
            (1, 1, None, True, None),
            (2, 4, "collected", True, None),
        ]
        assert listed[1].at_us == listed[0].at_us + SECOND_US
        assert all(c.size_bytes > 0 for c in listed)
        newest = await store.load_checkpoint("r")
        assert (newest.n, newest.segment, newest.state, newest.good) == (2, 4, big, True)
        assert newest.now_us == 77
        assert (await store.load_checkpoint("r", 1)).state == b'{"a":1}'
        assert (await store.get_run("r")).checkpoint_n == 2
        assert (await event_types(store, "r")).count("checkpoint.saved") == 2

    async def test_the_newest_and_every_named_checkpoint_are_kept(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await save_many(attempt, 12, keep=3, names={2: "collected", 5: "cleaned"})
        kept = [(c.n, c.name) for c in await store.list_checkpoints("r")]
        assert kept == [(2, "collected"), (5, "cleaned"), (10, None), (11, None), (12, None)]

    async def test_numbers_of_checkpoints_pass_ten_and_a_hundred_in_order(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await save_many(attempt, 102, keep=4)
        assert [c.n for c in await store.list_checkpoints("r")] == [99, 100, 101, 102]
        assert (await store.load_checkpoint("r")).state == b'{"n":102}'

    async def test_a_missing_checkpoint_is_named(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        with pytest.raises(CheckpointNotFound, match="r"):
            await store.load_checkpoint("r")
        await attempt.commit(checkpoint=save())
        with pytest.raises(CheckpointNotFound, match="9"):
            await store.load_checkpoint("r", 9)

    async def test_journal_of_a_claim_is_setup_and_live_tail_only(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(*steps(2, segment=SETUP))
        await save_many(attempt, 30, keep=5)
        await attempt.commit(*steps(3, segment=30))
        journal = (await again(store, attempt)).claim.journal
        assert journal.checkpoint is not None
        assert (journal.checkpoint.n, journal.checkpoint.state, journal.base_segment) == (30, b'{"n":30}', 30)
        assert [e.identity.segment for e in journal.entries] == [SETUP, SETUP, 30, 30, 30]
        assert [e.position for e in journal.entries] == [1, 2, 33, 34, 35]
        assert (journal.corrupt, journal.lost) == ((), False)

    async def test_once_outcomes_are_read_by_key_and_not_with_the_journal(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(
            step(),
            step("pay", kind=EntryKind.ONCE, key="k", segment=SETUP),
            step("pay", kind=EntryKind.ONCE, key="l"),
        )
        second = await again(store, attempt)
        assert [e.position for e in second.claim.journal.entries] == [1]
        assert second.run.position == 3
        assert await store.get_once(attempt.run.key, "k") is not None

    async def test_journal_holds_tries_and_marks_but_nothing_superseded(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await attempt.commit(
            step(),
            step(status=EntryStatus.UNSEEN),
            step(occurrence=1, status=EntryStatus.RETRIED),
            step(occurrence=1, status=EntryStatus.FAILED),
        )
        await attempt.settle(Failed(failure=FAILURE))
        await store.update_run("r", lambda run, now: retry(run, now, supersede=(3, 4)))
        entries = (await take(store, worker)).claim.journal.entries
        assert [(e.position, e.status) for e in entries] == [(1, EntryStatus.OK), (2, EntryStatus.UNSEEN)]
        assert len(await store.read_entries("r")) == 4

    async def test_a_superseded_call_may_be_recorded_again(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await attempt.commit(step(status=EntryStatus.FAILED))
        await attempt.settle(Failed(failure=FAILURE))
        await store.update_run("r", lambda run, now: retry(run, now, supersede=(1,)))
        second = await take(store, worker)
        assert (await second.commit(step(payload=b'"well"'))).position == 2
        journal = (await again(store, second)).claim.journal
        assert [(e.position, e.payload) for e in journal.entries] == [(2, b'"well"')]

    async def test_corrupt_newest_checkpoint_gives_the_one_before_and_an_event(
        self, store: Store, place: Place
    ) -> None:
        attempt = await start(store, await register(store))
        await save_many(attempt, 3)
        await attempt.commit(step(segment=3, payload=b"4"))
        await place.damage_checkpoint(attempt.run.key, 3)
        second = await again(store, attempt)
        journal = second.claim.journal
        assert journal.checkpoint is not None
        assert (journal.checkpoint.n, journal.checkpoint.state) == (2, b'{"n":2}')
        assert journal.corrupt == (3,)
        assert [e.payload for e in journal.entries] == [b"3", b"4"]
        assert "checkpoint.corrupt" in await event_types(store, "r")
        assert [c.good for c in await store.list_checkpoints("r")] == [True, True, False]
        assert (await store.load_checkpoint("r")).n == 2
        with pytest.raises(StoreCorrupt, match="3"):
            await store.load_checkpoint("r", 3)
        await second.commit(checkpoint=save(4, state=b'{"n":4}'))
        assert (await store.load_checkpoint("r")).state == b'{"n":4}'

    async def test_corrupt_first_checkpoint_leads_back_to_the_start(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(*steps(2, segment=SETUP))
        await save_many(attempt, 1)
        await place.damage_checkpoint(attempt.run.key, 1)
        journal = (await again(store, attempt)).claim.journal
        assert (journal.checkpoint, journal.corrupt, journal.lost) == (None, (1,), False)
        assert [e.position for e in journal.entries] == [1, 2, 3]

    async def test_with_every_checkpoint_corrupt_a_long_run_is_lost_and_says_so(
        self, store: Store, place: Place
    ) -> None:
        attempt = await start(store, await register(store))
        await save_many(attempt, 20, keep=2)
        for checkpoint in await store.list_checkpoints("r"):
            await place.damage_checkpoint(attempt.run.key, checkpoint.n)
        journal = (await again(store, attempt)).claim.journal
        assert (journal.checkpoint, journal.lost) == (None, True)
        assert set(journal.corrupt) == {19, 20}
        with pytest.raises(StoreCorrupt):
            await store.load_checkpoint("r")

    async def test_falling_back_from_a_corrupt_checkpoint_repeats_nothing(
        self, store: Store, place: Place
    ) -> None:
        attempt = await start(store, await register(store))
        await save_many(attempt, 20, keep=3)
        for n in (20, 19):
            await place.damage_checkpoint(attempt.run.key, n)
        journal = (await again(store, attempt)).claim.journal
        assert journal.checkpoint is not None
        assert journal.checkpoint.n == 18
        assert set(journal.corrupt) == {19, 20}
        assert [e.payload for e in journal.entries] == [b"19", b"20"]

    async def test_a_state_saved_late_keeps_what_its_segment_recorded_before(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(step("setup", segment=SETUP), step("a", segment=0))
        await attempt.commit(checkpoint=save(1))
        await attempt.commit(step("b", segment=1), step("c", segment=2))
        await attempt.commit(checkpoint=save(2))
        journal = (await again(store, attempt)).claim.journal
        assert journal.base_segment == 2
        assert [e.identity.name for e in journal.entries] == ["setup", "c"]

    async def test_an_operators_resolutions_come_with_the_journal(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await attempt.commit(*steps(3))
        call = Call(identity=Identity(0, "", "load", "k", 0), args_hash=b"\x01")
        given = [
            Resolution(kind=ResolutionKind.ACCEPT, position=1, call=call),
            Resolution(kind=ResolutionKind.INSERT, position=2, call=call),
        ]
        for resolution in given:
            await attempt.settle(Failed(failure=FAILURE))

            def resolve(run: Run, now_us: int, answer: Resolution = resolution) -> Decision:
                return retry(run, now_us, resolution=answer)

            await store.update_run("r", resolve)
            attempt = await take(store, worker)
        assert attempt.claim.journal.resolutions == tuple(given)
        assert [e.superseded for e in await store.read_entries("r")] == [False] * 3

    async def test_journal_of_a_long_run_is_as_short_as_that_of_a_young_one(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        for n in range(1, 41):
            await attempt.commit(*steps(50, segment=n - 1), checkpoint=save(n, keep=2))
        assert (await again(store, attempt)).claim.journal.entries == ()
        assert (await store.get_run("r")).position == 2_000
