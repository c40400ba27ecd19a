"""A queue by itself: by priority, so many at a time, and nothing outlives it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

import pytest

from holdfast import Queue
from holdfast.errors import Refused, UsageError
from holdfast.parts import queue as queues


async def test_a_smaller_priority_goes_first_and_equal_ones_in_their_order() -> None:
    order: list[str] = []

    async def note(name: str) -> str:
        order.append(name)
        return name.upper()

    async with Queue(limit=1) as queue:
        outcomes = [
            queue.put(note(name), priority=priority)
            for name, priority in (("c", 0), ("e", 5), ("a", -5), ("d", 0), ("b", -1))
        ]
        assert await outcomes[0] == "C"
    assert order == ["a", "b", "c", "d", "e"]
    assert [await one for one in outcomes] == ["C", "E", "A", "D", "B"]


async def test_what_waits_long_enough_goes_before_what_is_more_urgent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    monkeypatch.setattr(loop, "time", lambda: began_s)

    async def note(name: str) -> None:
        order.append(name)

    async with Queue(limit=1) as queue:
        queue.put(note("patient"), priority=2)
        monkeypatch.setattr(loop, "time", lambda: began_s + 119)
        queue.put(note("urgent"), priority=0)
        monkeypatch.setattr(loop, "time", lambda: began_s + 121)
        queue.put(note("late"), priority=0)
    assert order == ["urgent", "patient", "late"]


async def test_never_more_than_the_limit_run_at_once() -> None:
    running = most = 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1

    async with Queue(limit=3) as queue:
        for _ in range(50):
            queue.put(work())
        await asyncio.sleep(0)
        assert (queue.running, queue.waiting) == (3, 47)
        await queue.join()
        assert (queue.running, queue.waiting) == (0, 0)
    assert most == 3


async def test_an_error_belongs_to_whoever_awaits_it_and_to_nobody_else() -> None:
    async def breaks() -> None:
        raise ValueError("mine")

    async def works() -> int:
        return 1

    async with Queue(limit=1) as queue:
        broken, fine = queue.put(breaks()), queue.put(works())
        with pytest.raises(ValueError, match="mine"):
            await broken
        assert await fine == 1


async def test_a_cancelled_one_never_begins_and_makes_room() -> None:
    gate = asyncio.Event()
    begun: list[int] = []

    async def work(n: int) -> None:
        begun.append(n)
        await gate.wait()

    async with Queue(limit=1) as queue:
        outcomes = [queue.put(work(n)) for n in range(4)]
        await asyncio.sleep(0)
        outcomes[1].cancel()
        outcomes[2].cancel()
        await asyncio.sleep(0)
        assert queue.waiting == 1
        gate.set()
    assert begun == [0, 3]
    assert [one.cancelled() for one in outcomes] == [False, True, True, False]


async def test_a_running_one_that_is_cancelled_holds_its_place_until_it_ends() -> None:
    said: list[str] = []
    may_end = asyncio.Event()
    began = asyncio.Event()

    async def slow_to_end() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()
            said.append("ended")

    async def follows() -> None:
        said.append("followed")

    async with Queue(limit=1) as queue:
        first, second = queue.put(slow_to_end()), queue.put(follows())
        await began.wait()
        first.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert (queue.running, said, second.done()) == (1, [], False)
        may_end.set()
    assert said == ["ended", "followed"]


async def test_one_that_is_cancelled_in_the_moment_it_begins_ends_cleanly() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    async with Queue(limit=2) as queue:
        coroutines = [work() for _ in range(3)]
        outcomes = [queue.put(one) for one in coroutines]
        for one in outcomes:
            one.cancel()  # before the loop has turned at all
        await asyncio.sleep(0)
        again = queue.put(work())
        await asyncio.sleep(0)  # its task is made, its code has not begun
        again.cancel()
    assert all(inspect.getcoroutinestate(one) == inspect.CORO_CLOSED for one in coroutines)


async def test_an_error_inside_the_block_cancels_everything() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    with pytest.raises(RuntimeError, match="outside"):
        async with Queue(limit=1) as queue:
            first, second = queue.put(work()), queue.put(work())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            raise RuntimeError("outside")
    assert (first.cancelled(), second.cancelled(), ended) == (True, True, ["ended"])


async def test_a_cancelled_block_cancels_what_it_waited_for() -> None:
    ended: list[str] = []
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    async def block() -> None:
        async with Queue(limit=1) as queue:
            queue.put(work())
            queue.put(work())

    task = asyncio.create_task(block())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["ended"]


async def test_a_closed_or_full_queue_refuses_and_forgets_no_coroutine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work() -> None: ...

    def refused(kind: type[Exception], put: Callable[[], object]) -> None:
        with pytest.raises(
            kind
        ):  # a coroutine that was not closed would be a warning, and that an error here
            put()

    queue = Queue(limit=1)
    refused(UsageError, lambda: queue.put(work(), priority=5000))
    monkeypatch.setattr(queues, "MOST_WAITING", 2)
    queue.put(work()), queue.put(work())
    refused(Refused, lambda: queue.put(work()))
    await queue.close()
    await queue.close()
    refused(Refused, lambda: queue.put(work()))
    with pytest.raises(UsageError, match="at least 1"):
        Queue(limit=0)


async def test_thousands_that_are_cancelled_leave_nothing_in_memory() -> None:
    async def work() -> None: ...

    gate = asyncio.Event()
    async with Queue(limit=1) as queue:
        queue.put(gate.wait(), priority=-1)
        outcomes = [queue.put(work()) for _ in range(5000)]
        await asyncio.sleep(0)
        for one in outcomes:
            one.cancel()
        await asyncio.sleep(0)
        assert (queue.running, queue.waiting, len(queue._heap)) == (1, 0, 0)
        gate.set()
