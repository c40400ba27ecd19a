"""Promises about handles: many on one store at once, closing, opening again, durability."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from holdfast.errors import StoreUnavailable
from holdfast.model import Answer, Committed, Note, RunFilter, RunState, Succeeded
from holdfast.rules.transitions import cancel
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import (
    LEASE_US,
    SERVES,
    Attempt,
    Place,
    Promises,
    fingerprint,
    new_run,
    register,
    save,
    start,
    step,
    steps,
)


class HandlePromises(Promises):
    """What the store promises about its handles."""

    async def test_what_was_answered_is_there_after_every_handle_was_closed(
        self, store: Store, place: Place
    ) -> None:
        attempt = await start(store, await register(store))
        await store.add_signal("r", "go", b"1")
        await attempt.commit(*steps(3), checkpoint=save(state=b'{"n":3}'))
        before = await fingerprint(store, "r")
        await place.close()
        assert await fingerprint(await place.open(), "r") == before

    async def test_an_attempt_goes_on_through_another_handle(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        await attempt.commit(step())
        attempt.store = await place.open()
        await attempt.commit(step(occurrence=1))
        await attempt.settle(Succeeded(result=b"1"))
        assert (await store.get_run("r")).state is RunState.SUCCEEDED

    async def test_opening_twice_and_closing_twice_is_once(self, store: Store, place: Place) -> None:
        await store.create_run(new_run())
        handle = place.handle()
        await handle.open()
        await handle.open()
        assert (await handle.get_run("r")).id == "r"
        await handle.close()
        await handle.close()
        assert (await store.get_run("r")).id == "r"

    async def test_many_handles_may_open_a_new_store_at_once(self, place: Place) -> None:
        handles = await asyncio.gather(*(place.open() for _ in range(4)))
        await asyncio.gather(*(handle.create_run(new_run(f"r{n}")) for n, handle in enumerate(handles)))
        assert len(await handles[0].list_runs(RunFilter())) == 4
        await place.close()

    async def test_a_handle_is_a_context_that_closes_itself(self, place: Place) -> None:
        async with place.handle() as handle:
            await handle.create_run(new_run())
        with pytest.raises(StoreUnavailable):
            await handle.get_run("r")

    async def test_url_opens_the_store_again(self, store: Store, place: Place) -> None:
        assert "://" in store.url
        assert (await place.open()).url == store.url

    async def test_after_close_every_operation_raises_store_unavailable(
        self, store: Store, place: Place
    ) -> None:
        attempt = await start(store, await register(store))
        change = attempt.change(step())
        closed = place.handle()
        await closed.open()
        await closed.close()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: closed.create_run(new_run("x")),
            lambda: closed.get_run("r"),
            lambda: closed.list_runs(RunFilter()),
            lambda: closed.update_run("r", cancel),
            lambda: closed.delete_run("r"),
            lambda: closed.claim(1, SERVES, 1),
            lambda: closed.commit([change]),
            lambda: closed.asks(1),
            lambda: closed.add_signal("r", "go", b"1"),
            lambda: closed.answer_approval("r", 1, Answer(question_hash=b"", choice="yes", by="me")),
            lambda: closed.list_approvals("r"),
            lambda: closed.list_open_approvals(1),
            lambda: closed.read_events("r", 0, 10),
            lambda: closed.read_entries("r"),
            lambda: closed.list_checkpoints("r"),
            lambda: register(closed),
            lambda: closed.retire_worker(1),
            lambda: closed.is_draining(1),
            lambda: closed.list_workers(),
            lambda: closed.sweep(10),
            lambda: closed.list_queues(),
        ]
        before = await fingerprint(store, "r")
        for call in calls:
            with pytest.raises(StoreUnavailable):
                await call()
        with pytest.raises(StoreUnavailable):
            closed.renew_lease(1, LEASE_US, None)
        assert await fingerprint(store, "r") == before

    async def test_a_closed_handle_disturbs_no_other(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        other = await place.open()
        assert (await other.get_run("r")).state is RunState.RUNNING
        work = asyncio.gather(*(store.commit([attempt.change(notes=(Note("log"),))]) for _ in range(20)))
        await other.close()
        answers = await work
        assert all(isinstance(answer, Committed) for (answer,) in answers)
        await attempt.commit(step())
        late = await place.open()
        assert (await late.get_run("r")).position == 1

    async def test_concurrent_writers_on_two_handles_lose_and_mix_nothing(
        self, store: Store, place: Place
    ) -> None:
        other = await place.open()
        lanes: list[Attempt] = []
        for n, handle in enumerate((store, other, store, other)):
            lanes.append(await start(handle, await register(handle, f"w{n}"), f"r{n}"))

        async def run(lane: int) -> None:
            for number in range(25):
                await lanes[lane].commit(
                    step(occurrence=number, payload=b"%d" % number), notes=(Note("log"),)
                )

        await asyncio.gather(*(run(lane) for lane in range(4)))
        for lane in range(4):
            entries = await store.read_entries(f"r{lane}", payloads=True)
            assert [(e.position, e.payload) for e in entries] == [(n + 1, b"%d" % n) for n in range(25)]
            events = await other.read_events(f"r{lane}", 0, 1_000)
            assert [e.n for e in events] == list(range(1, len(events) + 1))

    async def test_concurrent_creates_of_one_id_make_one_run(self, store: Store, place: Place) -> None:
        handles = [store, await place.open()]
        answers = await asyncio.gather(*(handles[n % 2].create_run(new_run()) for n in range(10)))
        assert sum(not answer.existed for answer in answers) == 1
        assert len({answer.run.key for answer in answers}) == 1

    async def test_a_cancelled_caller_leaves_a_whole_store(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        for number in range(10):
            change = attempt.change(step(occurrence=number), notes=(Note("log"),))
            task = asyncio.create_task(store.commit([change]))
            for _ in range(number % 3):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            attempt.position = (await store.get_run("r")).position
        await place.close()  # which finishes what was begun
        store = attempt.store = await place.open()
        attempt.position = (await store.get_run("r")).position
        await attempt.commit(step("last"))
        entries = await store.read_entries("r")
        assert [e.position for e in entries] == list(range(1, attempt.position + 1))
        events = await store.read_events("r", 0, 100)
        assert [e.n for e in events] == list(range(1, len(events) + 1))

    async def test_waiting_for_news_ends_by_itself(self, store: Store) -> None:
        async with asyncio.timeout(5):
            await store.wait_for_news(0.01)

    @pytest.mark.parametrize("turns", range(6))
    async def test_a_wait_for_news_is_cancelled_even_as_news_come(self, store: Store, turns: int) -> None:
        async def wait_on() -> None:
            while True:
                await store.wait_for_news(5)

        waiting = asyncio.create_task(wait_on())
        await asyncio.sleep(0.05)
        await register(store)
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        done, _ = await asyncio.wait({waiting}, timeout=2)
        assert done
        assert waiting.cancelled()
