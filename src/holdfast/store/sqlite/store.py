"""The SQLite store: one file, no server. The protocol's methods, and which thread does what.

Laws of this file:
1. One connection writes, under one lock; its transactions live in the modules beside this one, as functions.
2. Nothing waits for another process's lock, or for a large read, on the thread of the event loop.
3. A call that was begun is finished, also when its caller is cancelled.

Where `commit` runs is decided per call, by measurement (see `_fits_loop`); the rest goes to threads of the store's own.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import apsw

from holdfast.clock import Clock
from holdfast.errors import StoreGone, StoreUnavailable
from holdfast.model import (
    Ask,
    Change,
    Checkpoint,
    Claim,
    Committed,
    Created,
    Entry,
    Event,
    NewRun,
    NewWorker,
    Progress,
    QueueRecord,
    RefusedChange,
    Run,
    RunFilter,
    Sample,
    Served,
    Signal,
    WorkerRecord,
)
from holdfast.store.protocol import Decide
from holdfast.store.sqlite import claim, commit, decisions, filesystem, reading, runs, schema, sweep, workers
from holdfast.store.sqlite.connection import Connection
from holdfast.store.sqlite.errors import translated

T = TypeVar("T")

LOOP_ROWS: Final = 256  # a larger batch would keep the event loop from everything else for milliseconds
LOOP_BYTES: Final = 256 * 1024
LOOP_COMMIT_S: Final = 0.002
READERS: Final = 2
FOUND_AT_START: Final = 1000  # runs that a new worker brings the code for; the sweeps do the rest
_POLL_S: Final = (0.005, 0.02)


class SQLiteStore:
    """Durable memory in one SQLite file, for any number of processes of one machine."""

    def __init__(self, path: str | Path, *, clock: Clock, inline: bool = False) -> None:
        """`inline` does everything on the calling thread: for the simulator, whose threads would not be repeatable."""
        self._path = Path(os.path.abspath(path))
        self._clock = clock
        self._inline = inline
        self._open = False
        self._identity: tuple[int, int] | None = None
        self._write_lock = threading.Lock()
        self._lease_lock = threading.Lock()
        self._opening = asyncio.Lock()
        self._lease: Connection | None = None
        self._queued = 0  # commits on their way to the writing thread
        self._commit_s = 0.0  # how long the disk takes for a COMMIT, moving average
        self._news = asyncio.Event()
        self._versions: weakref.WeakKeyDictionary[asyncio.Task[Any], int] = weakref.WeakKeyDictionary()

    @property
    def url(self) -> str:
        """The URL that opens this store again."""
        return f"sqlite:///{self._path}"

    @property
    def lock_folder(self) -> Path | None:
        """Beside the file: the locks of the workers on this machine, in whatever container they run."""
        return self._path.with_name(f"{self._path.name}-workers")

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
            schema.prepare(self._path, self._clock)
            self._identity = filesystem.identity(self._path)
            self._writer = Connection(self._path)
            self._watcher = Connection(self._path, reads_only=True)
            self._readers = [
                Connection(self._path, reads_only=True) for _ in range(1 if self._inline else READERS)
            ]
            self._free_readers = list(self._readers)
            if not self._inline:
                self._writing = ThreadPoolExecutor(1, thread_name_prefix="holdfast-write")
                self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="holdfast-read")

    async def close(self) -> None:
        """Finish what was begun and close the file. Idempotent."""
        if not self._open:
            return
        self._open = False
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
            self._lease = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- runs -----------------------------------------------------------------------------------------------

    async def now(self) -> int:
        self._check_open()
        return self._clock.wall_us()

    async def create_run(self, new: NewRun) -> Created:
        return await self._write(lambda connection: runs.create(connection, new, self._clock.wall_us()))

    async def get_run(self, run_id: str) -> Run:
        return await self._read(lambda connection: decisions.run_by_id(connection, run_id))

    async def get_input(self, run_id: str) -> bytes:
        return await self._read(lambda connection: reading.input_of(connection, run_id))

    async def get_progress(self, run_key: int) -> Progress | None:
        return await self._read(lambda connection: reading.progress(connection, run_key))

    async def list_runs(self, chosen: RunFilter) -> list[Run]:
        return await self._read(lambda connection: reading.runs(connection, chosen))

    async def find_runs_with_input(self, agent: str, input_json: bytes) -> list[Run]:
        return await self._read(lambda connection: reading.runs_with_input(connection, agent, input_json))

    async def update_run(self, run_id: str, decide: Decide) -> Run:
        return await self._write(
            lambda connection: runs.update(connection, run_id, decide, self._clock.wall_us())
        )

    async def delete_run(self, run_id: str) -> None:
        await self._write(lambda connection: runs.delete(connection, run_id))

    async def prune(self, before_us: int, limit: int) -> int:
        return await self._write(lambda connection: runs.prune(connection, before_us, limit))

    # --- attempts -------------------------------------------------------------------------------------------

    async def claim(
        self, worker: int, serves: Sequence[Served], limit: int, *, only: str | None = None
    ) -> list[Claim]:
        def looked(connection: Connection) -> claim.Asking | None:
            self._check_file()
            asks = claim.asking(connection, self._clock, worker, serves, limit, only)
            return asks if only is not None or claim.look(connection, self._clock, asks) else None

        asks = await self._read(looked)
        if asks is None:
            return []
        return await self._write(lambda connection: claim.claim(connection, self._clock, asks))

    async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        if not self._inline:
            answers = self.commit_now(changes)
            return answers if answers is not None else await self._queue(changes)
        self._check_open()
        self._check_file()
        commit.check(changes)
        return self._commit(changes)

    def commit_now(self, changes: Sequence[Change]) -> list[Committed | RefusedChange] | None:
        self._check_open()
        self._check_file()  # what is acknowledged must not be in a file that is gone
        if not changes:
            return []
        commit.check(changes)
        if self._inline or not self._fits_loop(changes) or not self._write_lock.acquire(blocking=False):
            return None
        try:
            return self._commit_impatiently(changes)
        finally:
            self._write_lock.release()

    async def asks(self, worker: int) -> list[Ask]:
        return await self._read(lambda connection: reading.asks(connection, worker))

    async def get_once(self, run_key: int, key: str) -> Entry | None:
        return await self._read(lambda connection: reading.once(connection, run_key, key))

    async def count_once(self, run_key: int) -> int:
        return await self._read(lambda connection: reading.count_once(connection, run_key))

    # --- signals --------------------------------------------------------------------------------------------

    async def add_signal(self, run_id: str, name: str, payload: bytes, dedup: str | None = None) -> Signal:
        return await self._write(
            lambda connection: runs.add_signal(
                connection, run_id, name, payload, dedup, self._clock.wall_us()
            )
        )

    async def read_inbox(self, run_key: int) -> tuple[int, list[Signal]]:
        return await self._read(lambda connection: reading.inbox(connection, run_key))

    # --- reading --------------------------------------------------------------------------------------------

    async def read_events(self, run_id: str, after: int, limit: int) -> list[Event]:
        return await self._read(lambda connection: reading.events(connection, run_id, after, limit))

    async def read_entries(self, run_id: str, *, payloads: bool = False) -> list[Entry]:
        return await self._read(lambda connection: reading.entries(connection, run_id, payloads))

    async def list_checkpoints(self, run_id: str) -> list[Checkpoint]:
        return await self._read(lambda connection: reading.checkpoints(connection, run_id))

    async def load_checkpoint(self, run_id: str, n: int | None = None) -> Checkpoint:
        return await self._read(lambda connection: reading.checkpoint(connection, run_id, n))

    # --- workers and queues ---------------------------------------------------------------------------------

    async def register_worker(self, new: NewWorker, lease_us: int) -> int:
        def register(connection: Connection) -> int:
            key = workers.register(connection, self._clock, new, lease_us)
            served = {(each.agent, each.version) for each in new.serves}
            sweep.find_code(connection, served, self._clock.wall_us(), FOUND_AT_START)
            return key

        return await self._write(register)

    def renew_lease(self, worker: int, lease_us: int, sample: Sample | None) -> bool:
        """Renew the worker's lease. Blocks; for a thread of its own, on a connection of its own."""
        self._check_open()
        self._check_file()
        with self._lease_lock, translated(self._path):
            self._check_open()
            if self._lease is None:
                self._lease = Connection(self._path)
            with self._lease.transaction():
                return workers.renew(self._lease, self._clock, worker, lease_us, sample)

    async def retire_worker(self, worker: int, *, counted: bool = False) -> None:
        await self._write(lambda connection: workers.retire(connection, worker, counted))

    async def mark_draining(self, worker: int) -> None:
        await self._write(lambda connection: workers.mark_draining(connection, worker))

    async def list_workers(self) -> list[WorkerRecord]:
        return await self._read(lambda connection: workers.listed(connection, self._clock))

    async def sweep(self, limit: int) -> int:
        locks = await self._read(lambda connection: workers.try_locks(connection, self._clock))
        swept, forgotten = await self._write(
            lambda connection: sweep.sweep(connection, self._clock, limit, locks), is_news=bool
        )
        for lock in forgotten:
            workers.remove_lock(self._path, lock)
        return swept

    async def limit_queue(self, name: str, limit: int | None) -> None:
        await self._write(lambda connection: runs.limit_queue(connection, name, limit))

    async def list_queues(self) -> list[QueueRecord]:
        return await self._read(reading.queues)

    # --- hints ----------------------------------------------------------------------------------------------

    async def wait_for_news(self, timeout_s: float) -> None:
        """Return when any process has committed, or after the time-out.

        `data_version` changes with every commit of another connection; asking costs 2 µs. What a task has already
        been told of is remembered per task, so what happens between two waits ends the second one at once.
        """
        self._check_open()
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
            try:
                async with asyncio.timeout(min(pause_s, left_s)):
                    await self._news.wait()
            except TimeoutError:
                pause_s = min(pause_s * 1.5, _POLL_S[1])
        self._versions[task] = version

    def _version(self) -> int:
        self._check_open()
        with translated(self._path):
            version: int = self._watcher.value("PRAGMA data_version")
        return version

    def _tell(self) -> None:
        """Wake who waits in this process: a commit of our own need not be found by asking."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    # --- which thread does what -----------------------------------------------------------------------------

    def _fits_loop(self, changes: Sequence[Change]) -> bool:
        """Whether the Changes are committed at once, on the event loop's thread.

        A hop to a thread and back costs 60 to 100 µs and, under load, up to a switch interval of the GIL, while a
        commit on a quick disk costs 150 µs: on the loop sequential steps are 1.2 to 1.3 × as fast, and batches not
        slower (measured). A slow disk, a large batch and large payloads (compressing, hashing) go to the thread,
        and so does what comes while others are on their way there: commits keep their order.
        """
        if self._queued or self._commit_s > LOOP_COMMIT_S or len(changes) > LOOP_ROWS:
            return False
        size = 0
        for change in changes:
            for entry in change.entries:
                size += len(entry.payload)
            if change.checkpoint is not None:
                size += len(change.checkpoint.state)
        return size <= LOOP_BYTES

    def _commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        with self._write_lock, translated(self._path):
            return self._commit_locked(changes)

    async def _queue(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        def done(_: asyncio.Future[list[Committed | RefusedChange]]) -> None:
            self._queued -= 1

        self._queued += 1
        work = asyncio.get_running_loop().run_in_executor(self._writing, self._commit, changes)
        work.add_done_callback(done)
        return await asyncio.shield(work)

    def _commit_impatiently(self, changes: Sequence[Change]) -> list[Committed | RefusedChange] | None:
        """Commit without waiting for the file's lock; None when another process has it."""
        writer = self._writer
        writer.patience(0)
        try:
            with translated(self._path):
                try:
                    return self._commit_locked(changes)
                except apsw.BusyError:
                    return None
        finally:
            writer.patience(None)

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

    async def _write(
        self, work: Callable[[Connection], T], *, is_news: Callable[[T], bool] = lambda _: True
    ) -> T:
        """Do `work` in a transaction, on the writing thread."""
        self._check_open()

        def transaction() -> T:
            with self._write_lock, translated(self._path), self._writer.transaction():
                return work(self._writer)

        if self._inline:
            return transaction()
        result = await self._on(self._writing, transaction)
        if is_news(result):
            self._tell()
        return result

    async def _read(self, work: Callable[[Connection], T]) -> T:
        """Do `work`, which only reads, on a reading thread. It sees one moment of the store."""
        self._check_open()

        def moment() -> T:
            connection = self._free_readers.pop()  # as many connections as threads
            try:
                with translated(self._path), connection.moment():
                    return work(connection)
            finally:
                self._free_readers.append(connection)

        return moment() if self._inline else await self._on(self._reading, moment)

    async def _on(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """Do `work` on a thread, to its end even if the caller is cancelled."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(threads, work))

    def _check_open(self) -> None:
        if not self._open:
            raise StoreUnavailable(f"the store {self._path} is not open")

    def _check_file(self) -> None:
        """Raise StoreGone when the file was deleted or replaced: what is written now would be lost."""
        found = filesystem.identity(self._path)
        if found != self._identity:
            what = "was deleted" if found is None else "was replaced by another file"
            raise StoreGone(
                f"{self._path} {what} while in use; what is written now would be lost: start again"
            )
