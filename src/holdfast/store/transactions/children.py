"""Children as they come into being beside an entry of their parent, and as others see them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from holdfast.errors import Conflict
from holdfast.model import CancelChild, Kin, NewChild, ParentPolicy, Standing
from holdfast.rules import transitions
from holdfast.store.transactions import decisions, rows, runs
from holdfast.store.transactions.connection import Connection

_AFTER_RUN, _AFTER_WHOLE_RUN = rows.INPUT, rows.TIES
"""Where the columns begin that follow those of `run_rows` and of `whole_runs`."""


def start(connection: Connection, parent: int, position: int, new: NewChild, now_us: int) -> None:
    """Create the child, unless it is there. Raises Conflict for a run of this id that is no such child."""
    check(connection, parent, new)
    created = runs.create(connection, new.new, now_us)
    if not created.existed:
        connection.run("children.insert_child", (created.run.key, parent, new.on_parent_end))


def check(connection: Connection, parent: int, new: NewChild) -> None:
    """Raise Conflict when a run has this id that is no child of this parent, or of another agent or input."""
    run_id = new.new.id
    known = connection.row("children.of_id", (run_id,))
    if known is None:
        return
    if known[1] != parent:
        whose = "is no child of this run" if known[1] is None else "is the child of another run"
        raise Conflict(f"the id {run_id!r} is taken by a run that {whose}; give the child another id")
    runs.check_same(connection, new.new)


def cancel(connection: Connection, parent: int, position: int, which: CancelChild, now_us: int) -> None:
    """Cancel the child, if it is this run's and has not ended."""
    known = connection.row("children.of_id", (which.child,))
    if known is None or known[1] != parent:
        return
    child = decisions.run_by_id(connection, which.child)
    if not child.state.final:
        decisions.apply(connection, child, transitions.cancel(child, now_us), now_us)
        connection.run("children.cancel", (child.key, position if which.by is None else which.by))


def standing(connection: Connection, parent: int, child_id: str) -> Standing | None:
    """How a child stands, as its parent sees it; None when the run has no such child."""
    row = connection.row("children.standing", (parent, child_id))
    if row is None:
        return None
    how, signal, inbox_no = row[_AFTER_WHOLE_RUN:]
    run = decisions.whole_run(connection, row)
    return Standing(run=run, ended=how == "ended", signal=signal, inbox_no=inbox_no)


def of_parents(connection: Connection, run_ids: Sequence[str], limit: int, unfinished: bool) -> list[Kin]:
    """The children of these runs, in the order in which they were started, without results."""
    found = connection.rows("children.kin", (json.dumps(list(run_ids)), unfinished, limit))
    return [
        Kin(
            run=rows.run_of(row),
            parent=row[_AFTER_RUN],
            on_parent_end=ParentPolicy(row[_AFTER_RUN + 1]),
            closed=bool(row[_AFTER_RUN + 2]),
        )
        for row in found
    ]


def parents(connection: Connection, keys: Sequence[int]) -> dict[int, str]:
    """The ids of the parents of those of these runs that are children."""
    return dict(connection.rows("children.parents", (json.dumps(list(keys)),)))


def catch_up(connection: Connection, now_us: int, limit: int) -> int:
    """Let the ends and returns of parents reach the children that are left, at most `limit`; return how many."""
    reached = 0
    for (parent,) in connection.rows("children.behind", (max(0, limit),)):
        if reached >= limit:
            break
        connection.run("children.forget_behind", (parent,))
        reached += decisions.family(connection, now_us, limit - reached).catch_up(parent)
    return reached
