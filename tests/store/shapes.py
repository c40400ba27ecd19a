"""What the tests of the SQLite store share: a worker, a run, a Change."""

from __future__ import annotations

from holdfast.model import (
    Change,
    Claim,
    Entry,
    EntryKind,
    EntryStatus,
    Identity,
    NewRun,
    NewWorker,
    Served,
)
from holdfast.store.sqlite import SQLiteStore

SERVES = (Served(agent="a", version="0"),)
HOUR_US = 3_600_000_000


def new_run(run_id: str = "r", *, input_json: bytes = b"{}") -> NewRun:
    return NewRun(id=run_id, agent="a", version="0", input=input_json)


def new_worker(lock_path: str | None = None) -> NewWorker:
    return NewWorker(name="w", host="here", pid=1, capacity=100, serves=SERVES, lock_path=lock_path)


async def claimed(store: SQLiteStore, *run_ids: str) -> list[Claim]:
    """Create the runs, and claim them for a new worker."""
    worker = await store.register_worker(new_worker(), HOUR_US)
    for run_id in run_ids:
        await store.create_run(new_run(run_id))
    return await store.claim(worker, SERVES, 100)


def entry(payload: bytes = b"1", *, name: str = "work", occurrence: int = 0) -> Entry:
    return Entry(Identity(0, "", name, None, occurrence), EntryKind.STEP, EntryStatus.OK, payload, b"", 1)


def change(claim: Claim, position: int = 0, payload: bytes = b"1") -> Change:
    return Change(run=claim.run.key, token=claim.run.token, position=position, entries=(entry(payload),))
