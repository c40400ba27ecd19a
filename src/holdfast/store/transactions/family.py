"""What the end of a run, and its return, do to its parent and to its children.

Laws of this file:
1. How a child stands (`open`, `ended`, or `swept`: cancelled by its parent's end) moves in the transaction in which the
   run does.
2. Each end of a child is told to its parent once, by a signal in its inbox, unless the parent ended first.
3. The end of a parent reaches its children, and theirs, in its transaction: `AT_ONCE` of them. Sweeps reach the rest.
4. An operator's retry of a parent undoes what its end did, and retries the children whose failure it supersedes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from holdfast.model import Decision, Resolution, Run
from holdfast.rules import approvals, effects, journal, transitions, waits
from holdfast.store.transactions import questions, reading, rows
from holdfast.store.transactions.connection import Connection

AT_ONCE: Final = 1_000
"""Children reached in the transaction of an end or a retry: a fraction of a second of everybody's writing."""

Write = Callable[[Connection, Run, Decision, int], tuple[Run, Sequence[str]]]
"""Writes a decision about one run. Returns the run, and its children whose outcome or cancellation it supersedes."""


class Family:
    """The consequences of one transaction's moves, worked off one by one: no tree is too deep for it."""

    def __init__(self, connection: Connection, now_us: int, write: Write, limit: int = AT_ONCE) -> None:
        self._connection = connection
        self._now_us = now_us
        self._write = write
        self._left = limit
        self._moves: deque[tuple[Run, Run, Sequence[str]]] = deque()

    def follow(self, before: Run, after: Run, undone: Sequence[str]) -> None:
        """A run was written that ended, goes on after its end, or has how these children ended superseded."""
        self._moves.append((before, after, undone))
        while self._moves:
            before, after, undone = self._moves.popleft()
            for child in undone:
                self._retry_child(after, child)
            if before.state.final is not after.state.final:
                self._stand(after)
                self._reach(after)

    def catch_up(self, parent: int) -> int:
        """Reach further children of a parent that was left behind; return how many were reached."""
        before = self._left
        self._reach(self._run(parent))
        while self._moves:
            self.follow(*self._moves.popleft())
        return before - self._left

    def _change(self, run: Run, decision: Decision) -> None:
        after, undone = self._write(self._connection, run, decision, self._now_us)
        self._moves.append((run, after, undone))

    # --- upwards --------------------------------------------------------------------------------------------

    def _stand(self, run: Run) -> None:
        """Note how a child stands now; its parent hears of its end."""
        row = self._connection.row("children.parent_of", (run.key,))
        if row is None:
            return
        parent, standing, outcome = row
        if not run.state.final:
            if outcome is not None:
                self._connection.run("children.take_back", (parent, outcome))
            self._connection.run("children.open", (run.key,))
        elif standing == "open":
            self._tell(run, self._run(parent))

    def _tell(self, child: Run, parent: Run) -> Run:
        """Send the outcome, unless the parent ended: then it is sent when the parent goes on."""
        if parent.state.final:
            self._connection.run("children.end", (child.key, None))
            return parent
        n, name = parent.inbox_no + 1, waits.of_child(child.id)
        told = rows.event_json(state=child.state)
        self._connection.run("runs.insert_signal", (parent.key, n, name, self._now_us, None, told, None))
        self._connection.run("children.end", (child.key, n))
        decision = transitions.signal(parent, name, n, self._now_us)
        return self._write(self._connection, parent, decision, self._now_us)[0]

    # --- downwards ------------------------------------------------------------------------------------------

    def _reach(self, parent: Run) -> None:
        """Let the end of the parent, or its return, reach its children."""
        if parent.state.final:
            for child in self._children("children.unfinished", parent):
                self._connection.run("children.sweep", (child.key,))
                self._change(child, transitions.cancel(child, self._now_us, parent=parent.id))
            return
        for child in self._children("children.swept", parent):
            self._change(child, transitions.retry(child, self._now_us))
        for child in self._children("children.untold", parent):
            parent = self._tell(child, parent)

    def _children(self, statement: str, parent: Run) -> Iterator[Run]:
        """As many of them as are left for this transaction; a parent that has more is left behind. Each is read when
        its turn comes: the end of one may have called another out of the line of their concurrency key."""
        found = self._connection.rows(statement, (parent.key, self._left + 1))
        if len(found) > self._left:
            found.pop()
            self._connection.run("children.leave_behind", (parent.key,))
        self._left -= len(found)
        for (key,) in found:
            yield self._run(key)

    def _run(self, key: int) -> Run:
        row = self._connection.row("decisions.run_by_key", (key,))
        assert row is not None, "a child's row goes with its runs"
        return rows.run_of(row)

    def _retry_child(self, parent: Run, child_id: str) -> None:
        """How a child ended is superseded. Unless it succeeded it tries again, as a step would. An outcome from
        before it was retried by itself is none any more."""
        self._connection.run("children.forget_stale", (parent.key, waits.of_child(child_id), child_id))
        row = self._connection.row("children.unsuccessful", (child_id, parent.key))
        if row is None:
            return
        child = rows.run_of(row)
        superseded: tuple[int, ...] = ()
        resolution: Resolution | None = None
        if child.failure is not None and child.failure.entries:
            entries = reading.entries(self._connection, child.id, with_payloads=False)
            asked = questions.asked(self._connection, child.key)
            gone = journal.superseded_by_retry(entries, child.failure.entries, approvals.ending(asked))
            superseded, resolution = effects.superseding(None, entries, gone, child.position)
        self._change(
            child, transitions.retry(child, self._now_us, supersede=superseded, resolution=resolution)
        )
