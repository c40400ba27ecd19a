"""How runs are carried to another store, as a part of the Store protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from holdfast.model import Run
from holdfast.model.moving import Ending, ImportRecord, MovedHead, MovedPaged, MovedRun, Pages, PartOfRun


class Moving(Protocol):
    """Runs as they are carried to another store: read part by part, and written part by part.

    A run that is being imported is there, `queued (importing)`, and nothing can be done about it but deleting it:
    nobody claims it, and whatever would move it raises InvalidTransition. It becomes what it was in the transaction
    that ends its import, together with all runs of its tree.
    """

    async def tree_of(self, run_id: str) -> list[tuple[Run, str | None]]:
        """The run, and all runs below it, each with the id of its parent there, which stands before it; of the run
        itself None. Raises RunNotFound."""
        ...

    async def read_head(self, run_id: str) -> MovedHead:
        """The run with those of its parts that may change, at one moment. What attempts that are over had reserved
        counts as used. Raises RunNotFound, StoreCorrupt."""
        ...

    async def read_page(self, run_id: str, pages: Pages, after: int) -> list[MovedPaged]:
        """The next parts of this kind above number `after`, in order: a MiB of them, one at least; none: that was all.
        Raises RunNotFound, StoreCorrupt."""
        ...

    async def find_import(self, run_id: str) -> ImportRecord | None:
        """What is known of the import of the run; None: it was not imported, or is not there."""
        ...

    async def begin_import(self, run: MovedRun) -> int:
        """Make the run, as one that is being imported, and return its key. Raises Conflict when one has this id."""
        ...

    async def add_parts(self, key: int, parts: Sequence[PartOfRun]) -> None:
        """Write parts of a run that is being imported. Raises Refused when it is not any more."""
        ...

    async def end_imports(self, endings: Sequence[Ending]) -> None:
        """Let the runs of a tree be what they were, in one transaction. Raises Refused, with nothing changed, when one
        is not being imported any more, or has not as many lines as it must have."""
        ...

    async def drop_import(self, run_id: str, key: int | None = None) -> bool:
        """Delete a run that is being imported, with all that is written of it; False: it is not being imported, or
        not under this key."""
        ...
