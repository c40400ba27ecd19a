"""Generations of workers: their leases, their locks, and which of them are dead."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from holdfast.clock import Clock
from holdfast.model import NewWorker, Sample, WorkerRecord
from holdfast.rules import labels, lease
from holdfast.store.transactions import rows
from holdfast.store.transactions.connection import Connection

Locks = Mapping[int, bool | None]
"""By worker: whether its lock is free; None or missing when it cannot be asked."""


@dataclass(frozen=True, slots=True)
class Fallen:
    """A dead worker: does its end count as a crash, and how many runs did it hold when it was found dead?"""

    key: int
    counted: bool
    fell_with: int | None


def register(connection: Connection, clock: Clock, new: NewWorker, lease_us: int) -> int:
    """Record a new generation with a fresh lease; return its key."""
    key: int = connection.value(
        "workers.register",
        (new.name, new.host, new.pid, new.capacity, rows.serves_json(new.serves), rows.serves_json(new.apart),
         labels.told(new.labels), clock.wall_us(), new.lock_path, clock.boot_id(), clock.boot_us() + lease_us),
    )  # fmt: skip
    return key


def renew(connection: Connection, clock: Clock, worker: int, lease_us: int, sample: Sample | None) -> bool:
    """Renew the lease; False when the generation is retired, or forgotten."""
    connection.run(
        "workers.renew", (clock.boot_us() + lease_us, rows.to_json(sample), worker, clock.boot_id())
    )
    return connection.changed() == 1


def retire(connection: Connection, worker: int, counted: bool) -> None:
    """End the generation. The first call says whether it counts."""
    connection.run("workers.retire", (counted, worker))


def mark_draining(connection: Connection, worker: int) -> None:
    """Say that the worker claims nothing more."""
    connection.run("workers.mark_draining", (worker,))


def is_draining(connection: Connection, worker: int) -> bool:
    """Whether somebody has said that it claims nothing more."""
    return bool(connection.value("workers.is_draining", (worker,)))


def labels_of(connection: Connection, worker: int) -> frozenset[str]:
    """What it has for runs that ask for it."""
    return frozenset(labels.of(connection.value("workers.labels", (worker,)) or ""))


def may_claim(connection: Connection, worker: int) -> bool:
    """Whether the generation exists, and is neither retired nor draining."""
    return connection.row("workers.may_claim", (worker,)) is not None


def try_locks(connection: Connection, clock: Clock) -> Locks:
    """Ask the lock of each generation of this boot. A lock says nothing about another boot, or from another machine."""
    asked = connection.rows("workers.locks", (clock.boot_id(),))
    found = [(worker, connection.lock_at(path)) for worker, path in asked]
    return {worker: lock_is_free(lock) for worker, lock in found if lock is not None}


def lock_is_free(path: Path) -> bool | None:
    """Whether nobody holds the flock on `path`; None when the file is not there. Never blocks, and holds nothing."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: those who ask do not disturb each other
    except BlockingIOError:
        return False
    except OSError:
        return None
    else:
        return True
    finally:
        os.close(file)  # which frees the lock, if it was taken here


def fallen(connection: Connection, clock: Clock, locks: Locks, asking: int | None = None) -> list[Fallen]:
    """The dead generations, apart from the one that asks."""
    found: list[Fallen] = []
    for row in connection.rows("workers.leases"):
        key, until_us, boot_id, retired, counted, fell_with = row
        held = lease.Lease(until_us=until_us, boot_id=boot_id, retired=bool(retired), counted=bool(counted))
        if key != asking and lease.dead(held, clock.boot_us(), clock.boot_id(), locks.get(key)):
            found.append(Fallen(key, lease.counts_as_crash(held, clock.boot_id()), fell_with))
    return found


def forget(connection: Connection, dead: list[Fallen]) -> list[Path]:
    """Delete those dead generations that hold no runs; return their lock files, as far as they are here."""
    locks: list[Path] = []
    for each in dead:
        connection.run("workers.forget_claims", (each.key,))
        row = connection.row("workers.forget", (each.key,))
        if row is not None:
            lock = connection.lock_at(row[0]) if row[0] else None
            locks += [] if lock is None else [lock]
    return locks


def remove_lock(store: Path, lock: Path) -> None:
    """Remove the lock file of a generation that is over, if it lies where such files do: in the store's folder."""
    if (
        lock.is_absolute()
        and lock.resolve().is_relative_to(store.resolve().parent)
        and lock.resolve() != store.resolve()
    ):
        lock.unlink(missing_ok=True)


def listed(connection: Connection, clock: Clock) -> list[WorkerRecord]:
    """The generations that are alive or hold runs."""
    dead = {each.key for each in fallen(connection, clock, try_locks(connection, clock))}
    now_us, boot_id = clock.boot_us(), clock.boot_id()
    left_us = {row[0]: row[1] - now_us for row in connection.rows("workers.leases") if row[2] == boot_id}
    found: list[WorkerRecord] = []
    for row in connection.rows("workers.list"):
        record = WorkerRecord(
            key=row[0],
            name=row[1],
            host=row[2],
            pid=row[3],
            capacity=row[4],
            serves=rows.serves_of(row[5]),
            started_at_us=row[6],
            draining=bool(row[7]),
            sample=rows.sample_of(row[8]),
            runs=row[9],
            alive=row[0] not in dead,
            lease_left_us=left_us.get(row[0]),
            apart=rows.serves_of(row[10]),
            labels=labels.of(row[11]),
        )
        if record.alive or record.runs:
            found.append(record)
    return found
