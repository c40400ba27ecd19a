"""Samples of runs, their histories, and what people ask of who executes them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from holdfast.errors import InvalidExport, StoreCorrupt
from holdfast.model import (
    Account,
    BudgetRecord,
    Glimpse,
    Level,
    NewSample,
    RunSample,
    Sampled,
    TreeSample,
    Unit,
    Wish,
)
from holdfast.rules import transitions, wishes
from holdfast.store.transactions import decisions, payloads, reading, rows
from holdfast.store.transactions.connection import Connection, Row

_LEVELS: Final = {str(level): level for level in Level}


class _Stored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A sample as it is stored: an array, for a history has hundreds. What comes later is added at the end. The
    machine's own pressure is no matter of the run."""

    at_us: int
    span_us: int
    cpu_percent: float
    memory_bytes: int
    processes: int
    read_bytes: int | None = None
    written_bytes: int | None = None
    workspace_bytes: int | None = None
    disk_free_bytes: int | None = None
    memory_stall: float | None = None
    oom_kills: int = 0
    loop_lag_s: float | None = None
    workspace_at_least: bool = False


_encode = msgspec.json.Encoder().encode
_one = msgspec.json.Decoder(_Stored).decode
_many = msgspec.json.Decoder(list[_Stored]).decode


def _stored(sample: TreeSample, now_us: int) -> _Stored:
    return _Stored(
        now_us + min(0, sample.at_us),
        sample.span_us,
        round(sample.cpu_percent, 1),
        sample.memory_bytes,
        sample.processes,
        sample.read_bytes,
        sample.written_bytes,
        sample.workspace_bytes,
        sample.disk_free_bytes,
        None if sample.memory_stall is None else round(sample.memory_stall, 1),
        sample.oom_kills,
        None if sample.loop_lag_s is None else round(sample.loop_lag_s, 2),
        sample.workspace_at_least,
    )


def _sample(stored: _Stored) -> TreeSample:
    return TreeSample(**msgspec.structs.asdict(stored))


# --- writing ----------------------------------------------------------------------------------------------------


def save(connection: Connection, samples: Sequence[NewSample], now_us: int) -> list[bool]:
    """Save those whose attempt runs, inside the caller's transaction."""
    if not samples:
        return []
    seen = {
        row[0]
        for row in connection.returned("samples.save_sample", [_values(one, now_us) for one in samples])
    }  # the keys of those that passed the fence
    saved = [one.run in seen for one in samples]
    for one, passed in zip(samples, saved, strict=True):
        if passed and one.sampled.history is not None:
            _save_history(connection, one.run, one.sampled.history, now_us)
    return saved


def write(connection: Connection, run: int, position: int, thing: Sampled, now_us: int) -> None:
    """Save what stands beside an entry, or alone in a Change; its fence let it through."""
    token: int = connection.value("samples.token_of", (run,))
    save(connection, [NewSample(run=run, token=token, sampled=thing)], now_us)


def _values(new: NewSample, now_us: int) -> tuple[int, int, str, bytes]:
    return new.run, new.token, new.sampled.level, _encode(_stored(new.sampled.sample, now_us))


def _save_history(connection: Connection, run: int, history: Iterable[TreeSample], now_us: int) -> None:
    _put_history(connection, run, _encode([_stored(sample, now_us) for sample in history]))


def put_history(connection: Connection, run: int, body: bytes) -> None:
    """Keep a history that comes from another store. Raises InvalidExport when it is none."""
    try:
        _many(body)
    except msgspec.DecodeError as error:
        raise InvalidExport(f"the history of resources is none: {error}") from error
    _put_history(connection, run, body)


def _put_history(connection: Connection, run: int, body: bytes) -> None:
    encoding, packed = payloads.pack(body)
    connection.run("samples.save_history", (run, payloads.digest(body), len(body), encoding, packed))


def ask(connection: Connection, run_id: str, wish: Wish, wanted: bool) -> None:
    """Write down what is asked of who executes the run. Raises RunNotFound, InvalidTransition."""
    run = decisions.run_by_id(connection, run_id)
    transitions.check_whole(run)
    wishes.check(run, wish)
    if wish is Wish.THROTTLE:
        connection.run("samples.throttle", (run.key, wanted))
    else:
        connection.run("samples.kill", (run.key, run.token if wanted else None))


# --- reading ----------------------------------------------------------------------------------------------------


def history(connection: Connection, run_id: str) -> tuple[TreeSample, ...]:
    """The stored history. Raises RunNotFound, StoreCorrupt."""
    body = stored_history(connection, reading.run_key(connection, run_id), run_id)
    return () if body is None else tuple(_sample(one) for one in _many(body))


def stored_history(connection: Connection, run: int, run_id: str) -> bytes | None:
    """The history as it is stored: JSON, or None. Raises StoreCorrupt."""
    row = connection.row("samples.history", (run,))
    if row is None:
        return None
    body = payloads.unpack(row[3], row[2], row[0])
    if body is None:
        raise StoreCorrupt(f"run {run_id}: the stored history of its resources fails its checksum")
    return body


def glimpses(connection: Connection, keys: Sequence[int]) -> dict[int, Glimpse]:
    """What is known of these runs beside their rows."""
    wanted = json.dumps(list(keys))
    found = {row[0]: _glimpse(row) for row in connection.rows("samples.glimpses", (wanted,))}
    for run, record in _budgets(connection.rows("samples.budgets", (wanted,))).items():
        found[run] = replace(found[run], budget=record)
    return found


def _glimpse(row: Row) -> Glimpse:
    token, level, sample = row[7:10]
    return Glimpse(
        progress=None if row[1] is None else rows.progress_of(row[1:7]),
        sample=None
        if sample is None
        else RunSample(token=token, sample=_sample(_one(sample)), level=_LEVELS[level]),
        throttled=bool(row[10]),
        heard_at_us=row[11],
        step_at_us=_began(row[12], row[13]),
    )


def _began(step: str | None, started: bytes | None) -> int | None:
    """When the open step began, by the event that told it: a quick one is not told."""
    told: dict[str, object] = {} if started is None else msgspec.json.decode(started)
    began_us = told.get("started_at_us")
    return began_us if told.get("name") == step and isinstance(began_us, int) else None


def _budgets(found: Iterable[Row]) -> dict[int, BudgetRecord]:
    records: dict[int, BudgetRecord] = {}
    for run, scope, soft_percent, unit, hard, used, reserved, waiting in found:
        record = records.get(run) or BudgetRecord(
            scope=scope, soft_percent=soft_percent, per_us=None, ends_at_us=None, accounts=(), waiting=waiting
        )
        if unit is not None:
            account = Account(unit=Unit(unit), hard=hard, used=used, reserved=reserved)
            record = dataclasses.replace(record, accounts=(*record.accounts, account))
        records[run] = record
    return records
