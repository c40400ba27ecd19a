"""When a worker ends by itself: other processes move the runs between any two of its reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from holdfast.idleness import nothing_due, tree_is_over
from holdfast.model import Park, Reason, Release
from holdfast.store.protocol import Store
from holdfast.testing.conformance.children import bear, end, wait
from holdfast.testing.conformance.place import AGENT, VERSION, Attempt, register, start, take
from tests.faults import Engine

Move = Callable[[], Awaitable[None]]
READS = ("get_run", "list_runs", "list_children")


class Meddled:
    """A store on which somebody makes the next move after each read."""

    def __init__(self, store: Store, moves: Iterable[Move]) -> None:
        self._store = store
        self.moves = list(moves)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in READS:
            return method

        async def read(*args: Any, **options: Any) -> Any:
            found = await method(*args, **options)
            if self.moves:
                await self.moves.pop(0)()
            return found

        return read


@pytest.mark.parametrize("first", [0, 1])
async def test_a_run_that_goes_to_and_fro_between_reads_is_never_taken_for_nothing(
    engine: Engine, first: int
) -> None:
    worker = await register(engine.store)
    held: list[Attempt] = [await start(engine.store, worker)]

    async def release() -> None:
        await held.pop().settle(Release())

    async def claim() -> None:
        held.append(await take(engine.store, worker))

    if first:
        await release()
    moves = [release, claim] * 3
    meddled: Any = Meddled(engine.store, moves[first:])
    for _ in range(3):
        assert not await nothing_due(meddled, [("another", "1"), (AGENT, VERSION)])


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_a_child_that_ends_between_reads_of_its_tree_leaves_a_parent_that_goes_on(
    engine: Engine, at: int
) -> None:
    """r waits for c, and that for d, which waits for a person: until it ends, after the read at `at`."""
    worker = await register(engine.store)
    parent = await start(engine.store, worker)
    await bear(parent, "c")
    await parent.settle(wait("c"))
    child = await take(engine.store, worker, "c")
    await bear(child, "d")
    await child.settle(wait("d"))
    await (await take(engine.store, worker, "d")).settle(Park(reason=Reason.SIGNAL, wait_name="go"))
    assert await tree_is_over(engine.store, "r")

    async def nothing() -> None: ...

    async def answer() -> None:
        await engine.store.add_signal("d", "go", b"null")
        await end(engine.store, worker, "d")

    meddled: Any = Meddled(engine.store, [*[nothing] * at, answer])
    assert not await tree_is_over(meddled, "r")
