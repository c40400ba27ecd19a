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


async def nothing_due(store: Store, served: Iterable[tuple[str, str]], labels: Iterable[str] = ()) -> bool:
    """Whether no run of these agents and versions is running, or goes on by itself: what is left waits for somebody, or
    asks for other labels.

    One read, which sees one moment: between two, a run goes from a state that is still to be read to one that was.
    """
    ours = RunFilter(
        served=frozenset(served),
        labels=frozenset(labels),
        states=frozenset(_UNFINISHED),
        goes_on_by_us=await store.now() + PATIENCE_US,
        claimable=True,
        limit=1,
    )
    return not await store.list_runs(ours)


async def tree_is_over(store: Store, run_id: str) -> bool:
    """Whether the run has ended; or waits for somebody, and so do all that it started, or wait in a queue of which no
    worker begins any.

    A tree takes several reads. When it is found twice with nothing recorded in between, all of it stood still at once.
    """
    found = await _still(store, run_id)
    return found is not None and (not found or await _still(store, run_id) == found)


async def _still(store: Store, run_id: str) -> dict[int, int] | None:
    """The runs of a tree that stands still, with their newest event: none when its root has ended. None: it goes on."""
    run = await store.get_run(run_id)
    by_us = await store.now() + PATIENCE_US
    if run.state.final:
        return {}
    level = [(run, False)]  # claimed by its id, whatever the limits
    found: dict[int, int] = {}
    while level:
        if not all(_stands_still(member, closed, by_us) for member, closed in level):
            return None
        found |= {member.key: member.event_no for member, _ in level}
        ids = [member.id for member, _ in level]
        kin = await store.list_children(ids, MAX_LISTED, unfinished=True)
        level = [(each.run, each.closed) for each in kin]
    return found


def _stands_still(run: Run, closed: bool, by_us: int) -> bool:
    """Whether it waits for somebody, not for a time: for a limit that lets it begin, when its queue is `closed`."""
    if run.state is RunState.RUNNING or run.asked is not None:
        return False
    if closed:
        return True
    if run.state is RunState.QUEUED:
        return False
    due_us = run.available_at_us
    return due_us is None or (run.reason in SOMEBODY_REASONS and due_us > by_us)
