"""Everything that only reads. Each call sees one moment of the store."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec

from holdfast.errors import RunNotFound
from holdfast.model import (
    SOMEBODY_REASONS,
    Ask,
    Checkpoint,
    Entry,
    EntryStatus,
    Event,
    Journal,
    Progress,
    QueueRecord,
    Reason,
    Run,
    RunFilter,
    RunState,
    Signal,
)
from holdfast.rules import labels
from holdfast.store.transactions import decisions, journal, payloads, rows, stored
from holdfast.store.transactions.connection import Connection, Row

_N, _TYPE = 16, 17
_HIGHEST: Final = "\U0010ffff"
_TOO_MANY: Final = frozenset({Reason.SLEEP, Reason.SIGNAL})
_WITH_FAILURE: Final = (EntryStatus.FAILED, EntryStatus.RETRIED)
ALL_QUEUES: Final = "*"


def run_key(connection: Connection, run_id: str) -> int:
    """The store's number of the run. Raises RunNotFound."""
    key: int | None = connection.value("reading.run_key", (run_id,))
    if key is None:
        raise RunNotFound(f"no run has the id {run_id!r} in {connection.where}; `holdfast ls` lists them")
    return key


def input_of(connection: Connection, run_id: str) -> bytes:
    """The run's input."""
    run_key(connection, run_id)
    row = connection.row("reading.input", (run_id,))
    assert row is not None, "a run has its payloads"
    return payloads.load(connection, row[0], row[1], f"the input of run {run_id}")


def progress(connection: Connection, run: int) -> Progress | None:
    """The newest progress."""
    row = connection.row("reading.progress", (run,))
    return None if row is None else rows.progress_of(row)


# --- lists --------------------------------------------------------------------------------------------------


def runs(connection: Connection, chosen: RunFilter) -> list[Run]:
    """Runs that fit, newest first. Each state is read by its index, which ends in the key."""
    found: list[Row] = []
    states: list[RunState | None] = list(chosen.states) or [None]
    fitting = _fitting(connection, chosen.labels)
    for state in states:
        wanted = [*_conditions(chosen, state), *fitting]
        values = [value for _, given in wanted for value in given]
        names = [name for name, _ in wanted]
        found += connection.matching("listing.runs", names, [*values, chosen.limit])
    found.sort(key=lambda row: row[0], reverse=True)
    return [rows.run_of(row) for row in found[: max(0, chosen.limit)]]


def _fitting(connection: Connection, has: frozenset[str] | None) -> list[tuple[str, tuple[Any, ...]]]:
    """The condition that a worker with these labels may execute a run, if it leaves any out."""
    if has is None:
        return []
    asked = [needs for (needs,) in connection.rows("listing.asked_for")]
    unfit = [needs for needs in asked if not labels.fit(labels.of(needs), has)]
    return [("listing.fits", (msgspec.json.encode(unfit).decode(),))] if unfit else []


def runs_by_key(connection: Connection, run_keys: Sequence[int]) -> dict[int, Run]:
    """The runs with these keys; those that are not there are left out."""
    found = connection.rows("reading.runs_by_key", (msgspec.json.encode(run_keys).decode(),))
    return {row[0]: rows.run_of(row) for row in found}


def _conditions(chosen: RunFilter, state: RunState | None) -> list[tuple[str, tuple[Any, ...]]]:
    """The conditions by name, each with its values."""
    wanted: list[tuple[str, tuple[Any, ...]]] = []
    if state is not None:
        wanted.append(("listing.in_state", (state,)))
    if chosen.reasons:
        wanted.append(("listing.of_reasons", (rows.reasons_json(chosen.reasons),)))
        if not chosen.reasons & _TOO_MANY:
            wanted.append(("listing.for_people", ()))
    if chosen.agent is not None:
        of_agent = "listing.of_agent" if state is None else "listing.of_agent_in_state"
        wanted.append((of_agent, (chosen.agent,)))
    if chosen.served is not None:
        wanted.append(("listing.served", (rows.served_json(chosen.served),)))
    if chosen.goes_on_by_us is not None:
        wanted.append(("listing.goes_on", (rows.reasons_json(SOMEBODY_REASONS), chosen.goes_on_by_us)))
    if chosen.queue is not None:
        wanted.append(("listing.in_queue", (chosen.queue,)))
    if chosen.id_prefix:
        wanted.append(("listing.with_prefix", (chosen.id_prefix, chosen.id_prefix + _HIGHEST)))
    if chosen.before is not None:
        wanted.append(("listing.before", (chosen.before,)))
    for name, value in chosen.tags:
        wanted.append(("listing.has_tag", (name, value)) if value else ("listing.has_name", (name,)))
    if chosen.text:
        wanted.append(("listing.has_text", (f"%{_literally(chosen.text)}%",)))
    if chosen.top:
        wanted.append(("listing.on_top", ()))
    if chosen.claimable is not None:
        wanted.append(("listing.is_claimable", (chosen.claimable,)))
    return wanted


def _literally(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def prunable(connection: Connection, before_us: int) -> dict[str, int]:
    """How many runs of each agent finished before."""
    return dict(connection.rows("reading.prunable", (before_us,)))


def runs_with_input(connection: Connection, agent: str, input_json: bytes) -> list[Run]:
    """Unfinished runs of the agent with this input, newest first."""
    found = connection.rows("reading.runs_with_input", (agent, payloads.digest(input_json)))
    return [rows.run_of(row) for row in found]


def queues(connection: Connection) -> list[QueueRecord]:
    """The queues that have a limit or runs. "*", when it has a limit, counts all of them."""
    found = {row[0]: QueueRecord(name=row[0], limit=row[1], queued=row[2], running=row[3]) for row in
             connection.rows("reading.queues")}  # fmt: skip
    if ALL_QUEUES in found:
        found[ALL_QUEUES] = QueueRecord(
            name=ALL_QUEUES,
            limit=found[ALL_QUEUES].limit,
            queued=sum(each.queued for each in found.values()),
            running=sum(each.running for each in found.values()),
        )
    return list(found.values())


def asks(connection: Connection, worker: int) -> list[Ask]:
    """The runs whose newest claim is this worker's, apart from those that it settled itself."""
    return [
        Ask(
            run=row[0],
            token=row[1],
            position=row[2],
            state=rows.STATES[row[3]],
            asked=row[4],
            inbox_no=row[5],
            throttled=bool(row[6]),
            kill=bool(row[7]),
        )
        for row in connection.rows("reading.asks", (worker,))
    ]


# --- the journal and the feed -------------------------------------------------------------------------------


def events(connection: Connection, run_id: str, after: int, limit: int) -> list[Event]:
    """The feed from `after` on."""
    found = connection.rows("reading.events", (run_key(connection, run_id), after, limit))
    return [_event(connection, run_id, row) for row in found]


def _event(connection: Connection, run_id: str, row: Row) -> Event:
    n, kind = row[_N], row[_TYPE]
    if row[0] is None:
        payload = payloads.load(connection, row[14], row[15], f"run {run_id}: event {n}")
        return Event(run=run_id, n=n, at_us=row[11], type=kind, payload=payload)
    if rows.STATUSES[row[7]] in _WITH_FAILURE:
        return rows.entry_event(run_id, n, kind, journal.entry(connection, row, run_id))
    return rows.entry_event(run_id, n, kind, rows.entry_of(row, b""))


def entries(connection: Connection, run_id: str, with_payloads: bool) -> list[Entry]:
    """Every entry, in order."""
    key = run_key(connection, run_id)
    if with_payloads:
        return [journal.entry(connection, row, run_id) for row in connection.rows("reading.entries", (key,))]
    return [rows.entry_of(row, b"") for row in connection.rows("reading.entries_without_payloads", (key,))]


def journal_of(connection: Connection, run_id: str, whole: bool) -> Journal:
    """What the next attempt would get, or everything that is live."""
    return journal.look(connection, decisions.run_by_id(connection, run_id), whole=whole)


def once(connection: Connection, run: int, key: str) -> Entry | None:
    """The outcome remembered under this key."""
    row = connection.row("reading.once", (run, key))
    return None if row is None else journal.entry(connection, row, f"number {run}")


def count_once(connection: Connection, run: int) -> int:
    """How many outcomes are remembered."""
    counted: int = connection.value("reading.count_once", (run,))
    return counted


def inbox(connection: Connection, run: int) -> tuple[int, list[Signal]]:
    """The highest signal number, and the signals that nothing has consumed."""
    highest: int = connection.value("reading.inbox_no", (run,)) or 0
    waiting = [
        Signal(
            n=row[0],
            name=row[1],
            payload=payloads.load(connection, row[2], row[3], f"run number {run}: signal {row[0]}"),
            at_us=row[4],
        )
        for row in connection.rows("reading.inbox", (run,))
    ]
    return highest, waiting


# --- checkpoints --------------------------------------------------------------------------------------------


def checkpoints(connection: Connection, run_id: str) -> list[Checkpoint]:
    """The stored checkpoints, each verified."""
    found = connection.rows("reading.checkpoints", (run_key(connection, run_id),))
    return [stored.verified(row) for row in found]


def checkpoint(connection: Connection, run_id: str, n: int | None) -> Checkpoint:
    """One checkpoint with its state; None is the newest good one. Raises CheckpointNotFound, StoreCorrupt."""
    key = run_key(connection, run_id)
    numbers = [row[0] for row in connection.rows("reading.checkpoint_numbers", (key,))] if n is None else [n]
    row_of = partial(_checkpoint_row, connection, key)
    hint = f"`holdfast checkpoints {run_id}` lists what it has"
    return stored.newest_good(numbers, row_of, asked=n is not None, whose=f"run {run_id}", hint=hint)[0]


def _checkpoint_row(connection: Connection, run: int, n: int) -> Row | None:
    return connection.row("reading.checkpoint", (run, n))
