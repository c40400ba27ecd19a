"""Whether anything is left that a worker could do: for one that ends by itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from holdfast.model import Run, RunFilter, RunState
from holdfast.store.protocol import Store

MAX_LISTED: Final = 10_000
"""Runs of one level of a tree that are looked through at most."""
_UNFINISHED: Final = (RunState.QUEUED, RunState.RUNNING, RunState.WAITING)


async def nothing_due(store: Store, served: Iterable[tuple[str, str]]) -> bool:
    """Whether no run of these agents and versions is running, or would be due by itself."""
    for name, version in served:
        for state in _UNFINISHED:
            states = frozenset({state})
            ours = RunFilter(agent=name, version=version, states=states, timed=True, claimable=True, limit=1)
            if await store.list_runs(ours):
                return False
    return True


async def tree_is_over(store: Store, run_id: str) -> bool:
    """Whether the run has ended; or waits for somebody, and so do all that it started."""
    run = await store.get_run(run_id)
    if run.state.final or not _stands_still(run):
        return run.state.final
    level = [run_id]
    while level:
        kin = await store.list_children(level, MAX_LISTED, unfinished=True)
        if not all(_stands_still(child.run) for child in kin):
            return False
        level = [child.run.id for child in kin]
    return True


def _stands_still(run: Run) -> bool:
    """Whether it waits for somebody, not for a time."""
    return run.state is RunState.WAITING and run.available_at_us is None and run.asked is None
