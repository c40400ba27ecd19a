"""Group commit: whatever is waiting when one commit ends becomes the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from holdfast.booking import Booking
from holdfast.errors import (
    Conflict,
    HoldfastError,
    LeaseLost,
    NotSerializable,
    RunNotFound,
    StoreError,
    StoreUnavailable,
)
from holdfast.model import (
    TOLD_FROM_OUTSIDE,
    Amounts,
    Change,
    Committed,
    Content,
    Entry,
    NewChild,
    NewReservation,
    NewTurn,
    RefusedChange,
    Reserved,
    Run,
    RunState,
    Signal,
    Standing,
    Turn,
)
from holdfast.rules.rate import RateLimit
from holdfast.store import shown
from holdfast.store.protocol import Store

MAX_BATCH: Final = 256
"""Changes in one transaction: larger ones gain nothing (measured) and make the first of them wait."""
MAX_WAITING: Final = 10_000
"""Changes in memory at most; a run has one or two open, so this is far over any worker's capacity."""
STRETCH_S: Final = 0.005
"""How long a run alone may commit without a turn of the event loop: far below what anybody notices."""
_RETRY_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)

T = TypeVar("T")
Answer = Committed | RefusedChange | HoldfastError


@dataclass(slots=True)
class _Followed:
    """A run whose Changes come through here: how many events it has as far as we were told."""

    id: str
    token: int
    event_no: int


class Writer:
    """Puts the Changes of all runs of a worker into one transaction at a time and answers each after it.

    While the store is unavailable (disk full, busy) the same batch is tried again for as long as `trusted()`: the
    steps wait, nothing is lost. After that everything waiting is answered with LeaseLost. After an error nobody knows
    whether the batch was recorded, so what is there is read before it is tried again: nothing is recorded twice.
    """

    def __init__(self, store: Store, trusted: Callable[[], bool]) -> None:
        self._store = store
        self._trusted = trusted
        self._followed: dict[int, _Followed] = {}
        self._waiting: deque[tuple[Change, asyncio.Future[Committed], Callable[[], None] | None]] = deque()
        self._wake = asyncio.Event()
        self._idle = False
        self._doubt = False
        self._last_task = 0
        self._turned_s = 0.0
        self.booking = Booking(store.take_turns)
        self.reserving = Booking(store.reserve)

    def submit(
        self, change: Change, on_unstorable: Callable[[], None] | None = None
    ) -> asyncio.Future[Committed]:
        """Queue a Change; the future ends when it is durable, or with LeaseLost when it was refused.

        `on_unstorable` is called before it ends with NotSerializable or Conflict: the attempt goes on without it.
        """
        answer: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        if self._idle and self._goes_on():
            stretched = asyncio.get_running_loop().time() - self._turned_s >= STRETCH_S
            if not stretched and self._commit_on_the_spot(change, answer, on_unstorable):
                return answer
            if self._commit_soon(change, answer, on_unstorable):
                return answer
        if len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailable(
                f"{MAX_WAITING} changes wait for the store at {shown(self._store.url)}; it does not keep up"
            )
        self._waiting.append((change, answer, on_unstorable))
        if self._idle:
            self._idle = False
            self._wake.set()
        return answer

    def _goes_on(self) -> bool:
        """Whether nothing could join the Change of this task, of the only run: it goes from step to step."""
        number = id(asyncio.current_task())
        goes_on, self._last_task = number == self._last_task and len(self._followed) == 1, number
        return goes_on

    def _commit_on_the_spot(
        self, change: Change, answer: asyncio.Future[Committed], on_unstorable: Callable[[], None] | None
    ) -> bool:
        """Commit without handing the Change to `run`, which would cost two turns of the event loop."""
        try:
            answers = self._store.commit_now([change])
        except Exception:  # noqa: BLE001 - `run` tries again, and finds out what it is and what was recorded
            self._doubt = True
            return False
        if answers is None:
            return False
        self._follow_on([change], answers)
        _deliver(answer, answers[0], on_unstorable)
        return True

    def _commit_soon(
        self, change: Change, answer: asyncio.Future[Committed], on_unstorable: Callable[[], None] | None
    ) -> bool:
        """Let the store answer by itself, which spares the same turns. What comes meanwhile waits for it, as always."""

        def answered(told: Committed | Exception | None) -> None:
            if isinstance(told, Committed):
                self._follow_on([change], [told])
                _deliver(answer, told, on_unstorable)
            else:  # `run` does it, and finds out what was recorded when nobody knows
                self._doubt = self._doubt or told is not None
                self._waiting.appendleft((change, answer, on_unstorable))
            self._idle = not self._waiting
            if self._waiting:
                self._wake.set()

        self._idle = not self._store.commit_soon(change, answered)
        return not self._idle

    def follow(self, run: Run) -> None:
        """An attempt at the run begins. While it lasts, its events are those of its Changes, or `TOLD_FROM_OUTSIDE`."""
        self._followed[run.key] = _Followed(run.id, run.token, run.event_no)

    def unfollow(self, run: Run) -> None:
        """The attempt is over."""
        followed = self._followed.get(run.key)
        if followed is not None and followed.token == run.token:
            del self._followed[run.key]

    async def patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What the store answers; while it does not, ask again for as long as the lease can be trusted."""
        tries = 0
        while True:
            try:
                return await ask()
            except StoreUnavailable:
                if not self._trusted():
                    raise
                await asyncio.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
                tries += 1

    async def run(self) -> None:
        """Commit batches until cancelled; what waits then is not recorded and not answered."""
        while True:
            self._idle = not self._waiting
            self._turned_s = asyncio.get_running_loop().time()
            if self._idle:
                await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                # What may be recorded is looked for by itself: what came behind it is not.
                most = 1 if self._doubt else MAX_BATCH
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), most))]
                if len(batch) > 1:
                    self._last_task = 0  # whoever goes on has company
                answers = await self._commit([change for change, _, _ in batch])
                for (_, future, on_unstorable), answer in zip(batch, answers, strict=True):
                    _deliver(future, answer, on_unstorable)

    async def _commit(self, changes: list[Change]) -> list[Answer]:
        try:
            return await self.patiently(lambda: self._try(changes))
        except StoreUnavailable as error:
            return [error] * len(changes)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is one run's trouble, not the worker's
            return await self._commit_apart(changes, error)

    async def _commit_apart(self, changes: list[Change], error: Exception) -> list[Answer]:
        """After an error that trying again does not cure: one Change cannot be stored at all. It is found by committing
        each alone, so that the others are not held up by it.

        First all are looked for at once. Of Changes that were recorded together, the first that is found moves what is
        known of the run, and would hide the others.
        """
        try:
            recorded = await self.patiently(lambda: self._recorded(changes))
        except Exception as unknown:  # noqa: BLE001 - as above
            return [_unknown(unknown)] * len(changes)
        self._doubt = False
        answers: list[Answer] = []
        for index, change in enumerate(changes):
            if index in recorded:
                self._follow_on([change], [recorded[index]])
                answers.append(recorded[index])
            elif len(changes) == 1:
                answers.append(_not_stored(error))
            else:
                answers += await self._commit([change])
        return answers

    async def _try(self, changes: list[Change]) -> list[Answer]:
        """Commit what is not recorded yet: after an error nobody knows what is."""
        try:
            recorded = await self._recorded(changes) if self._doubt else {}
            left = [change for index, change in enumerate(changes) if index not in recorded]
            answers = await self._store.commit(left)
        except Exception:
            self._doubt = True
            raise
        self._doubt = False
        if recorded:
            committed = iter(answers)
            answers = [recorded.get(index) or next(committed) for index in range(len(changes))]
        self._follow_on(changes, answers)
        return [*answers]

    def _follow_on(self, changes: Sequence[Change], answers: Sequence[Committed | RefusedChange]) -> None:
        for change, answer in zip(changes, answers, strict=True):
            followed = self._followed.get(change.run)
            if isinstance(answer, Committed) and followed is not None and followed.token == change.token:
                followed.event_no = answer.event_no

    async def _has_more(self, followed: _Followed, run: Run) -> bool:
        """Whether the run has events of its attempt that we were not told of."""
        if run.event_no == followed.event_no:
            return False
        news = await self._store.read_events(run.id, followed.event_no, MAX_BATCH)
        return len(news) == MAX_BATCH or any(event.type not in TOLD_FROM_OUTSIDE for event in news)

    async def _recorded(self, changes: Sequence[Change]) -> dict[int, Committed]:
        """Those of the Changes that are in the store, by index, though the answer was an error."""
        found: dict[int, Committed] = {}
        for key in dict.fromkeys(change.run for change in changes):
            followed = self._followed.get(key)
            if followed is None:
                continue
            try:
                run = await self._store.get_run(followed.id)
                if run.token != followed.token or not await self._has_more(followed, run):
                    continue  # fenced out, which the next try says; or nothing of it is there
                times = {entry.position: entry.at_us for entry in await self._store.read_entries(run.id)}
            except RunNotFound:
                continue
            for index, change in enumerate(changes):
                last = change.position + len(change.entries)
                if change.outcome is not None and run.state is RunState.RUNNING:
                    continue
                # Behind a Change that could not be, nothing is there but what asks for no position.
                there = last <= run.position or not _has_place(change)
                if change.run == key and change.token == run.token and there:
                    found[index] = Committed(position=last, event_no=run.event_no, at_us=times.get(last, 0))
        return found


def _has_place(change: Change) -> bool:
    """Whether the store records it only at its position: not mere notes."""
    return bool(change.entries) or change.checkpoint is not None or change.outcome is not None


def _unknown(error: Exception) -> StoreError:
    """The answer when nobody can know whether a Change is recorded: the attempt ends, and another finds out."""
    if isinstance(error, StoreError):
        return error
    unknown = StoreError(f"what is recorded cannot be read: {type(error).__name__}: {error}")
    unknown.__cause__ = error
    return unknown


def _not_stored(error: Exception) -> HoldfastError:
    if isinstance(error, HoldfastError):
        return error
    refused = NotSerializable(f"a value cannot be stored: {type(error).__name__}: {error}")
    refused.__cause__ = error
    return refused


def _deliver(
    future: asyncio.Future[Committed], answer: Answer, on_unstorable: Callable[[], None] | None
) -> None:
    if isinstance(answer, Committed):
        if not future.done():
            future.set_result(answer)
        return
    lost: HoldfastError
    if isinstance(answer, RefusedChange):
        lost = Conflict(answer.message) if answer.conflict else LeaseLost(answer.message)
    else:
        lost = answer
    if on_unstorable is not None and isinstance(lost, NotSerializable | Conflict):
        on_unstorable()
    if not future.done():
        future.set_exception(lost)
        future.exception()  # read here, so that nobody being there any more is no warning


class StoreChannel:
    """The channel inside a worker: Changes go to its Writer, questions to its store."""

    def __init__(self, run: Run, store: Store, writer: Writer) -> None:
        self._run = run
        self._store = store
        self._writer = writer
        self.submit = writer.submit
        writer.follow(run)

    def over(self) -> None:
        self._writer.unfollow(self._run)

    async def once(self, key: str) -> Entry | None:
        return await self._writer.patiently(lambda: self._store.get_once(self._run.key, key))

    async def count_once(self) -> int:
        return await self._writer.patiently(lambda: self._store.count_once(self._run.key))

    async def take_turn(self, limit: RateLimit, call: str) -> Turn:
        run = self._run
        new = NewTurn(
            rate=limit.name, terms=limit.terms, cost=limit.units, run=run.key, token=run.token, call=call
        )
        return await self._writer.patiently(lambda: self._writer.booking.take(new))

    async def reserve(self, call: str, asked: Amounts) -> Reserved:
        new = NewReservation(run=self._run.key, token=self._run.token, call=call, asked=asked)
        return await self._writer.patiently(lambda: self._writer.reserving.take(new))

    async def hold_back(self, limit: RateLimit, for_us: int) -> None:
        await self._writer.patiently(lambda: self._store.hold_back(limit.name, limit.terms, for_us))

    async def held_back(self, limit: RateLimit) -> bool:
        rate = await self._writer.patiently(lambda: self._store.get_rate(limit.name))
        return rate is not None and rate.held_back_us > 0

    async def inbox(self) -> tuple[int, list[Signal]]:
        return await self._writer.patiently(lambda: self._store.read_inbox(self._run.key))

    async def begin_content(self) -> int:
        return await self._writer.patiently(self._store.begin_content)

    async def add_chunk(self, upload: int, n: int, chunk: bytes) -> None:
        await self._writer.patiently(lambda: self._store.add_chunk(upload, n, chunk))

    async def seal_content(self, upload: int, content_id: str, size_bytes: int) -> Content:
        return await self._writer.patiently(lambda: self._store.seal_content(upload, content_id, size_bytes))

    async def check_child(self, new: NewChild) -> None:
        await self._writer.patiently(lambda: self._store.check_child(self._run.key, new))

    async def child(self, child_id: str) -> Standing | None:
        return await self._writer.patiently(lambda: self._store.read_child(self._run.key, child_id))
