"""What the transactions ask of a database: named statements inside a transaction that somebody else began.

A statement is named by its file and its own name, `"claim.due"`. Each store has a text for every name; the values are
those of the callers, in the order of the placeholders, and rows come back with the same columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from holdfast.clock import Clock

Row = tuple[Any, ...]
Values = Sequence[int | float | bytes | str | None]
Read = tuple[str, Values]
"""A statement that reads, and its values."""


class Broken(Exception):
    """A change breaks a law that the schema keeps. Raised out of the savepoint that it was tried in."""


class Connection(Protocol):
    """One connection inside a transaction, used by one thread at a time."""

    @property
    def where(self) -> str:
        """The store, as errors name it."""
        ...

    @property
    def clock(self) -> Clock:
        """The clock of the store."""
        ...

    def lock_at(self, registered: str) -> Path | None:
        """Where the lock is that a worker registered under this path; None when it cannot be asked from here."""
        ...

    def rows(self, name: str, values: Values = ()) -> list[Row]:
        """Every row of one statement."""
        ...

    def row(self, name: str, values: Values = ()) -> Row | None:
        """The first row of one statement, or None."""
        ...

    def value(self, name: str, values: Values = ()) -> Any:  # noqa: ANN401 - a cell is of any of the database's types
        """The first value of the first row, or None."""
        ...

    def run(self, name: str, values: Values = ()) -> None:
        """Run one statement to its end."""
        ...

    def many(self, name: str, rows: Iterable[Values]) -> None:
        """Run one statement for each of `rows`."""
        ...

    def returned(self, name: str, rows: Iterable[Values]) -> list[Row]:
        """Run one statement for each of `rows`; what all of them return."""
        ...

    def ahead(self, *reads: Read) -> None:
        """These are going to be asked for, before this transaction writes: a database elsewhere reads all of it in one
        journey, and forgets it at the first write."""
        ...

    def matching(self, name: str, conditions: Sequence[str], values: Values) -> list[Row]:
        """Every row of a statement that says `{where}`, under all of `conditions`, which are named as statements are.
        The values are those of the conditions, in their order, and then those of the statement."""
        ...

    def changed(self) -> int:
        """How many rows the newest `run` changed."""
        ...

    def savepoint(self) -> AbstractContextManager[None]:
        """All of it, or nothing, inside the transaction. Raises Broken for what the schema refuses."""
        ...
