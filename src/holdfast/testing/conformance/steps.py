"""Promises about what lives only as long as a step: places of long ones, streamed text; and about intents."""

from __future__ import annotations

import pytest
from msgspec import structs

from holdfast.errors import RunNotFound
from holdfast.model import (
    Beside,
    Committed,
    CursorOver,
    EntryStatus,
    Failed,
    Identity,
    NewCursor,
    NewOutput,
    Park,
    Reason,
    RefusedChange,
    Release,
    Resolution,
    ResolutionKind,
    Succeeded,
)
from holdfast.rules.transitions import cancel, retry
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import (
    FAILURE,
    SECOND_US,
    SERVES,
    Attempt,
    Place,
    Promises,
    commit_one,
    event_types,
    new_run,
    register,
    start,
    step,
    take,
)


def identity(name: str = "crawl", key: str | None = None) -> Identity:
    """A call."""
    return Identity(0, "", name, key, 0)


def at(cursor: bytes, name: str = "crawl", key: str | None = None) -> NewCursor:
    """The place of a call."""
    return NewCursor(identity=identity(name, key), args_hash=b"a", cursor=cursor)


def said(text: str, start: int = 0) -> NewOutput:
    """A piece of streamed text."""
    return NewOutput(identity=identity(), start=start, text=text)


async def commit(attempt: Attempt, *beside: Beside) -> Committed | RefusedChange:
    """Commit a Change with nothing but these."""
    return await commit_one(attempt.store, structs.replace(attempt.change(), beside=beside))


class StepPromises(Promises):
    """What the store promises about long steps and effects."""

    async def test_the_newest_cursor_of_each_call_is_kept_and_handed_to_the_next_attempt(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        assert attempt.claim.journal.cursors == ()
        await attempt.commit(step())
        before = await store.get_run("r")
        await commit(attempt, at(b"1"), at(b'"x"', key="k"))
        place.clock.advance(SECOND_US)
        assert isinstance(await commit(attempt, at(b"2")), Committed)
        assert (await store.get_run("r")).event_no == before.event_no
        found = await store.read_cursors("r")
        assert [(one.identity.key, one.cursor, one.position) for one in found] == [
            ("k", b'"x"', 1),
            (None, b"2", 1),
        ]
        assert [one.args_hash for one in found] == [b"a", b"a"]
        assert found[1].at_us == found[0].at_us + SECOND_US
        await attempt.settle(Release())
        assert (await take(store, worker)).claim.journal.cursors == tuple(found)

    async def test_a_cursor_that_moves_is_progress_and_one_that_does_not_is_none(self, store: Store) -> None:
        await store.create_run(new_run())
        for round in range(5):  # far over what a run may crash that does not get on
            worker = await register(store)
            await commit(await take(store, worker), at(b"%d" % round))
            await store.retire_worker(worker, counted=True)
        worker = await register(store)
        for _ in range(2):
            await commit(await take(store, worker), at(b"4"))
            await store.retire_worker(worker, counted=True)
            worker = await register(store)
        await take(store, worker)
        await store.retire_worker(worker, counted=True)
        assert await store.claim(await register(store), SERVES, 1, only="r") == []
        assert (await store.get_run("r")).reason is Reason.POISON

    async def test_a_cursor_is_forgotten_in_the_commit_of_its_outcome(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await commit(attempt, at(b"1"), at(b"2", key="k"))
        change = structs.replace(attempt.change(step()), beside=(CursorOver(identity=identity()),))
        assert isinstance(await commit_one(store, change), Committed)
        assert [one.identity.key for one in await store.read_cursors("r")] == ["k"]

    async def test_the_cursors_of_a_failed_run_stay_for_its_retry_and_of_no_other_final_one(
        self, store: Store
    ) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await commit(attempt, at(b"1"))
        await attempt.settle(Failed(failure=FAILURE))
        await store.update_run("r", retry)
        attempt = await take(store, worker)
        assert [one.cursor for one in attempt.claim.journal.cursors] == [b"1"]
        await attempt.settle(Succeeded(result=b"1"))
        assert await store.read_cursors("r") == []
        attempt = await start(store, worker, "c")
        await commit(attempt, at(b"1"))
        await store.update_run("c", cancel)
        assert await store.read_cursors("c") == []

    async def test_a_run_keeps_its_newest_thousand_cursors(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await commit(attempt, *(at(b"%d" % n, key=f"{n:04}") for n in range(1003)))
        found = await store.read_cursors("r")
        assert [found[0].cursor, found[-1].cursor, len(found)] == [b"3", b"1002", 1000]

    async def test_a_fenced_out_attempt_records_neither_cursor_nor_text(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await commit(attempt, at(b"1"), said("a"))
        await store.retire_worker(worker, counted=True)
        newer = await take(store, await register(store, "other"))
        assert isinstance(await commit(attempt, at(b"2")), RefusedChange)
        assert isinstance(await commit(attempt, said("b")), RefusedChange)
        assert [one.cursor for one in await store.read_cursors("r")] == [b"1"]
        assert [one.text for one in await store.read_output("r", 0)] == ["a"]
        assert isinstance(await commit(newer, at(b"3")), Committed)

    async def test_text_is_read_in_order_by_whoever_comes_and_is_in_no_feed(
        self, store: Store, place: Place
    ) -> None:
        attempt = await start(store, await register(store))
        before = await event_types(store, "r")
        await commit(attempt, said("to "), said("be ", 3))
        other = await place.open()
        first = await other.read_output("r", 0)
        assert [(one.step, one.start, one.text) for one in first] == [
            ("crawl", 0, "to "),
            ("crawl", 3, "be "),
        ]
        await commit(attempt, said("or", 6))
        rest = await other.read_output("r", first[-1].n)
        assert [one.text for one in rest] == ["or"]
        assert rest[0].n > first[-1].n
        assert await event_types(store, "r") == before

    async def test_of_text_a_stretch_is_kept_while_the_run_is_executed(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await commit(attempt, *(said("x", n) for n in range(300)))
        kept = await store.read_output("r", 0)
        assert [kept[0].start, kept[-1].start, len(kept)] == [44, 299, 256]
        await attempt.settle(Park(reason=Reason.SIGNAL, wait_name="go"))
        assert await store.read_output("r", 0) == []
        other = await start(store, worker, "other")
        await commit(other, said("again"))
        (again,) = await store.read_output("other", 0)
        assert again.n > kept[-1].n

    async def test_a_run_that_is_not_there_has_neither(self, store: Store) -> None:
        with pytest.raises(RunNotFound):
            await store.read_cursors("nobody")
        with pytest.raises(RunNotFound):
            await store.read_output("nobody", 0)

    async def test_an_intent_is_an_entry_that_counts_as_no_step(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(step(status=EntryStatus.INTENDED))
        assert (await store.get_run("r")).steps == 0
        await attempt.commit(step())
        assert (await store.get_run("r")).steps == 1
        assert (await event_types(store, "r"))[-2:] == ["step.intended", "step.finished"]

    async def test_a_verdict_is_handed_to_the_next_attempt(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await attempt.settle(Failed(failure=FAILURE))
        given = Resolution(kind=ResolutionKind.DONE, position=1, payload=b'{"a":1}', reopened=(1, 2), after=3)
        await store.update_run("r", lambda run, now_us: retry(run, now_us, resolution=given))
        assert (await take(store, worker)).claim.journal.resolutions == (given,)
