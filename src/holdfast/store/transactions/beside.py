"""What comes into being in the transaction of an entry: each kind with the function that writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from holdfast.model import (
    AdjustRate,
    Beside,
    CancelChild,
    CloseApproval,
    CursorOver,
    NewApproval,
    NewArtifact,
    NewChild,
    NewCursor,
    NewOutput,
    Sampled,
    Settle,
)
from holdfast.store.transactions import approvals, artifacts, budgets, children, rates, samples, steps
from holdfast.store.transactions.connection import Connection

Write = Callable[[Connection, int, int, Any, int], None]
"""`write(connection, run_key, position, thing, now_us)`: `position` is that of the Change's last entry. Raises Refused
when it cannot be; then nothing of the Change is recorded."""

WRITERS: Final[Mapping[type[Beside], Write]] = {
    NewCursor: steps.put_cursor,
    CursorOver: steps.forget_cursor,
    NewOutput: steps.put_output,
    NewApproval: approvals.ask,
    NewArtifact: artifacts.write,
    CloseApproval: approvals.close,
    NewChild: cast("Write", children.start),
    Settle: budgets.settle,
    AdjustRate: rates.adjust,
    Sampled: samples.write,
    CancelChild: cast("Write", children.cancel),
}

OF_OTHERS: Final[frozenset[type[Beside]]] = frozenset(
    {NewApproval, CloseApproval, NewChild, CancelChild, Settle}
)
"""Those that concern more than their own run: other runs, or budgets that runs share."""


def write(connection: Connection, run: int, position: int, thing: Beside, now_us: int) -> None:
    """Write one of them inside the caller's transaction."""
    WRITERS[type(thing)](connection, run, position, cast("Any", thing), now_us)
