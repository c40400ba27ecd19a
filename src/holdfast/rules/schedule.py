"""Which due runs a worker gets: a static order that ages by itself, within every limit.

Laws of this file:
1. The order is one number, known when the run becomes due and never touched again: no ageing job, flat at a million
   rows. A run due later by more than the weight of its priority comes later, so nothing starves.
2. A limit counts live leases, and is never exceeded.
3. A suspect (it went down with its worker) runs alone, and others pass it meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from holdfast.errors import UsageError
from holdfast.model import Run

WEIGHT_US: Final = 60_000_000
"""One level of priority is worth a minute of waiting: ten levels put a run ten minutes ahead, and even the lowest
priority passes everything that comes 17 hours later."""

MAX_PRIORITY: Final = 1_000
"""Bound of the priority on either side: beyond it ageing would take days, which is starvation by another name."""

ALL_QUEUES: Final = "*"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that may be claimed now."""

    key: int
    claim_key: int
    queue: str
    suspect: bool = False


def check_priority(priority: int) -> int:
    """Return `priority`, or raise UsageError when it is out of bounds."""
    if not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
        raise UsageError(
            f"priority {priority} is out of bounds: use {-MAX_PRIORITY} (first) to {MAX_PRIORITY} (last), 0 is usual"
        )
    return priority


def claim_key(available_at_us: int, priority: int) -> int:
    """The place of a due run in the order of claims: smaller first."""
    return available_at_us + WEIGHT_US * priority


def runs_alone(run: Run) -> bool:
    """Whether the run must be the only one of its worker: a suspect that has recorded nothing since its claim."""
    return run.suspect and run.position == run.claimed_position


def pick(
    candidates: Iterable[Candidate],
    *,
    slots: int,
    running: Mapping[str, int],
    limits: Mapping[str, int | None],
    worker_runs: int,
    alone: bool,
) -> list[int]:
    """The keys of the runs to hand to a worker, in order, at most `slots`.

    `running` counts the live leases per queue, `limits` bounds them ("*": all queues together; None or missing:
    no bound). `worker_runs` counts the runs that the worker has, `alone` says that one of them must run alone.
    A suspect is handed out as the only one and to a worker without others; a worker that has none takes it when it
    is the first that fits.
    """
    if alone:
        return []
    live = dict(running)
    live_in_all = sum(live.values())
    picked: list[int] = []
    for candidate in sorted(candidates, key=lambda one: (one.claim_key, one.key)):
        if len(picked) >= slots or _full(live_in_all, limits.get(ALL_QUEUES)):
            break
        if _full(live.get(candidate.queue, 0), limits.get(candidate.queue)):
            continue
        if candidate.suspect:
            if worker_runs == 0 and not picked:
                return [candidate.key]
            continue
        picked.append(candidate.key)
        live[candidate.queue] = live.get(candidate.queue, 0) + 1
        live_in_all += 1
    return picked


def closed_by(queue: str, limits: Mapping[str, int | None]) -> str | None:
    """The queue whose limit of 0 lets no run of `queue` begin: itself, or "*". None when neither does."""
    return next((name for name in (queue, ALL_QUEUES) if limits.get(name) == 0), None)


def _full(live: int, limit: int | None) -> bool:
    return limit is not None and live >= limit
