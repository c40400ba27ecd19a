"""What the transactions run on: connections and threads of one database, which each store has its own of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from holdfast.model import Change, Committed, RefusedChange
from holdfast.store.transactions.connection import Connection

T = TypeVar("T")

RUNS: Final = "runs"
"""The lock of everything that is decided about runs: what a transaction read stays as it is until its end. A database
that writes one transaction at a time needs no locks, and any other has these by name."""
RATES: Final = "rates"
ARTIFACTS: Final = "artifacts"


def owned(owner: str) -> str:
    """The lock of what belongs to an owner that is no run."""
    return f"owner {owner}"


class Engine(Protocol):
    """One database, opened: who writes, who reads, and what wakes who waits. Everything raises StoreError."""

    async def open(self) -> None:
        """Open the database, create or migrate its schema. Idempotent."""
        ...

    async def close(self) -> None:
        """Finish what was begun and release everything. Idempotent."""
        ...

    def check_open(self) -> None:
        """Raise StoreUnavailable when the store is not open."""
        ...

    def check_kept(self) -> None:
        """Raise StoreGone when what is written now would be lost, as far as that is seen at once."""
        ...

    async def write(
        self,
        work: Callable[[Connection], T],
        *,
        locks: Sequence[str] = ...,
        is_news: Callable[[T], bool] = ...,
    ) -> T:
        """Do `work` in a transaction under these locks, taken in this order (RUNS, unless others are said), and finish
        it even if the caller is cancelled. When `is_news` says so of what it returned, whoever waits is told."""
        ...

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do `work`, which only reads. It sees one moment of the store."""
        ...

    async def read_once(self, work: Callable[[Connection], T]) -> T:
        """Do `work`, which only reads, by one statement: that sees one moment of the store by itself."""
        ...

    def glance(self, work: Callable[[Connection], T | None]) -> T | None:
        """Do `work`, which reads a row or two, here and now; None where that may take long."""
        ...

    def lease(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction on the connection of the leases. Blocks; for a thread of its own."""
        ...

    async def aside(self, work: Callable[[], T]) -> T:
        """Do `work`, which needs no connection, off the event loop: hashing and compressing."""
        ...

    async def commit(self, changes: Sequence[Change]) -> list[Committed | RefusedChange]:
        """Apply the Changes in one transaction."""
        ...

    def commit_now(self, changes: Sequence[Change]) -> list[Committed | RefusedChange] | None:
        """Apply the Changes on this thread; None, with nothing done, when that could take long."""
        ...

    def commit_soon(self, change: Change, answered: Callable[[Committed | Exception | None], None]) -> bool:
        """Begin to apply one Change, and call when it is done; False, with nothing done, where `commit` is as quick."""
        ...

    async def wait_for_news(self, timeout_s: float) -> None:
        """Return when something may have changed, or after the time-out."""
        ...
