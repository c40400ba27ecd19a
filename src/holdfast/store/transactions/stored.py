"""Checkpoints as they are stored, whoever owns them: verified when read, the bad ones passed over.

A row begins with n, segment, name, at_us, size_bytes, now_us, state, encoding, sha256.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.errors import CheckpointNotFound, StoreCorrupt
from holdfast.model import Checkpoint
from holdfast.store.transactions import payloads, rows
from holdfast.store.transactions.connection import Row


def state(row: Row) -> bytes | None:
    """The state in the row, or None when its bytes do not match their hash."""
    return payloads.unpack(row[6], row[7], row[8])


def verified(row: Row) -> Checkpoint:
    """The checkpoint in the row, without its state."""
    return rows.checkpoint_of(row, state(row) is not None)


def newest_good(
    numbers: Sequence[int], row_of: Callable[[int], Row | None], *, asked: bool, whose: str, hint: str
) -> tuple[Checkpoint, tuple[int, ...]]:
    """The first good checkpoint of `numbers` (newest first), with its state, and the bad ones passed over.

    `asked`: that one and no other was asked for. Raises CheckpointNotFound, StoreCorrupt.
    """
    bad: list[int] = []
    for n in numbers:
        row = row_of(n)
        if row is None:
            continue
        found = state(row)
        if found is not None:
            return rows.checkpoint_of(row, True, found), tuple(bad)
        bad.append(n)
    if bad and asked:
        raise StoreCorrupt(f"{whose}: checkpoint {bad[0]} fails its checksum; {hint}")
    if bad:
        raise StoreCorrupt(f"{whose}: none of its {len(bad)} checkpoints is good")
    which = f"no checkpoint {numbers[0]}" if asked else "no checkpoint"
    raise CheckpointNotFound(f"{whose} has {which}; {hint}")
