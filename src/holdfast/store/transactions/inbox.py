"""The inbox of a run: a signal is kept, and wakes the run that waits for it, in one transaction."""

from __future__ import annotations

from msgspec.structs import replace

from holdfast.model import Note, Run, Signal
from holdfast.rules import transitions
from holdfast.store.transactions import decisions, payloads
from holdfast.store.transactions.connection import Connection


def add_signal(
    connection: Connection, run_id: str, name: str, payload: bytes, dedup: str | None, now_us: int
) -> Signal:
    """Put a signal into the inbox, or return the one with this `dedup`. Raises RunNotFound and Refused."""
    payloads.check_size(payload, f"the signal {name!r} to run {run_id}")
    run = decisions.run_by_id(connection, run_id)
    known = connection.row("runs.signal_by_dedup", (run.key, dedup))
    if known is not None:
        body = payloads.load(connection, known[3], known[4], f"run {run_id}: signal {known[0]}")
        return Signal(n=known[0], name=known[1], payload=body, at_us=known[2])
    return put(connection, run, name, payload, now_us, dedup=dedup)


def put(
    connection: Connection,
    run: Run,
    name: str,
    payload: bytes,
    now_us: int,
    *,
    dedup: str | None = None,
    notes: tuple[Note, ...] = (),
) -> Signal:
    """Put a signal into the inbox of the run as it is now, with events that tell of it. Raises Refused."""
    n = run.inbox_no + 1
    decision = transitions.signal(run, name, n, now_us)
    kept = payloads.keep(connection, run.key, payload)
    connection.run("runs.insert_signal", (run.key, n, name, now_us, dedup, *kept))
    decisions.apply(connection, run, replace(decision, notes=notes), now_us)
    return Signal(n=n, name=name, payload=payload, at_us=now_us)
