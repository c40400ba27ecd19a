"""The engine of the PostgreSQL store: its connections, which thread does what, and what becomes of a lost answer.

Laws of this file:
1. Nothing waits for the database on the thread of the event loop.
2. Work, control, reading and leases have connections of their own: none waits for another's.
3. A call that was begun is finished, also when its caller is cancelled.
4. What was sent and not answered is looked up before anything is done again: `Connection.came_through`.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import psycopg
from psycopg import errors

from holdfast.clock import Clock
from holdfast.errors import StoreUnavailable
from holdfast.model import Change, Committed, RefusedChange
from holdfast.store.postgres import hot, schema
from holdfast.store.postgres.connection import Connection
from holdfast.store.postgres.errors import Fenced, translate
from holdfast.store.postgres.news import News
from holdfast.store.postgres.quick import Quick
from holdfast.store.postgres.target import Target
from holdfast.store.transactions import commit
from holdfast.store.transactions.commit import Gathered
from holdfast.store.transactions.engine import RUNS

T = TypeVar("T")
Answer = Committed | RefusedChange

_CHANCE: Final = random.Random()
"""Pauses of many processes must not fall together; nothing else depends on it."""

WORKERS: Final = 1  # connections for what attempts record, beside the one of `Quick`
CONTROLLERS: Final = 2  # for everything else that writes: RUNS lets one at a time through, anywhere
READERS: Final = 2
TRIES: Final = 6
"""How often a transaction is done that the database gave up for another, or whose connection was lost on the way."""
LOOK_UP_S: Final = 5.0
"""How long it is tried to find out what became of a transaction: a restart of the server takes a second or two."""
POLL_S: Final = 2.0
"""The longest without a look, where no notice may come."""
_APART: Final = 0.75
"""Between this part of its time and all of it a waiter wakes: many must not look at once."""


class Pool:
    """Connections for one purpose, each used by one thread at a time."""

    def __init__(self, target: Target, clock: Clock | None, size: int, name: str) -> None:
        self.threads = ThreadPoolExecutor(size, thread_name_prefix=f"holdfast-{name}")
        self._all = [Connection(target, clock) for _ in range(size)]
        self._free = list(self._all)

    def take(self) -> Connection:
        """One that nobody uses: there are as many as threads."""
        return self._free.pop()

    def give(self, connection: Connection) -> None:
        """It is not used any more."""
        self._free.append(connection)

    def close(self) -> None:
        """Finish what was begun, and close all of them."""
        self.threads.shutdown()
        for connection in self._all:
            connection.close()


class Engine:
    """One database, opened: who writes, who reads, and what wakes who waits."""

    def __init__(self, target: Target, clock: Clock | None) -> None:
        self._target = target
        self._clock = clock
        self._open = False
        self._opening = asyncio.Lock()
        self._lease_lock = threading.Lock()
        self._dozing: set[asyncio.Future[None]] = set()
        self._news_no = 0
        self._seen: weakref.WeakKeyDictionary[asyncio.Task[Any], int] = weakref.WeakKeyDictionary()

    # --- opening and closing --------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, create or migrate the schema."""
        async with self._opening:
            if self._open:
                return
            await asyncio.get_running_loop().run_in_executor(None, self._prepare)
            self._work = Pool(self._target, self._clock, WORKERS, "work")
            self._quick = Quick(self._target, self._clock, self._work.threads, self._found_again)
            self._control = Pool(self._target, self._clock, CONTROLLERS, "control")
            self._reading = Pool(self._target, self._clock, READERS, "read")
            self._lease = Connection(self._target, self._clock)
            self._talking = ThreadPoolExecutor(1, thread_name_prefix="holdfast-news")
            self._news = News(self._target, self._talking, self._heard)
            self._open = True

    def _prepare(self) -> None:
        connection = Connection(self._target, self._clock)
        try:
            schema.prepare(connection)
        except psycopg.Error as error:
            raise translate(error, self._target.where) from error
        finally:
            connection.close()

    async def close(self) -> None:
        """Finish what was begun and close every connection. Idempotent."""
        if not self._open:
            return
        self._open = False
        await self._quick.stop()
        self._news.stop()
        self._wake()
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._disconnect))

    def _disconnect(self) -> None:
        self._talking.shutdown()
        self._news.close()
        for pool in (self._work, self._control, self._reading):
            pool.close()
        self._quick.close()
        with self._lease_lock:
            self._lease.close()

    def check_open(self) -> None:
        """Raise StoreUnavailable when the store is not open."""
        if not self._open:
            raise StoreUnavailable(f"the store {self._target.where} is not open")

    def check_kept(self) -> None:
        """A database that is dropped says so by itself."""
        self.check_open()

    # --- transactions ---------------------------------------------------------------------------------------

    async def write(
        self,
        work: Callable[[Connection], T],
        *,
        locks: Sequence[str] = (RUNS,),
        is_news: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """Do `work` in a transaction under these locks, on a connection for control."""
        self.check_open()
        result = await self._on(self._control, lambda connection: self._transact(connection, locks, work))
        if is_news(result):
            self._tell()
        return result

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do `work`, which only reads, on a reading thread. It sees one moment of the store."""
        self.check_open()
        return await self._on(self._reading, lambda connection: self._look(connection, work))

    async def read_once(self, work: Callable[[Connection], T]) -> T:
        """Do `work`, which only reads, by one statement: one journey."""
        self.check_open()
        return await self._on(
            self._reading, lambda connection: self._again(connection, lambda: work(connection))
        )

    def glance(self, work: Callable[[Connection], T | None]) -> T | None:
        """Nothing of a database elsewhere is read here and now."""
        self.check_open()
        return None

    def lease(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction on the connection of the leases. Blocks; for a thread of its own."""
        self.check_open()
        with self._lease_lock:
            self.check_open()
            try:
                return self._transact(self._lease, (), work)
            except psycopg.Error as error:
                raise translate(error, self._target.where) from error

    async def aside(self, work: Callable[[], T]) -> T:
        """Do `work`, which needs no connection, off the event loop: hashing and compressing."""
        self.check_open()
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._reading.threads, work))

    async def _on(self, pool: Pool, work: Callable[[Connection], T]) -> T:
        """Do `work` on a thread and a connection of the pool, to its end even if the caller is cancelled."""

        def do() -> T:
            connection = pool.take()
            try:
                return work(connection)
            except psycopg.Error as error:
                raise translate(error, self._target.where) from error
            finally:
                pool.give(connection)

        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(pool.threads, do))

    def _transact(self, connection: Connection, locks: Sequence[str], work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction, again when the database gave it up or the connection was lost before its end."""
        numbers = [self._target.lock(name) for name in locks]

        def once() -> T:
            with connection.transaction(numbers):
                result = work(connection)
            if not self._made_durable(connection):
                raise _GivenUp
            return result

        return self._again(connection, once)

    def _look(self, connection: Connection, work: Callable[[Connection], T]) -> T:
        def once() -> T:
            with connection.moment():
                return work(connection)

        return self._again(connection, once)

    def _again(self, connection: Connection, once: Callable[[], T]) -> T:
        """What `once` returns, which has done nothing whenever it raises."""
        tries = 0
        while True:
            tries += 1
            was_open = connection.is_open
            try:
                return once()
            except (Fenced, _GivenUp):
                connection.disown()
                if tries >= TRIES:
                    raise StoreUnavailable(
                        f"{self._target.where} loses our transactions; try again"
                    ) from None
            except (errors.SerializationFailure, errors.DeadlockDetected):
                if tries >= TRIES:
                    raise
                time.sleep(_CHANCE.uniform(0, 0.01 * 2**tries))
            except psycopg.OperationalError:
                # Of a connection that was there, and is not: the database may have been started anew meanwhile.
                if not was_open or connection.is_open or tries >= 2:
                    raise
                connection.disown()

    def _made_durable(self, connection: Connection) -> bool:
        """Commit; False when nothing of it was recorded."""
        try:
            connection.commit()
        except psycopg.OperationalError as error:
            if connection.is_open:
                raise
            return self._came_through(connection, error)
        return True

    def _came_through(self, connection: Connection, lost: psycopg.Error) -> bool:
        """Whether a transaction was recorded whose answer did not come. Raises StoreUnavailable when nobody can say."""
        last = time.monotonic() + LOOK_UP_S
        while True:
            try:
                return connection.came_through()
            except psycopg.OperationalError:
                connection.close()
                if time.monotonic() > last or not self._open:
                    connection.disown()
                    raise StoreUnavailable(
                        f"{self._target.where} was lost before it answered, and did not come back: nobody knows whether"
                        f" the last write was recorded; look before you try again ({lost})"
                    ) from lost
                time.sleep(_CHANCE.uniform(0.05, 0.3))

    # --- commits --------------------------------------------------------------------------------------------

    async def commit(self, changes: Sequence[Change]) -> list[Answer]:
        """Apply the Changes in one transaction: in one statement, when they are nothing but steps."""
        self.check_open()
        if not changes:
            return []
        if len(changes) == 1 and (done := await self._quick.record(changes[0])) is not None:
            self._tell()
            return [done]
        commit.weigh(changes)
        answers = await self._on(self._work, lambda connection: self._commit(connection, changes))
        self._tell()
        return answers

    def commit_now(self, changes: Sequence[Change]) -> list[Answer] | None:
        """The database is elsewhere."""
        self.check_open()
        return None

    def commit_soon(self, change: Change, answered: Callable[[Committed | Exception | None], None]) -> bool:
        """Send a step by itself, on this thread, and be called by the event loop."""
        self.check_open()

        def told(answer: Committed | Exception | None) -> None:
            if answer is not None and self._open:
                self._tell()
            answered(answer)

        return self._quick.begin(change, told)

    def _commit(self, connection: Connection, changes: Sequence[Change]) -> list[Answer]:
        gathered = commit.gather(changes)
        answers: dict[int, Answer] = {}
        if gathered is not None:
            answers.update(self._again(connection, lambda: self._record(connection, gathered, changes)))
        rest = [index for index in range(len(changes)) if index not in answers]
        if rest:
            left = [changes[index] for index in rest]
            answers.update(zip(rest, self._commit_whole(connection, left), strict=True))
        return [answers[index] for index in range(len(changes))]

    def _record(
        self, connection: Connection, gathered: Gathered, changes: Sequence[Change]
    ) -> dict[int, Committed]:
        """Record in one statement. A connection that is lost meanwhile may have carried it all the same."""
        connection.register()  # by itself: what is lost here is nothing
        given_us = None if self._clock is None else self._clock.wall_us()
        try:
            answers = hot.record(connection, gathered, changes, given_us)
        except psycopg.OperationalError as error:
            if connection.is_open:
                raise
            if not self._came_through(connection, error):
                raise _GivenUp from error
            try:
                return hot.recorded(connection, gathered, changes)
            except psycopg.Error as lost:  # it is recorded: to do it again would do it twice
                raise translate(lost, self._target.where) from lost
        if answers is None:
            raise Fenced
        return answers

    def _found_again(self, connection: Connection, change: Change, lost: psycopg.Error) -> Committed | None:
        """What became of a step whose answer was lost; None when nothing did."""
        try:
            if not self._came_through(connection, lost):
                connection.disown()
                return None
            gathered = commit.gather([change])
            assert gathered is not None, "a step is plain"
            return hot.recorded(connection, gathered, [change]).get(0)
        except psycopg.Error as error:
            raise translate(error, self._target.where) from error

    def _commit_whole(self, connection: Connection, changes: Sequence[Change]) -> list[Answer]:
        try:
            return self._transact(
                connection,
                commit.locks_of(changes),
                lambda connection: commit.commit(connection, changes, connection.clock.wall_us()),
            )
        except psycopg.DataError as error:  # one of them has a text that the database cannot keep
            if len(changes) == 1:
                told = str(translate(error, self._target.where))
                return [RefusedChange(state=None, token=changes[0].token, message=told, conflict=True)]
        return [answer for change in changes for answer in self._commit_whole(connection, [change])]

    # --- hints ----------------------------------------------------------------------------------------------

    async def wait_for_news(self, timeout_s: float) -> None:
        """Return when a process told of a write, or after the time-out; sooner where no notice may come.

        What a task has already been told of is remembered per task, so what happens between two waits ends the second
        one at once.
        """
        self.check_open()
        self._news.listen()
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        if self._seen.get(task, self._news_no) == self._news_no and timeout_s > 0:
            await self._doze(min(timeout_s, POLL_S) * _CHANCE.uniform(_APART, 1))
            self.check_open()
        self._seen[task] = self._news_no

    async def _doze(self, length_s: float) -> None:
        loop = asyncio.get_running_loop()
        awake: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(length_s, _end, awake)
        self._dozing.add(awake)
        try:
            await awake
        finally:
            timer.cancel()
            self._dozing.discard(awake)

    def _tell(self) -> None:
        """Of a write of our own: who waits here need not be told by the database."""
        self._heard()
        self._news.tell()

    def _heard(self) -> None:
        self._news_no += 1
        self._wake()

    def _wake(self) -> None:
        for awake in self._dozing:
            _end(awake)


class _GivenUp(Exception):
    """The transaction was looked up, and nothing of it was recorded: it may be done again."""


def _end(awake: asyncio.Future[None]) -> None:
    if not awake.done():
        awake.set_result(None)
