"""The feed of one run: every event once, in order, across restarts of everything, until the run is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from holdfast.client.view import Json, OutputView, event_payload, output_view
from holdfast.errors import StoreUnavailable
from holdfast.model import Event, Run
from holdfast.store.protocol import Store

T = TypeVar("T")

LOOKED_THROUGH: Final = 100
"""Events that may follow the one that tells why a run was stopped: signals, pauses, budgets that were changed."""
BATCH: Final = 500  # events a read: bounds memory and the length of one read transaction
NEWS_LEAST_S: Final = 0.02  # every commit is news: a read for each cost more than the steps
PATIENCE: Final = 0.1
"""Who waits for an end may learn of it a tenth of the time later: two hundred may wait at once."""
PATIENT_MOST_S: Final = 0.25
NEWS_FIRST_S: Final = 0.25
NEWS_LONGEST_S: Final = 2.0  # hints may be missing: after this the store is asked again
HICCUP_FIRST_S: Final = 0.1
HICCUP_LONGEST_S: Final = 5.0
HICCUPS_FOR_S: Final = 60.0  # a store that stays away longer than this is an error


async def watch(store: Store, run_id: str, after: int = 0) -> AsyncIterator[Event]:
    """Events with `n > after`, gapless; ends when the run is final and its last event was handed out.

    An operator's retry makes a final run move again: the feed ends only while the run *is* final. Raises RunNotFound
    (also when the run is deleted meanwhile) and StoreUnavailable when the store stays away for a minute.
    """
    pause = Pause(store)
    while True:
        events = await patiently(partial(store.read_events, run_id, after, BATCH))
        for event in events:
            after = event.n
            yield event
        if len(events) == BATCH:
            continue
        run = await patiently(lambda: store.get_run(run_id))
        if run.event_no > after:
            continue
        if run.state.final:
            return
        await pause.until_news(quiet=not events)


async def output(store: Store, run_id: str, after: int = 0) -> AsyncIterator[OutputView]:
    """Streamed text with `n > after`, as it comes; ends when the run is final. Raises as `watch` does."""
    pause = Pause(store)
    while True:
        run = await patiently(lambda: store.get_run(run_id))
        found = await patiently(partial(store.read_output, run_id, after))
        for piece in found:
            after = piece.n
            yield output_view(piece)
        if run.state.final:
            return
        await pause.until_news(quiet=not found)


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer of a read, asked again with backoff while the store is away, for a minute at most."""
    waited_s = 0.0
    delay_s = HICCUP_FIRST_S
    while True:
        try:
            return await ask()
        except StoreUnavailable:
            if waited_s >= HICCUPS_FOR_S:
                raise
        await asyncio.sleep(delay_s)
        waited_s += delay_s
        delay_s = min(delay_s * 2, HICCUP_LONGEST_S)


class Pause:
    """Waits for news of the store: soon again after something happened, longer each time when nothing did."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next_s = NEWS_FIRST_S
        self._began_at_s = asyncio.get_running_loop().time()
        self._woken_at_s = 0.0

    async def until_news(self, *, quiet: bool, patient: bool = False) -> None:
        """Return when something may have changed. A `patient` waiter looks less often the longer it has waited."""
        self._next_s = min(self._next_s * 1.5, NEWS_LONGEST_S) if quiet else NEWS_FIRST_S
        loop = asyncio.get_running_loop()
        least_s = NEWS_LEAST_S
        if patient:
            least_s = min(PATIENT_MOST_S, max(least_s, PATIENCE * (loop.time() - self._began_at_s)))
        await asyncio.sleep(max(0.0, self._woken_at_s + least_s - loop.time()))
        await patiently(lambda: self._store.wait_for_news(self._next_s))
        self._woken_at_s = loop.time()


async def last_of(store: Store, run: Run, kind: str | None) -> dict[str, Json] | None:
    """What the newest event of this type says, looked for among the newest of the run; None when there is none."""
    if kind is None:
        return None
    newest = await store.read_events(run.id, max(0, run.event_no - LOOKED_THROUGH), LOOKED_THROUGH)
    return next((event_payload(event) for event in reversed(newest) if event.type == kind), None)
