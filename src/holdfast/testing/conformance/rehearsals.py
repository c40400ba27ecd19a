"""Promises about looking at a journal without claiming the run."""

from __future__ import annotations

import pytest

from holdfast.errors import RunNotFound
from holdfast.model import SETUP, Release, Run
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import (
    Attempt,
    Place,
    Promises,
    fingerprint,
    register,
    save,
    start,
    step,
    take,
)


async def saved(store: Store) -> Attempt:
    """A run with a setup, two checkpoints, and a tail."""
    attempt = await start(store, await register(store))
    await attempt.commit(step("prepare", segment=SETUP))
    await attempt.commit(step("one", segment=0), checkpoint=save(1, state=b'{"n":1}'))
    await attempt.commit(step("two", segment=1), checkpoint=save(2, state=b'{"n":2}'))
    await attempt.commit(step("three", segment=2))
    return attempt


async def released(attempt: Attempt) -> Run:
    """The run after its attempt has let go of it."""
    return await attempt.settle(Release())


class RehearsalPromises(Promises):
    """What the store promises to those who only try new code on a run."""

    async def test_a_loaded_journal_is_the_one_that_the_next_claim_gets(self, store: Store) -> None:
        await released(await saved(store))
        loaded = await store.load_journal("r")
        assert [entry.identity.name for entry in loaded.entries] == ["prepare", "three"]
        assert loaded == (await take(store, await register(store, "again"))).claim.journal

    async def test_a_whole_journal_reaches_back_to_the_start_whatever_was_saved(self, store: Store) -> None:
        attempt = await saved(store)
        for segment in range(3, 12):
            await attempt.commit(step(segment=segment - 1), checkpoint=save(segment, keep=1))
        whole = await store.load_journal("r", whole=True)
        assert (whole.checkpoint, whole.lost) == (None, False)
        assert [entry.position for entry in whole.entries] == list(range(1, attempt.position + 1))
        assert whole.entries[0].payload == b'"done"'

    async def test_loading_a_journal_changes_nothing(self, store: Store, place: Place) -> None:
        run = await released(await saved(store))
        await place.damage_checkpoint(run.key, 2)
        before = await fingerprint(store, "r")
        loaded = await store.load_journal("r")
        assert loaded.corrupt == (2,)
        assert loaded.checkpoint is not None
        assert loaded.checkpoint.n == 1
        assert await fingerprint(store, "r") == before

    async def test_the_journal_of_no_run_is_not_found(self, store: Store) -> None:
        with pytest.raises(RunNotFound):
            await store.load_journal("nobody")
