"""The parts used alone: the state, the checkpoints and the progress of an owner that is no run."""

from __future__ import annotations

from functools import partial

from holdfast.errors import CheckpointNotFound, Conflict, ProgressNotFound, StateNotFound, StoreCorrupt
from holdfast.model import Checkpoint, OwnedProgress, OwnedState, Progress
from holdfast.rules import progress as progress_rules
from holdfast.store.transactions import payloads, rows, stored
from holdfast.store.transactions.connection import Connection, Row

# --- states -------------------------------------------------------------------------------------------------


def state(connection: Connection, owner: str) -> OwnedState:
    """The state. Raises StateNotFound, StoreCorrupt."""
    row = connection.row("parts.state_of", (owner,))
    if row is None or row[2] is None:
        raise StateNotFound(f"nothing is saved as the state of {owner!r} in {connection.where}")
    body = payloads.unpack(row[2], row[3], row[4])
    if body is None:
        raise StoreCorrupt(f"the state of {owner!r}: the stored payload fails its checksum")
    return OwnedState(version=row[0], at_us=row[1], state=body)


def save_state(connection: Connection, owner: str, body: bytes, expected: int | None, now_us: int) -> int:
    """Save it if the version is still the expected one; the new version. Raises Conflict, PayloadTooLarge."""
    payloads.check_size(body, f"the state of {owner!r}")
    row = connection.row("parts.state_of", (owner,))
    there = 0 if row is None or row[2] is None else row[0]
    if expected is not None and expected != there:
        was = f"version {expected}" if expected else "nothing"
        now = f"version {there}" if there else "nothing"
        raise Conflict(
            f"the state of {owner!r}: somebody else wrote meanwhile ({was} was expected, {now} is there); "
            "load it again, or save it over what is there"
        )
    encoding, packed = payloads.pack(body)
    saved = connection.row("parts.save_state_of", (owner, now_us, packed, encoding, payloads.digest(body)))
    assert saved is not None, "it returns its row"
    version: int = saved[0]
    return version


def delete_state(connection: Connection, owner: str, now_us: int) -> None:
    """Delete it. Raises StateNotFound."""
    connection.run("parts.delete_state_of", (owner, now_us))
    if connection.changed() != 1:
        raise StateNotFound(f"nothing is saved as the state of {owner!r} in {connection.where}")


# --- checkpoints --------------------------------------------------------------------------------------------


def save_checkpoint(
    connection: Connection, owner: str, body: bytes, name: str | None, keep: int, now_us: int
) -> int:
    """Save a checkpoint, and let go of unnamed ones beyond the newest `keep`; its number."""
    payloads.check_size(body, f"the state of {owner!r}")
    row = connection.row("parts.count_checkpoint_of", (owner,))
    assert row is not None, "it returns its row"
    n: int = row[0]
    encoding, packed = payloads.pack(body)
    connection.run(
        "parts.insert_checkpoint_of",
        (owner, n, name, now_us, packed, payloads.digest(body), len(body), encoding),
    )
    connection.run("parts.prune_checkpoints_of", (owner, max(1, keep)))
    return n


def checkpoints(connection: Connection, owner: str) -> list[Checkpoint]:
    """The stored checkpoints, oldest first, each verified."""
    return [stored.verified(row) for row in connection.rows("parts.checkpoints_of", (owner,))]


def checkpoint(
    connection: Connection, owner: str, n: int | None, name: str | None
) -> tuple[Checkpoint, tuple[int, ...]]:
    """The checkpoint `n`; without it the newest good one (of this name), and the bad ones passed over.

    Raises CheckpointNotFound, StoreCorrupt.
    """
    found = connection.rows("parts.checkpoint_numbers_of", (owner, name))
    numbers = [row[0] for row in found] if n is None else [n]
    whose = f"{owner!r}" if name is None else f"{owner!r} ({name!r})"
    row_of = partial(_row, connection, owner)
    return stored.newest_good(
        numbers, row_of, asked=n is not None, whose=whose, hint="Checkpoints.list() says what there is"
    )


def _row(connection: Connection, owner: str, n: int) -> Row | None:
    return connection.row("parts.checkpoint_of", (owner, n))


def delete_checkpoint(connection: Connection, owner: str, n: int) -> None:
    """Delete it; its number is not given again. Raises CheckpointNotFound."""
    connection.run("parts.delete_checkpoint_of", (owner, n))
    if connection.changed() != 1:
        raise CheckpointNotFound(f"{owner!r} has no checkpoint {n}; Checkpoints.list() says what there is")


# --- progress -----------------------------------------------------------------------------------------------


def progress(connection: Connection, owner: str) -> OwnedProgress:
    """The newest report. Raises ProgressNotFound."""
    row = connection.row("parts.progress_of", (owner,))
    if row is None:
        raise ProgressNotFound(f"no progress of {owner!r} was reported in {connection.where}")
    return OwnedProgress(version=row[6], progress=rows.progress_of(row))


def save_progress(connection: Connection, owner: str, report: Progress, now_us: int) -> None:
    """Record a report; the start of its phase is carried over."""
    row = connection.row("parts.progress_of", (owner,))
    before = None if row is None else rows.progress_of(row)
    after = progress_rules.merge(before, report, now_us)
    connection.run(
        "parts.save_progress_of",
        (owner, float(after.current), None if after.total is None else float(after.total), after.description,
         after.phase, after.started_at_us, after.updated_at_us),
    )  # fmt: skip


def delete_progress(connection: Connection, owner: str) -> None:
    """Delete it. Raises ProgressNotFound."""
    connection.run("parts.delete_progress_of", (owner,))
    if connection.changed() != 1:
        raise ProgressNotFound(f"no progress of {owner!r} was reported in {connection.where}")
