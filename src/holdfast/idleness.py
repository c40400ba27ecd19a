"""Whether anything is left that a worker could do: for one that ends by itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from holdfast.model import SOMEBODY_REASONS, Run, RunFilter, RunState
from holdfast.store.protocol import Store

MAX_LISTED: Final = 10_000
"""Runs of one level of a tree that are looked through at most."""
PATIENCE_US: Final = 60_000_000
"""A worker that ends by itself stays for a run that waits for a person or a signal when its time is up within a minute:
somebody would have to start it again at once. Nobody wants to wait longer for an answer that may never come."""
_UNFINISHED: Final = (RunState.QUEUED, RunState.RUNNING, RunState.WAITING)


async def nothing_due(store: Store, served: Iterable[tuple[str, str]]) -> bool:
    """Whether no run of these agents and versions is running, or goes on by itself: what is left waits for somebody."""
    by_us = await store.now() + PATIENCE_US
    for name, version in served:
        for state in _UNFINISHED:
            ours = RunFilter(
                agent=name,
                version=version,
                states=frozenset({state}),
                goes_on_by_us=by_us,
                claimable=True,
                limit=1,
            )
            if await store.list_runs(ours):
                return False
    return True


async def tree_is_over(store: Store, run_id: str) -> bool:
    """Whether the run has ended; or waits for somebody, and so do all that it started."""
    run = await store.get_run(run_id)
    by_us = await store.now() + PATIENCE_US
    if run.state.final or not _stands_still(run, by_us):
        return run.state.final
    level = [run_id]
    while level:
        kin = await store.list_children(level, MAX_LISTED, unfinished=True)
        if not all(_stands_still(child.run, by_us) for child in kin):
            return False
        level = [child.run.id for child in kin]
    return True


def _stands_still(run: Run, by_us: int) -> bool:
    """Whether it waits for somebody, not for a time."""
    if run.state is not RunState.WAITING or run.asked is not None:
        return False
    due_us = run.available_at_us
    return due_us is None or (run.reason in SOMEBODY_REASONS and due_us > by_us)
