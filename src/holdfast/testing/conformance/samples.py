"""Promises about what is seen of runs while they are executed, and about what is asked of who executes them."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from msgspec import structs

from holdfast.errors import InvalidTransition, RunNotFound
from holdfast.model import (
    Ask,
    Change,
    Committed,
    Level,
    NewSample,
    Note,
    Progress,
    RefusedChange,
    Release,
    Sampled,
    Succeeded,
    TreeSample,
    Unit,
    Wish,
)
from holdfast.rules.transitions import cancel, retry
from holdfast.store.protocol import Store
from holdfast.testing.conformance.budgets import limited
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
    take,
)

FULL = TreeSample(
    at_us=-250_000,
    span_us=SECOND_US,
    cpu_percent=42.5,
    memory_bytes=123_456_789,
    processes=3,
    read_bytes=1,
    written_bytes=2,
    workspace_bytes=3,
    disk_free_bytes=4,
    memory_stall=1.5,
    oom_kills=5,
    workspace_at_least=True,
)
"""Every field that is kept, a quarter of a second before it is written."""


def at(sample: TreeSample, now_us: int) -> TreeSample:
    """The sample as it is read back: by the store's clock."""
    return structs.replace(sample, at_us=now_us + sample.at_us)


def sampled(attempt: Attempt, sample: TreeSample = FULL, *history: TreeSample) -> NewSample:
    """What the attempt is seen to use, with its history where one is given."""
    seen = Sampled(sample=sample, level=Level.WARNING, history=history or None)
    return NewSample(run=attempt.run.key, token=attempt.run.token, sampled=seen)


async def shown(store: Store, attempt: Attempt) -> TreeSample | None:
    """The newest sample of the attempt that runs now."""
    glimpse = (await store.glimpse([attempt.run.key]))[attempt.run.key]
    return None if glimpse.sample is None else glimpse.sample.sample


async def asked(store: Store, attempt: Attempt, worker: int) -> Ask:
    """What the worker is told of this run."""
    return next(each for each in await store.asks(worker) if each.run == attempt.run.key)


class SamplePromises(Promises):
    """What the store promises about samples, their history, and wishes."""

    async def test_the_newest_sample_of_each_run_is_seen_by_every_process(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store)
        first, second = await start(store, worker, "a"), await start(store, worker, "b")
        small = TreeSample(at_us=0, span_us=1, cpu_percent=0.0, memory_bytes=7, processes=1)
        assert await store.save_samples([sampled(first), sampled(second, small)]) == [True, True]
        other = await place.open()
        now_us = place.clock.wall_us()
        assert await shown(other, first) == at(FULL, now_us)
        assert await shown(other, second) == at(small, now_us)
        glimpse = (await other.glimpse([first.run.key]))[first.run.key]
        assert glimpse.sample is not None
        assert (glimpse.sample.token, glimpse.sample.level) == (first.run.token, Level.WARNING)
        assert await store.save_samples([sampled(first, small)]) == [True]
        assert await shown(other, first) == at(small, now_us)

    async def test_samples_of_no_run_are_no_error(self, store: Store) -> None:
        assert await store.save_samples([]) == []

    async def test_a_sample_is_no_event_and_moves_nothing_of_the_run(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        before = await store.get_run("r"), await event_types(store, "r")
        await store.save_samples([sampled(attempt, FULL, FULL)])
        assert (await store.get_run("r"), await event_types(store, "r")) == before

    async def test_an_attempt_that_is_fenced_out_saves_nothing(self, store: Store, place: Place) -> None:
        old = await start(store, await register(store))
        live = await start(store, await register(store, "w2"), "live")
        assert await store.save_samples([sampled(old, FULL, FULL)]) == [True]
        kept = await store.read_history("r")
        place.clock.advance(LEASE_US + SECOND_US)
        young = await take(store, await register(store, "other"))
        late = structs.replace(FULL, memory_bytes=9)
        assert await store.save_samples([sampled(old, late, late), sampled(live, late)]) == [False, True]
        assert await shown(store, young) is None  # nothing is known of the new attempt yet
        assert await store.read_history("r") == kept
        assert await shown(store, live) is not None

    @pytest.mark.parametrize("ended", [Succeeded(result=b"1"), Release()])
    async def test_nothing_is_saved_of_a_run_that_does_not_run(
        self, store: Store, ended: Succeeded | Release
    ) -> None:
        attempt = await start(store, await register(store))
        await attempt.settle(ended)
        assert await store.save_samples([sampled(attempt, FULL, FULL)]) == [False]
        assert await store.read_history("r") == ()
        assert await shown(store, attempt) is None

    async def test_a_history_is_read_back_whole_and_in_order(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        assert await store.read_history("r") == ()
        older = structs.replace(FULL, at_us=-5 * SECOND_US, read_bytes=None, memory_stall=None)
        await store.save_samples([sampled(attempt, FULL, older, FULL)])
        now_us = place.clock.wall_us()
        assert await store.read_history("r") == (at(older, now_us), at(FULL, now_us))
        place.clock.advance(SECOND_US)
        await store.save_samples([sampled(attempt)])
        assert len(await (await place.open()).read_history("r")) == 2  # none given: it stays as it is
        await store.save_samples([sampled(attempt, FULL, FULL)])
        assert await store.read_history("r") == (at(FULL, place.clock.wall_us()),)

    async def test_a_history_outlives_its_attempt_and_goes_with_its_run(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await store.save_samples([sampled(attempt, FULL, FULL)])
        await attempt.settle(Release())
        again = await take(store, worker)
        assert len(await store.read_history("r")) == 1
        await again.settle(Succeeded(result=b"1"))
        assert len(await store.read_history("r")) == 1
        await store.delete_run("r")
        with pytest.raises(RunNotFound):
            await store.read_history("r")
        await store.create_run(new_run())
        assert await store.read_history("r") == ()

    async def test_a_history_of_hundreds_of_samples_is_kept(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        long = [
            structs.replace(FULL, at_us=(n - 600) * SECOND_US, memory_bytes=n * 1_000_003) for n in range(600)
        ]
        await store.save_samples([sampled(attempt, FULL, *long)])
        assert [one.memory_bytes for one in await store.read_history("r")] == [
            n * 1_000_003 for n in range(600)
        ]

    async def test_a_sample_may_stand_in_the_last_change_of_an_attempt(
        self, store: Store, place: Place
    ) -> None:
        attempt = await start(store, await register(store))
        beside = Sampled(sample=FULL, history=(FULL,))
        change = structs.replace(attempt.change(outcome=Succeeded(result=b"1")), beside=(beside,))
        assert isinstance(await commit_one(store, change), Committed)
        assert await store.read_history("r") == (at(FULL, place.clock.wall_us()),)
        late = structs.replace(change, beside=(Sampled(sample=FULL, history=(FULL, FULL)),))
        assert isinstance(await commit_one(store, late), RefusedChange)
        assert len(await store.read_history("r")) == 1

    async def test_a_glimpse_has_what_lists_show_of_each_run(self, store: Store, place: Place) -> None:
        worker = await register(store)
        new = replace(new_run("a"), budget=limited(hard=100))
        first, second = await start(store, worker, "a", new=new), await start(store, worker, "b")
        progress = Progress(current=1, total=4, description="d")
        await first.commit(progress=progress)
        began_us = place.clock.wall_us()
        place.clock.advance(3 * SECOND_US)
        await commit_one(store, _opened(first, "fetch", began_us))
        place.clock.advance(2 * SECOND_US)
        found = await (await place.open()).glimpse([first.run.key, second.run.key, 987_654])
        assert set(found) == {first.run.key, second.run.key}
        one, other = found[first.run.key], found[second.run.key]
        assert one.progress is not None
        assert (one.progress.current, one.progress.total, one.progress.description) == (1, 4, "d")
        assert (one.heard_at_us, one.step_at_us) == (began_us + 3 * SECOND_US, began_us)
        assert one.budget == await store.get_budget("run:a")
        assert [account.unit for account in one.budget.accounts] == [Unit.TOKENS_OUT] if one.budget else None
        assert (other.progress, other.sample, other.budget, other.step_at_us) == (None, None, None, None)
        assert await store.glimpse([]) == {}

    async def test_a_step_that_is_over_is_not_the_open_one(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        await commit_one(store, _opened(attempt, "fetch", 5))
        await attempt.commit(step())
        glimpse = (await store.glimpse([attempt.run.key]))[attempt.run.key]
        assert glimpse.step_at_us is None
        untold = attempt.change(notes=(Note("log", b"{}"),))  # another is open, and was not announced yet
        await commit_one(store, structs.replace(untold, step="quick"))
        glimpse = (await store.glimpse([attempt.run.key]))[attempt.run.key]
        assert glimpse.step_at_us is None

    async def test_a_run_that_nobody_executes_has_no_clocks(self, store: Store) -> None:
        created = await store.create_run(new_run())
        glimpse = (await store.glimpse([created.run.key]))[created.run.key]
        assert (glimpse.heard_at_us, glimpse.step_at_us, glimpse.throttled) == (None, None, False)

    async def test_a_throttle_is_told_to_the_worker_until_it_is_let_go(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        assert not (await asked(store, attempt, worker)).throttled
        for _ in range(2):
            await (await place.open()).wish("r", Wish.THROTTLE)
            assert (await asked(store, attempt, worker)).throttled
        assert (await store.glimpse([attempt.run.key]))[attempt.run.key].throttled
        await attempt.settle(Release())
        again = await take(store, worker)
        assert (await asked(store, again, worker)).throttled  # of the run, not of the attempt
        for _ in range(2):
            await store.wish("r", Wish.THROTTLE, wanted=False)
            assert not (await asked(store, again, worker)).throttled

    async def test_a_kill_is_told_to_the_worker_of_that_attempt_alone(self, store: Store) -> None:
        worker = await register(store)
        attempt, beside = await start(store, worker), await start(store, worker, "beside")
        for _ in range(2):
            await store.wish("r", Wish.KILL)
            assert (await asked(store, attempt, worker)).kill
        assert not (await asked(store, beside, worker)).kill
        await store.wish("r", Wish.KILL, wanted=False)
        assert not (await asked(store, attempt, worker)).kill
        await store.wish("r", Wish.KILL)
        await attempt.settle(Release())
        again = await take(store, worker)
        assert not (await asked(store, again, worker)).kill

    async def test_wishes_for_a_run_do_not_disturb_each_other(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await store.wish("r", Wish.THROTTLE)
        await store.wish("r", Wish.KILL)
        told = await asked(store, attempt, worker)
        assert (told.throttled, told.kill) == (True, True)

    async def test_what_cannot_be_asked_for_is_refused(self, store: Store) -> None:
        worker = await register(store)
        await store.create_run(new_run())
        await store.wish("r", Wish.THROTTLE)  # from its first attempt on
        with pytest.raises(InvalidTransition, match="r is queued: no attempt of it runs"):
            await store.wish("r", Wish.KILL)
        attempt = await take(store, worker)
        assert (await asked(store, attempt, worker)).throttled
        await attempt.settle(Succeeded(result=b"1"))
        for wish in Wish:
            with pytest.raises(InvalidTransition, match="r is succeeded"):
                await store.wish("r", wish)
            with pytest.raises(RunNotFound, match="'nobody'"):
                await store.wish("nobody", wish)

    async def test_wishes_end_with_the_run(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await store.wish("r", Wish.THROTTLE)
        await store.update_run("r", cancel)
        assert not (await store.glimpse([attempt.run.key]))[attempt.run.key].throttled
        await store.update_run("r", retry)
        again = await take(store, worker)
        assert not (await asked(store, again, worker)).throttled


def _opened(attempt: Attempt, name: str, began_us: int) -> Change:
    """A Change that tells of an open step, as the port of an attempt makes it."""
    told = msgspec.json.encode({"name": name, "started_at_us": began_us})
    return structs.replace(attempt.change(notes=(Note("step.started", told),)), step=name)
