"""The engine of the SQLite store: its connections, and which thread does what.

Laws of this file:
1. One connection writes, under one lock; its transactions are the functions of `store.transactions`.
2. Nothing waits for another process's lock, or for a large read, on the thread of the event loop.
3. A call that was begun is finished, also when its caller is cancelled.

Where `commit` runs is decided per call, by measurement (see `_fits_loop`); the rest goes to threads of the store's own.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from holdfast import stirring
from holdfast.clock import Clock
from holdfast.errors import StoreGone, StoreUnavailable
from holdfast.model import Change, Committed, RefusedChange
from holdfast.store.sqlite import filesystem, schema
from holdfast.store.sqlite.connection import Connection
from holdfast.store.sqlite.errors import translate, translated
from holdfast.store.transactions import commit

T = TypeVar("T")

LOOP_ROWS: Final = 256  # a larger batch would keep the event loop from everything else for milliseconds
LOOP_BYTES: Final = 256 * 1024
LOOP_COMMIT_S: Final = 0.002
READERS: Final = 2
_POLL_S: Final = (0.004, 0.01)
_HEARING_POLL_S: Final = 0.05
"""The longest without a look where writes are heard: what a hint that was missed may cost."""
_STIRRED_POLL_S: Final = 0.0005
"""The first look after a write: the commit is seen when it is on the disk, which takes a quick one about as long."""


class Engine:
    """One file, opened: who writes, who reads, and what wakes who waits."""

    def __init__(self, path: Path, *, clock: Clock, inline: bool) -> None:
        self._path = path
        self._file = str(path)
        self._clock = clock
        self._inline = inline
        self._open = False
        self._identity: tuple[int, int] | None = None
        self._write_lock = threading.Lock()
        self._lease_lock = threading.Lock()
        self._opening = asyncio.Lock()
        self._lease: Connection | None = None
        self._readers: list[Connection] = []
        self._free_readers: list[Connection] = []
        self._queued = 0  # commits on their way to the writing thread
        self._commit_s = 0.0  # how long the disk takes for a COMMIT, moving average
        self._dozing: set[asyncio.Future[bool]] = set()
        self._stirring: stirring.Stirring | None = None
        self._listened = False
        self._versions: weakref.WeakKeyDictionary[asyncio.Task[Any], int] = weakref.WeakKeyDictionary()

    # --- opening and closing --------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the file, create or migrate its schema."""
        async with self._opening:
            if self._open:
                return
            if self._inline:
                self._connect()
            else:
                await asyncio.get_running_loop().run_in_executor(None, self._connect)
            self._open = True

    def _connect(self) -> None:
        with translated(self._path):
            self._writer = schema.prepare(self._path, self._clock)
            self._identity = filesystem.identity(self._file)
            self._watcher = Connection(self._path, clock=self._clock, reads_only=True, busy_ms=0)
            if not self._inline:
                self._writing = ThreadPoolExecutor(1, thread_name_prefix="holdfast-write")
                self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="holdfast-read")

    async def close(self) -> None:
        """Finish what was begun and close the file. Idempotent."""
        if not self._open:
            return
        self._open = False
        self._stop_hearing()
        if self._inline:
            self._disconnect()
        else:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._disconnect))

    def _disconnect(self) -> None:
        if not self._inline:
            self._writing.shutdown()
            self._reading.shutdown()
        with self._write_lock, self._lease_lock:
            for connection in (self._writer, self._watcher, self._lease, *self._readers):
                if connection is not None:
                    connection.close()
            self._lease, self._readers, self._free_readers = None, [], []

    def check_open(self) -> None:
        """Raise StoreUnavailable when the store is not open."""
        if not self._open:
            raise StoreUnavailable(f"the store {self._path} is not open")

    def check_kept(self) -> None:
        """Raise StoreGone when the file was deleted or replaced: what is written now would be lost."""
        found = filesystem.identity(self._file)
        if found != self._identity:
            what = "was deleted" if found is None else "was replaced by another file"
            raise StoreGone(
                f"{self._path} {what} while in use; what is written now would be lost: start again"
            )

    # --- transactions ---------------------------------------------------------------------------------------

    async def write(
        self,
        work: Callable[[Connection], T],
        *,
        locks: Sequence[str] = (),
        is_news: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """Do `work` in a transaction, on the writing thread. The file is one lock: `locks` are part of it."""
        self.check_open()

        def transaction() -> T:
            with self._write_lock, translated(self._path):
                self._writer.patience(None)
                with self._writer.transaction():
                    return work(self._writer)

        if self._inline:
            return transaction()
        result = await self._on(self._writing, transaction)
        if is_news(result):
            self._tell()
        return result

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do `work`, which only reads, on a reading thread. It sees one moment of the store."""
        self.check_open()

        def moment() -> T:
            with translated(self._path):
                connection = self._reader()
            try:
                with translated(self._path), connection.moment():
                    return work(connection)
            finally:
                self._free_readers.append(connection)

        return moment() if self._inline else await self._on(self._reading, moment)

    def _reader(self) -> Connection:
        """One that nobody reads on; each thread that reads at the same time has its own. SQLite reads the schema for
        every connection, which takes a millisecond, so there are no more than that."""
        try:
            return self._free_readers.pop()
        except IndexError:
            try:
                connection = Connection(self._path, clock=self._clock, reads_only=True)
            finally:
                self.check_kept()  # opened only now, it could be of another file
            self._readers.append(connection)
            return connection

    async def read_once(self, work: Callable[[Connection], T]) -> T:
        """The same: a transaction that reads costs nothing here."""
        return await self.read(work)

    def glance(self, work: Callable[[Connection], T | None]) -> T | None:
        """Do `work`, which reads a row or two, here and now: a thread would cost several times what it does. None, as
        `work` itself may say: that is not for here."""
        self.check_open()
        try:
            with translated(self._path):
                return work(self._watcher)
        except StoreUnavailable:
            return None

    def lease(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction on the connection of the leases. Blocks; for a thread of its own."""
        self.check_open()
        self.check_kept()
        with self._lease_lock, translated(self._path):
            self.check_open()
            if self._lease is None:
                self._lease = Connection(self._path, clock=self._clock)
            with self._lease.transaction():
                return work(self._lease)

    async def aside(self, work: Callable[[], T]) -> T:
        """Do `work`, which needs no connection, off the event loop: hashing and compressing."""
        self.check_open()
        return work() if self._inline else await self._on(self._reading, work)

    async def _on(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """Do `work` on a thread, to its end even if the caller is cancelled."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(threads, work))

    # --- commits --------------------------------------------------------------------------------------------

    async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        """Apply the Changes in one transaction, where it is quickest."""
        if not self._inline:
            answers = self.commit_now(changes)
            return answers if answers is not None else await self._queue(changes)
        self.check_open()
        self.check_kept()
        commit.weigh(changes)
        return self._commit(changes)

    def commit_soon(self, change: Change, answered: Callable[[Committed | Exception | None], None]) -> bool:
        """Here and now is sooner."""
        return False

    def commit_now(self, changes: Sequence[Change]) -> list[Committed | RefusedChange] | None:
        """Apply the Changes on this thread; None, with nothing done, when that could take long."""
        self.check_open()
        self.check_kept()  # what is acknowledged must not be in a file that is gone
        if not changes:
            return []
        size_bytes = commit.weigh(changes)
        fits = self._fits_loop(len(changes), size_bytes)
        if self._inline or not fits or not self._write_lock.acquire(blocking=False):
            return None
        try:
            self._writer.patience(0)  # None when another process has the file's lock
            return self._commit_locked(changes)
        except apsw.BusyError:
            return None
        except apsw.Error as error:
            raise translate(error, self._path) from error
        finally:
            self._write_lock.release()

    def _fits_loop(self, changes: int, size_bytes: int) -> bool:
        """Whether so many Changes are committed at once, on the event loop's thread.

        A hop to a thread and back costs 60 to 100 µs and, under load, up to a switch interval of the GIL, while a
        commit on a quick disk costs 150 µs: on the loop sequential steps are 1.2 to 1.3 × as fast, and batches not
        slower (measured). A slow disk, a large batch and large payloads (compressing, hashing) go to the thread,
        and so does what comes while others are on their way there: commits keep their order.
        """
        quick = not self._queued and self._commit_s <= LOOP_COMMIT_S
        return quick and changes <= LOOP_ROWS and size_bytes <= LOOP_BYTES

    def _commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        with self._write_lock, translated(self._path):
            self._writer.patience(None)
            return self._commit_locked(changes)

    async def _queue(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        def done(_: asyncio.Future[list[Committed | RefusedChange]]) -> None:
            self._queued -= 1

        self._queued += 1
        work = asyncio.get_running_loop().run_in_executor(self._writing, self._commit, changes)
        work.add_done_callback(done)
        return await asyncio.shield(work)

    def _commit_locked(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        writer = self._writer
        writer.begin()
        try:
            answers = commit.commit(writer, changes, self._clock.wall_us())
            began_s = time.perf_counter()
            writer.commit()
        except BaseException:
            writer.rollback()
            raise
        self._commit_s += 0.1 * (time.perf_counter() - began_s - self._commit_s)
        return answers

    # --- hints ----------------------------------------------------------------------------------------------

    async def wait_for_news(self, timeout_s: float) -> None:
        """Return when any process has committed, or after the time-out.

        `data_version` changes with every commit of another connection; asking costs 2 µs. When to ask is told by writes
        to the log: they come just before a commit is to be seen, so from then on it is asked often. What a task has
        already been told of is remembered per task, so what happens between two waits ends the second one at once.
        """
        self.check_open()
        if self._inline:
            await asyncio.sleep(min(timeout_s, _POLL_S[1]))
            return
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        seen = self._versions.get(task)
        if seen is None:
            seen = self._version()
        ends_at, pause_s = time.monotonic() + timeout_s, _POLL_S[0]
        while (version := self._version()) == seen and (left_s := ends_at - time.monotonic()) > 0:
            stirred = await self._doze(min(pause_s, left_s))
            longest_s = _POLL_S[1] if self._stirring is None else _HEARING_POLL_S
            pause_s = _STIRRED_POLL_S if stirred else min(pause_s * 1.5, longest_s)
        self._versions[task] = version

    async def _doze(self, length_s: float) -> bool:
        """Sleep, or until a commit of this process, or a write of any (True). A third of what `asyncio.timeout` costs:
        an idle worker does nothing else all day."""
        loop = asyncio.get_running_loop()
        awake: asyncio.Future[bool] = loop.create_future()
        stirred = self._hear(loop)  # before we came: its commit may not have been seen yet
        timer = loop.call_later(_STIRRED_POLL_S if stirred else length_s, _wake, awake, stirred)
        self._dozing.add(awake)
        try:
            return await awake
        finally:
            timer.cancel()
            self._dozing.discard(awake)
            if self._stirring is not None and not self._dozing:
                loop.remove_reader(self._stirring.fd)

    def _hear(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Listen for as long as somebody waits: nobody who does not is troubled with our own writes. Whether something
        was written since somebody waited last."""
        if not self._listened:
            self._listened = True
            self._stirring = stirring.listen(Path(f"{self._path}-wal"), stirring.WRITTEN)
        if self._stirring is None or self._dozing:
            return False
        loop.add_reader(self._stirring.fd, self._stirred, self._stirring)
        return self._stirring.heard()

    def _stop_hearing(self) -> None:
        """Before anything is closed: the number of the descriptor may be somebody else's soon."""
        heard, self._stirring, self._listened = self._stirring, None, False
        if heard is not None:
            asyncio.get_running_loop().remove_reader(heard.fd)
            heard.close()

    def _stirred(self, heard: stirring.Stirring) -> None:
        heard.heard()
        for awake in self._dozing:
            _wake(awake, True)

    def _version(self) -> int:
        self.check_open()
        with translated(self._path):
            version: int = self._watcher.value("PRAGMA data_version")
        return version

    def _tell(self) -> None:
        """Wake who waits in this process: a commit of our own need not be found by asking."""
        for awake in self._dozing:
            _wake(awake, False)


def _wake(awake: asyncio.Future[bool], stirred: bool) -> None:
    if not awake.done():
        awake.set_result(stirred)
