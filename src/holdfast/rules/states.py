"""The state table: what can happen to a run, and where it leads. `transitions` makes the moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from holdfast.model import RunState

QUEUED, RUNNING, WAITING = RunState.QUEUED, RunState.RUNNING, RunState.WAITING
SUCCEEDED, FAILED, CANCELLED = RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED

EVENTS: Final[Mapping[str, str]] = {
    "claimed": "a worker claims it: it is queued and due, or its wait is over",
    "taken_over": "its worker is dead and another one claims it",
    "crashed": "its own process died; another attempt follows",
    "poisoned": "it took its worker, or its own process, down too often: held",
    "succeeded": "the agent returned",
    "failed": "the agent failed for good: a fatal error, or no tries are left",
    "retried_later": "the attempt failed; another follows after the backoff",
    "parked": "it sleeps, waits for a signal, an answer, a child or its budget, or its `holdfast run` was interrupted",
    "released": "its worker shuts down, or a person had its attempt killed: claimable at once, nothing counted",
    "held": "code and journal disagree, no checkpoint is good, an effect may have happened, its workspace is full",
    "paused": "an operator paused it (a running one at its next safe point)",
    "pause_asked": "an operator asks it to pause",
    "resumed": "an operator resumes it, or takes a pause back",
    "signalled": "a signal arrives: a run that waits for it becomes claimable at once",
    "funded": "a budget that it waits for was raised: claimable at once",
    "cancelled": "an operator or its parent's end cancels it: nothing is recorded after that",
    "expired": "its deadline passed",
    "retried": "an operator retries it, every counter at zero",
    "settled": "an operator says what became of an effect; queued, when it is the one that the run is held for",
    "lined_up": "it is due, but the runs of its concurrency key are at their limit: it stands in line",
    "called_up": "its turn in the line has come: it is due again, as it was before",
    "needs_code": "no live worker has its version of the agent",
    "code_found": "a worker has its version again",
}
"""What can happen to a run, and what it means."""

TABLE: Final[Mapping[tuple[RunState, str], frozenset[RunState]]] = {
    (QUEUED, "claimed"): frozenset({RUNNING}),
    (QUEUED, "paused"): frozenset({WAITING}),
    (QUEUED, "signalled"): frozenset({QUEUED}),
    (QUEUED, "cancelled"): frozenset({CANCELLED}),
    (QUEUED, "expired"): frozenset({FAILED}),
    (QUEUED, "retried"): frozenset({QUEUED}),  # in backoff: now instead of later
    (QUEUED, "lined_up"): frozenset({QUEUED}),
    (QUEUED, "called_up"): frozenset({QUEUED}),
    (QUEUED, "needs_code"): frozenset({WAITING}),
    (RUNNING, "taken_over"): frozenset({RUNNING}),
    (RUNNING, "crashed"): frozenset({QUEUED}),
    (RUNNING, "poisoned"): frozenset({WAITING}),
    (RUNNING, "succeeded"): frozenset({SUCCEEDED}),
    (RUNNING, "failed"): frozenset({FAILED}),
    (RUNNING, "retried_later"): frozenset({QUEUED}),
    (RUNNING, "parked"): frozenset({WAITING}),
    (RUNNING, "released"): frozenset({QUEUED}),
    (RUNNING, "held"): frozenset({WAITING}),
    (RUNNING, "pause_asked"): frozenset({RUNNING}),
    (RUNNING, "paused"): frozenset({WAITING}),
    (RUNNING, "resumed"): frozenset({RUNNING}),  # takes an asked pause back
    (RUNNING, "signalled"): frozenset({RUNNING}),
    (RUNNING, "cancelled"): frozenset({CANCELLED}),
    (RUNNING, "expired"): frozenset({FAILED}),
    (WAITING, "claimed"): frozenset({RUNNING}),
    (WAITING, "paused"): frozenset({WAITING}),
    (WAITING, "resumed"): frozenset({QUEUED}),
    (WAITING, "signalled"): frozenset({WAITING}),
    (WAITING, "funded"): frozenset({WAITING}),
    (WAITING, "cancelled"): frozenset({CANCELLED}),
    (WAITING, "expired"): frozenset({FAILED}),
    (WAITING, "retried"): frozenset({QUEUED}),
    (WAITING, "settled"): frozenset({WAITING, QUEUED}),
    (WAITING, "lined_up"): frozenset({QUEUED}),  # its wait is over, but not the one for its key
    (WAITING, "needs_code"): frozenset({WAITING}),
    (WAITING, "code_found"): frozenset({QUEUED}),
    (FAILED, "retried"): frozenset({QUEUED}),
    (CANCELLED, "retried"): frozenset({QUEUED}),
    (CANCELLED, "cancelled"): frozenset({CANCELLED}),  # asked again because the answer was lost
}
"""(state, event) → the states it can lead to. What is missing cannot happen."""
