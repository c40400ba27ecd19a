"""What no worker can do for itself: deadlines, versions without code, overdue questions, and dead generations."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

from holdfast.clock import Clock
from holdfast.model import Decision, Run
from holdfast.rules import transitions
from holdfast.store.transactions import approvals, budgets, children, claim, decisions, rows, workers
from holdfast.store.transactions.connection import Connection

_Rule = Callable[[Run, int], Decision]


def sweep(connection: Connection, clock: Clock, limit: int, locks: workers.Locks) -> tuple[int, list[Path]]:
    """Sweep at most `limit` runs inside the caller's transaction; return how many rows changed, and the lock files of
    the generations that were forgotten."""
    now_us = clock.wall_us()
    dead = workers.fallen(connection, clock, locks)
    swept = _expire(connection, now_us, limit)
    swept += children.catch_up(connection, now_us, limit - swept)
    served = _served(connection, {each.key for each in dead})
    swept += find_code(connection, served, now_us, limit - swept)
    swept += _miss_code(connection, served, now_us, limit - swept)
    swept += approvals.escalate(connection, now_us, limit - swept)
    swept += decisions.pass_over(connection, now_us, max(0, limit - swept))
    swept += budgets.settle_lost(connection, now_us, max(0, limit - swept))
    forgotten = workers.forget(connection, dead)
    return swept + len(forgotten), forgotten


def _expire(connection: Connection, now_us: int, limit: int) -> int:
    keys = [row[0] for row in connection.rows("sweep.expired", (now_us, limit))]
    return _decide(connection, keys, transitions.expire, now_us)


def find_code(connection: Connection, served: set[tuple[str, str]], now_us: int, limit: int) -> int:
    """Queue runs that wait for code which is served now; a worker that registers need not wait for a sweep."""
    found = 0
    for agent, version in sorted(served):
        keys = [
            row[0] for row in connection.rows("sweep.without_code", (agent, version, max(0, limit - found)))
        ]
        found += _decide(connection, keys, transitions.code_found, now_us)
    return found


def _miss_code(connection: Connection, served: set[tuple[str, str]], now_us: int, limit: int) -> int:
    if not served:  # no worker at all is no statement about code
        return 0
    missed = 0
    for agent, version in connection.rows("sweep.versions"):
        if (agent, version) in served:
            continue
        left = max(0, limit - missed)
        due = claim.due(connection, agent, version, now_us, left)
        suspects = claim.due_suspects(connection, agent, version, now_us)
        keys = [row[0] for row in chain(due, suspects)][:left]
        missed += _decide(connection, keys, transitions.needs_code, now_us)
    return missed


def _served(connection: Connection, dead: set[int]) -> set[tuple[str, str]]:
    """What live workers serve, or continue. A draining one counts: its successor is about to start."""
    return {
        (each.agent, version)
        for key, serves in connection.rows("sweep.served")
        if key not in dead
        for each in rows.serves_of(serves)
        for version in (each.version, *each.continues)
    }


def _decide(connection: Connection, keys: list[int], rule: _Rule, now_us: int) -> int:
    for key in keys:
        run = decisions.run_by_key(connection, key)
        assert run is not None, "it was read in this transaction"
        if not run.state.final:  # the end of its parent, decided just before it, may have ended it
            decisions.apply(connection, run, rule(run, now_us), now_us)
    return len(keys)
