"""Where a promise is tried: one store, its movable clock, any number of handles, and short ways to say things."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from holdfast.model import (
    Change,
    Claim,
    Committed,
    Entry,
    EntryKind,
    EntryStatus,
    Failure,
    FailureKind,
    Identity,
    NewCheckpoint,
    NewRun,
    NewWorker,
    Note,
    Outcome,
    Progress,
    RefusedChange,
    Run,
    Served,
)
from holdfast.store.protocol import Store

SECOND_US = 1_000_000
LEASE_US = 30 * SECOND_US
DAY_US = 86_400 * SECOND_US
AGENT = "refactor"
VERSION = "1"
SERVES = (Served(agent=AGENT, version=VERSION),)
FAILURE = Failure(kind=FailureKind.TRANSIENT, type="OSError", message="the line is down")


class MovableClock:
    """A clock that stands still until a test moves it. It fits `holdfast.clock.Clock`."""

    def __init__(self) -> None:
        self._wall_us = 1_800_000_000 * SECOND_US
        self._boot_us = 500 * SECOND_US
        self._boots = 1

    def wall_us(self) -> int:
        """Microseconds since the epoch."""
        return self._wall_us

    def boot_us(self) -> int:
        """Microseconds since boot."""
        return self._boot_us

    def boot_id(self) -> str:
        """The name of this boot."""
        return f"boot-{self._boots}"

    def advance(self, duration_us: int) -> None:
        """Let time pass."""
        self._wall_us += duration_us
        self._boot_us += duration_us

    def set_back(self, duration_us: int) -> None:
        """Set the wall clock back, as a person or a time server would. Time since boot is not touched."""
        self._wall_us -= duration_us

    def reboot(self) -> None:
        """Start the machine again: another boot, a moment later."""
        self._boots += 1
        self._wall_us += 20 * SECOND_US
        self._boot_us = SECOND_US


class Place(ABC):
    """One empty store that handles can be opened on. A store's author writes the abstract methods.

    The store takes its time, its boot id included, from `clock`.
    """

    def __init__(self, clock: MovableClock) -> None:
        self.clock = clock
        self._opened: list[Store] = []

    @abstractmethod
    def handle(self) -> Store:
        """A new handle, not yet open, on the one store of this place: each time of the same store."""

    @abstractmethod
    async def damage_checkpoint(self, run_key: int, n: int) -> None:
        """Change a byte of the stored state of checkpoint `n`, behind the store's back."""

    @abstractmethod
    async def damage_chunk(self, content_id: str, n: int) -> None:
        """Change a byte of chunk `n` of a content, behind the store's back."""

    @abstractmethod
    async def damage_state_of(self, owner: str) -> None:
        """Change a byte of the stored state of an owner that is no run, behind the store's back."""

    @abstractmethod
    async def damage_checkpoint_of(self, owner: str, n: int) -> None:
        """Change a byte of checkpoint `n` of an owner that is no run, behind the store's back."""

    @abstractmethod
    def elsewhere(self) -> Place:
        """Another place, with an empty store of its own and the same clock."""

    async def open(self) -> Store:
        """Another open handle on the store, closed when the test ends."""
        store = self.handle()
        await store.open()
        self._opened.append(store)
        return store

    async def close(self) -> None:
        """Close every handle that `open` gave."""
        while self._opened:
            await self._opened.pop().close()


class Promises:
    """The base of every part of the suite: the fixtures that a test takes."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def place(self) -> Place:
        """An empty store. A store's author overrides this fixture."""
        raise NotImplementedError("override the fixture `place` to return a Place with your store")

    @pytest_asyncio.fixture
    async def store(self, place: Place) -> AsyncIterator[Store]:
        """An open handle on the place's store."""
        try:
            yield await place.open()
        finally:
            await place.close()


# --- short ways to say things ---------------------------------------------------------------------------------


def new_run(run_id: str = "r", *, agent: str = AGENT, version: str = VERSION, input: bytes = b"{}") -> NewRun:
    """A run as most tests ask for it; `dataclasses.replace` says the rest."""
    return NewRun(id=run_id, agent=agent, version=version, input=input)


def step(
    name: str = "fetch",
    *,
    occurrence: int = 0,
    segment: int = 0,
    payload: bytes | None = None,
    status: EntryStatus = EntryStatus.OK,
    kind: EntryKind = EntryKind.STEP,
    key: str | None = None,
    signal: int | None = None,
) -> Entry:
    """The outcome of one call."""
    if payload is None:
        failed = status in (EntryStatus.FAILED, EntryStatus.RETRIED)
        payload = b'{"kind":"fatal","type":"ValueError","message":"bad"}' if failed else b'"done"'
    identity = Identity(segment, "", name, key, occurrence)
    return Entry(identity, kind, status, payload, signal=signal)


def steps(count: int, *, start: int = 0, segment: int = 0) -> tuple[Entry, ...]:
    """The outcomes of `count` calls of one name, one after another."""
    return tuple(
        step(occurrence=start + i, segment=segment, payload=b"%d" % (start + i)) for i in range(count)
    )


def save(segment: int = 1, *, name: str | None = None, state: bytes = b"{}", keep: int = 5) -> NewCheckpoint:
    """A checkpoint to be saved, which opens `segment`."""
    return NewCheckpoint(segment=segment, name=name, state=state, keep=keep)


async def register(
    store: Store,
    name: str = "w",
    *,
    serves: Sequence[Served] = SERVES,
    capacity: int = 8,
    lock: Path | None = None,
) -> int:
    """A new generation of a worker with a lease of `LEASE_US`, and the lock that it holds."""
    lock_path = None if lock is None else str(lock)
    new = NewWorker(
        name=name, host="here", pid=1, capacity=capacity, serves=tuple(serves), lock_path=lock_path
    )
    return await store.register_worker(new, LEASE_US)


@dataclass(slots=True)
class Attempt:
    """A run in the hands of a worker, as the worker sees it: it counts its own position."""

    store: Store
    claim: Claim
    position: int = field(init=False)

    def __post_init__(self) -> None:
        self.position = self.claim.run.position

    @property
    def run(self) -> Run:
        """The run as it was claimed."""
        return self.claim.run

    def change(
        self,
        *entries: Entry,
        notes: tuple[Note, ...] = (),
        checkpoint: NewCheckpoint | None = None,
        progress: Progress | None = None,
        outcome: Outcome | None = None,
    ) -> Change:
        """A Change at the position that the attempt is at."""
        return Change(
            run=self.run.key,
            token=self.run.token,
            position=self.position,
            entries=entries,
            notes=notes,
            checkpoint=checkpoint,
            progress=progress,
            outcome=outcome,
        )

    async def commit(
        self,
        *entries: Entry,
        notes: tuple[Note, ...] = (),
        checkpoint: NewCheckpoint | None = None,
        progress: Progress | None = None,
        outcome: Outcome | None = None,
    ) -> Committed:
        """Commit a Change that must be accepted."""
        change = self.change(*entries, notes=notes, checkpoint=checkpoint, progress=progress, outcome=outcome)
        answer = await commit_one(self.store, change)
        assert isinstance(answer, Committed), answer
        self.position = answer.position
        return answer

    async def settle(self, outcome: Outcome) -> Run:
        """End the attempt, and return the run as it is stored then."""
        await self.commit(outcome=outcome)
        return await self.store.get_run(self.run.id)


async def commit_one(store: Store, change: Change) -> Committed | RefusedChange:
    """Commit one Change, and return its answer."""
    answers = await store.commit([change])
    assert len(answers) == 1
    return answers[0]


async def start(store: Store, worker: int, run_id: str = "r", *, new: NewRun | None = None) -> Attempt:
    """Create a run and let the worker claim it, and it alone."""
    await store.create_run(new or new_run(run_id))
    return await take(store, worker, run_id)


async def take(store: Store, worker: int, run_id: str = "r") -> Attempt:
    """Let the worker claim the run by its id."""
    claims = await store.claim(worker, SERVES, 1, only=run_id)
    assert [claim.run.id for claim in claims] == [run_id]
    return Attempt(store, claims[0])


async def take_any(store: Store, worker: int, limit: int = 1) -> list[Attempt]:
    """Let the worker claim what is due."""
    return [Attempt(store, claim) for claim in await store.claim(worker, SERVES, limit)]


async def fingerprint(store: Store, run_id: str) -> tuple[object, ...]:
    """All that the store shows of a run: two equal fingerprints say that nothing changed."""
    run = await store.get_run(run_id)
    return (
        run,
        await store.read_events(run_id, 0, 10_000),
        await store.read_entries(run_id, payloads=True),
        await store.list_checkpoints(run_id),
        await store.read_inbox(run.key),
        await store.get_progress(run.key),
    )


async def event_types(store: Store, run_id: str) -> list[str]:
    """The types of the events of a run, in order."""
    return [event.type for event in await store.read_events(run_id, 0, 10_000)]
