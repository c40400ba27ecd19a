"""Hands runs to workers: due ones, and those whose worker is dead, in one transaction with what it read.

There is no other rescue (law 4 of the design): a crashed run, a drained one and a fresh one come through here.
"""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from msgspec import structs

from holdfast.clock import Clock
from holdfast.errors import StoreCorrupt
from holdfast.model import (
    Claim,
    Decision,
    Failure,
    FailureKind,
    Hold,
    Journal,
    Note,
    Reason,
    Run,
    RunState,
    Served,
)
from holdfast.rules import labels, schedule, transitions
from holdfast.store.transactions import budgets, decisions, journal, lanes, payloads, rows, workers
from holdfast.store.transactions.connection import Connection, Read, Row

_AGENT, _VERSION, _WORKER = 2, 3, 15
"""Where a row of `run_rows` has what the run is of, and who holds it."""

MOST_LINED_UP: Final = 500
"""Runs that one claim puts in line at most, so that it never holds the write lock for long; the next one goes on."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A worker that asks for runs: what it serves, how many it takes, which locks were found free before, and what
    labels it has. `heirs`: of runs of what no live worker serves, the version by which it continues them."""

    worker: int
    serves: tuple[Served, ...]
    limit: int
    locks: workers.Locks
    has: frozenset[str]
    only: str | None = None
    heirs: Mapping[Served, str] = field(default_factory=dict[Served, str])


def asking(
    connection: Connection,
    clock: Clock,
    worker: int,
    serves: Sequence[Served],
    limit: int,
    only: str | None = None,
) -> Asking:
    """What the worker asks for. The locks are tried outside the write lock: a dead process stays dead."""
    plain = dict.fromkeys(Served(agent=each.agent, version=each.version) for each in serves)
    heirs = {
        Served(agent=each.agent, version=older): each.version for each in serves for older in each.continues
    }
    served = tuple(plain)
    connection.ahead(
        ("workers.locks", (clock.boot_id(),)),
        ("workers.labels", (worker,)),
        *_asked_for(worker, served, clock.wall_us()),
    )
    locks, has = workers.try_locks(connection, clock), workers.labels_of(connection, worker)
    return Asking(worker, served, limit, locks, has, only, heirs)


def _asked_for(worker: int, serves: Sequence[Served], now_us: int) -> list[Read]:
    """What every claim asks first, whatever it finds."""
    return [
        ("workers.may_claim", (worker,)),
        ("workers.leases", ()),
        ("claim.load_of", (worker,)),
        ("claim.limits", ()),
        *(("claim.due_groups", (served.agent, served.version)) for served in serves),
        *(("claim.due_suspects", (served.agent, served.version, now_us)) for served in serves),
    ]


def look(connection: Connection, clock: Clock, asks: Asking) -> bool:
    """Whether `claim` would find anything. Reads only, and takes no lock: what an idle worker does all day."""
    dead = _fallen(connection, clock, asks)
    return bool(_pick(connection, clock.wall_us(), _with_inherited(connection, asks, dead), dead))


def claim(connection: Connection, clock: Clock, asks: Asking) -> list[Claim]:
    """Claim runs inside the caller's transaction."""
    now_us = clock.wall_us()
    if asks.limit > 0:
        connection.ahead(*_asked_for(asks.worker, asks.serves, now_us))
    if asks.limit <= 0 or not workers.may_claim(connection, asks.worker):
        return []
    dead = _fallen(connection, clock, asks)
    asks = _with_inherited(connection, asks, dead)
    claims: list[Claim] = []
    keys: list[int] = []
    lined_up, more = 0, True
    with _collector_resting():
        while more:  # until nobody steps aside: whoever stands in line must not hide who is behind
            left = replace(asks, limit=asks.limit - len(claims))
            keys = (
                _pick(connection, now_us, left, dead)
                if asks.only is None
                else _only(connection, now_us, asks, dead)
            )
            taken, aside = _take_all(connection, keys, asks, dead, now_us)
            claims += taken
            lined_up += aside
            more = aside > 0 and lined_up < MOST_LINED_UP and len(claims) < asks.limit
    if dead and (keys or claims):
        _retire(connection, dead)
    return claims


def _retire(connection: Connection, dead: _Dead) -> None:
    """Where limits count, a slot of a dead worker may be given away now: it must not come back to it by renewing."""
    if connection.rows("claim.limits"):
        for worker in dead.values():
            if _load(connection, worker.key)[0]:
                workers.retire(connection, worker.key, worker.counted)


def due(
    connection: Connection,
    agent: str,
    version: str,
    now_us: int,
    limit: int,
    has: frozenset[str] | None = None,
) -> Iterator[Row]:
    """At most `limit` due runs of each queue and priority: key, available_at_us, priority, queue. Suspects excluded;
    and runs that ask for other labels than those that a worker `has`, None: none."""
    groups = connection.rows("claim.due_groups", (agent, version))
    asked = [
        (agent, version, needs, queue, priority, now_us, limit)
        for needs, queue, priority in groups
        if has is None or _fits(needs, has)
    ]
    connection.ahead(*(("claim.due", each) for each in asked))
    for each in asked:
        yield from connection.rows("claim.due", each)


def due_suspects(
    connection: Connection, agent: str, version: str, now_us: int, has: frozenset[str] | None = None
) -> list[Row]:
    """The due runs that must run alone: rows as `due` gives them."""
    found = connection.rows("claim.due_suspects", (agent, version, now_us))
    return [row for row in found if has is None or _fits(row[4], has)]


def _fits(needs: str, has: frozenset[str]) -> bool:
    return not needs or labels.fit(labels.of(needs), has)


# --- which ones ---------------------------------------------------------------------------------------------

_Dead = dict[int, workers.Fallen]


def _fallen(connection: Connection, clock: Clock, asks: Asking) -> _Dead:
    return {each.key: each for each in workers.fallen(connection, clock, asks.locks, asks.worker)}


def _pick(connection: Connection, now_us: int, asks: Asking, dead: _Dead) -> list[int]:
    held, alone = _load(connection, asks.worker)
    if alone:
        return []
    limits: dict[str, int | None] = dict(connection.rows("claim.limits"))
    live: dict[str, int] = dict(connection.rows("claim.live")) if limits else {}
    candidates: list[schedule.Candidate] = []
    for worker in dead.values():
        for row in connection.rows("claim.held_by", (worker.key, now_us)):
            if limits:
                live[row[3]] -= 1  # it holds no live lease
            if row[6] and Served(agent=row[4], version=row[5]) in asks.serves and _fits(row[10], asks.has):
                blamed = row[7] or (worker.counted and not row[9])
                candidates.append(_candidate(row, suspect=bool(row[8] and blamed)))
    for served in asks.serves:
        found = due(connection, served.agent, served.version, now_us, asks.limit, asks.has)
        candidates += (_candidate(row, suspect=False) for row in found)
        if held == 0:
            suspects = due_suspects(connection, served.agent, served.version, now_us, asks.has)
            candidates += (_candidate(row, suspect=True) for row in suspects)
    return schedule.pick(
        candidates, slots=asks.limit, running=live, limits=limits, worker_runs=held, alone=alone
    )


def _with_inherited(connection: Connection, asks: Asking, dead: _Dead) -> Asking:
    """What the worker serves, and what it continues of that which no live worker serves. A run stays with its version
    while a worker has it, also one that drains: its successor is about to start."""
    if not asks.heirs:
        return asks
    served = served_by_living(connection, set(dead))
    heirs = {
        each: version
        for each, version in asks.heirs.items()
        if each not in served and each not in asks.serves
    }
    return replace(asks, serves=(*asks.serves, *heirs), heirs=heirs)


def served_by_living(connection: Connection, dead: set[int]) -> set[Served]:
    """What live workers have the code of."""
    return {
        Served(agent=each.agent, version=each.version)
        for key, serves in connection.rows("sweep.served")
        if key not in dead
        for each in rows.serves_of(serves)
    }


def _only(connection: Connection, now_us: int, asks: Asking, dead: _Dead) -> list[int]:
    """The one run that is asked for, if it can be claimed now and need not be alone beside others; else those of its
    unfinished children, and theirs, that can."""
    key = connection.value("claim.key_of", (asks.only,))
    run = None if key is None else decisions.run_by_key(connection, key)
    if run is None or (asks.serves and Served(agent=run.agent, version=run.version) not in asks.serves):
        return []
    if run.state is RunState.RUNNING:
        free = run.worker in dead
    else:
        free = not run.state.final and run.available_at_us is not None and run.available_at_us <= now_us
    held, alone = _load(connection, asks.worker)
    fits = held == 0 or not (alone or schedule.runs_alone(run))
    return [run.key] if free and fits else _tree(connection, now_us, asks, dead, run.key)


def _tree(connection: Connection, now_us: int, asks: Asking, dead: _Dead, root: int) -> list[int]:
    held, alone = _load(connection, asks.worker)
    limits: dict[str, int | None] = dict(connection.rows("claim.limits"))
    live: dict[str, int] = dict(connection.rows("claim.live")) if limits else {}
    candidates: list[schedule.Candidate] = []
    for row in connection.rows("claim.due_in_tree", (root, now_us)):
        run = rows.run_of(row)
        if run.worker is not None and run.worker not in dead:
            continue
        if run.worker is not None and limits:
            live[run.queue] -= 1  # it holds no live lease
        if Served(agent=run.agent, version=run.version) in asks.serves and labels.fit(run.needs, asks.has):
            due_us = run.created_at_us if run.available_at_us is None else run.available_at_us
            place = schedule.claim_key(due_us, run.priority)
            candidates.append(schedule.Candidate(run.key, place, run.queue, schedule.runs_alone(run)))
    return schedule.pick(
        candidates, slots=asks.limit, running=live, limits=limits, worker_runs=held, alone=alone
    )


def _load(connection: Connection, worker: int) -> tuple[int, bool]:
    row = connection.row("claim.load_of", (worker,))
    assert row is not None, "an aggregate has a row"
    return row[0], bool(row[1])


def _candidate(row: Row, suspect: bool) -> schedule.Candidate:
    return schedule.Candidate(row[0], schedule.claim_key(row[1], row[2]), row[3], suspect)


@contextmanager
def _collector_resting() -> Generator[None, None, None]:
    """Claims make many objects that all stay: Python's collector would look through them for nothing, which took a
    third of the time of claiming 500 runs (measured)."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# --- handing out --------------------------------------------------------------------------------------------


def _steps_aside(connection: Connection, key: int, now_us: int) -> bool:
    """Whether the run's concurrency key is at its limit: then it stands in line now, at no slot."""
    place = lanes.blocked(connection, key)
    if place is None:
        return False
    run = decisions.run_by_key(connection, key)
    assert run is not None, "it was read in this transaction"
    decision = transitions.line_up(run, now_us, place.key, place.ahead)
    decisions.apply(connection, run, decision, now_us)
    return True


def _take_all(
    connection: Connection, keys: list[int], asks: Asking, dead: _Dead, now_us: int
) -> tuple[list[Claim], int]:
    """Claim these runs; the claims, in this order, and how many stepped aside into a line.

    What is special (of an older version, with a concurrency key, cut off in a body) goes one by one, and first: it may
    move others. The rest is read together, and written together.
    """
    special: dict[int, Claim | None] = {}
    aside = 0
    for key, (row, ties) in zip(keys, _look_ahead(connection, keys, dead), strict=True):
        if not _is_special(connection, row, ties, asks):
            continue
        if ties.lane and _steps_aside(connection, key, now_us):
            aside += 1
            special[key] = None
        else:
            row, ties = decisions.row_with_ties(connection, key)
            special[key] = _take(connection, row, ties, asks, dead, now_us)
    rest = [key for key in keys if key not in special]
    found = _look_ahead(connection, rest, dead)
    plain: dict[int, tuple[Run, Decision, bytes, Journal]] = {}
    for row, ties in found:
        run = rows.run_of(row)
        takeover = None if run.worker is None else _takeover(connection, dead, run, run.worker)
        decision = transitions.claim(run, asks.worker, now_us, takeover=takeover)
        if decision.run.state is RunState.RUNNING and decisions.moves_alone(run, decision, ties):
            try:
                given, recorded, notes = _read(connection, run, row)
            except StoreCorrupt:
                continue
            decision = structs.replace(decision, notes=decision.notes + notes)
            plain[run.key] = run, decision, given, recorded
    moves = [(run, decision) for run, decision, _, _ in plain.values()]
    taken = decisions.apply_all(connection, moves, asks.worker, now_us)
    for run, (_, _, given, recorded) in zip(taken, plain.values(), strict=True):
        special[run.key] = Claim(run=run, input=given, journal=recorded)
    for row, ties in found:
        if row[0] not in plain:
            special[row[0]] = _take(connection, row, ties, asks, dead, now_us)
    return [claimed for key in keys if (claimed := special[key]) is not None], aside


def _is_special(connection: Connection, row: Row, ties: decisions.Ties, asks: Asking) -> bool:
    """Whether more is to be written of its claim than the run, or it is to be written of others first."""
    if ties.lane or Served(agent=row[_AGENT], version=row[_VERSION]) in asks.heirs:
        return True
    return row[_WORKER] is not None and budgets.was_cut_off(connection, row[0])


def _look_ahead(connection: Connection, keys: list[int], dead: _Dead) -> list[tuple[Row, decisions.Ties]]:
    """The runs as they are now, and what is going to be asked of their journals, and of those that are taken over."""
    decisions.look_ahead(connection, keys, journal.ANY_LIMIT)
    found = [decisions.row_with_ties(connection, key) for key in keys]
    lost = [rows.run_of(row) for row, _ in found if row[_WORKER] is not None]
    for worker in {run.worker for run in lost if run.worker is not None}:
        _note_the_fall(connection, dead, worker)
    journal.look_ahead(connection, [rows.run_of(row) for row, _ in found])
    connection.ahead(
        *(("claim.to_be_killed", (run.key, run.token)) for run in lost),
        *(("budgets.cut_off", (run.key,)) for run in lost),
    )
    return found


def _read(connection: Connection, run: Run, row: Row) -> tuple[bytes, Journal, tuple[Note, ...]]:
    """What the run was given, its journal, and what that found to be told. Raises StoreCorrupt."""
    inline, blob = row[rows.INPUT : rows.INPUT + 2]
    given = payloads.load(connection, inline, blob, f"the input of run {run.id}")
    return given, *journal.build(connection, run)


def _take(
    connection: Connection, row: Row, ties: decisions.Ties, asks: Asking, dead: _Dead, now_us: int
) -> Claim | None:
    """Claim one run; None when the rules made something else of it."""
    run, worker = rows.run_of(row), asks.worker
    if run.worker is not None and budgets.charge_cut_off(connection, run.key, now_us, worker=run.worker):
        row, ties = decisions.row_with_ties(connection, run.key)  # an event may have told of it
        run = rows.run_of(row)
    takeover = None if run.worker is None else _takeover(connection, dead, run, run.worker)
    heir = asks.heirs.get(Served(agent=run.agent, version=run.version))
    decision = transitions.claim(run, worker, now_us, takeover=takeover, version=heir)
    if decision.run.state is not RunState.RUNNING:
        decisions.apply(connection, run, decision, now_us)
        return None
    try:
        given, recorded, notes = _read(connection, run, row)
    except StoreCorrupt as error:
        claimed = decisions.apply(connection, run, decision, now_us, ties=ties, holder=worker)
        _hold(connection, claimed, error, now_us)
        return None
    if heir is not None:
        connection.run("claim.continue_as", (heir, run.key))
    decision = structs.replace(decision, notes=decision.notes + notes)
    claimed = decisions.apply(connection, run, decision, now_us, ties=ties, holder=worker)
    return Claim(run=claimed, input=given, journal=recorded)


def _takeover(connection: Connection, dead: _Dead, run: Run, worker: int) -> transitions.Takeover:
    """Whether the run was alone is fixed when the first of the worker's runs is taken over, not when this one is."""
    found = _note_the_fall(connection, dead, worker)
    wished = connection.row("claim.to_be_killed", (run.key, run.token)) is not None
    return transitions.Takeover(alone=found.fell_with == 1, counted=found.counted, wished=wished)


def _note_the_fall(connection: Connection, dead: _Dead, worker: int) -> workers.Fallen:
    found = dead[worker]
    if found.fell_with is None:
        held, _ = _load(connection, worker)
        connection.run("claim.fell_with", (held, worker))
        found = dead[worker] = replace(found, fell_with=held)
    return found


def _hold(connection: Connection, run: Run, error: StoreCorrupt, now_us: int) -> None:
    """Hold a run whose own records are damaged: it must not keep others from being claimed."""
    failure = Failure(kind=FailureKind.CHECKPOINT, type="StoreCorrupt", message=str(error))
    decision = transitions.settle(run, Hold(reason=Reason.CHECKPOINT_LOST, failure=failure), now_us)
    decisions.apply(connection, run, decision, now_us)
