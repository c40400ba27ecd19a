"""The scopes of an attempt, as the journal knows them: groups are entered, branches opened, left and spent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from holdfast import codec
from holdfast.branches import Branches, outer_scope
from holdfast.ending import EndOfAttempt
from holdfast.model import CancelChild, Entry, EntryStatus, Identity
from holdfast.opened import OpenCall
from holdfast.rules.journal import Cursor, within


class Scopes:
    """Keeps the cursor, the open branches and the time in each scope in step."""

    __slots__ = ("_branches", "_created_at_us", "_cursor", "_end", "_open", "_within", "given_up", "times")

    def __init__(
        self,
        cursor: Cursor,
        end: EndOfAttempt,
        branches: Branches,
        opened: Mapping[str, OpenCall],
        created_at_us: int,
    ) -> None:
        self.times: dict[str, int] = {}
        self.given_up: list[Entry] = []  # what began calls of children that nobody waits for any more
        self._within: dict[str, int] = {}  # the newest time in the branches of a group that is not over
        self._cursor = cursor
        self._end = end
        self._branches = branches
        self._open = opened
        self._created_at_us = created_at_us

    def decided(self, group: Identity) -> bool:
        """Whether an outcome of the group as a whole is recorded: its branches are not entered again."""
        return self._cursor.holds(group)

    def enter_group(self, group: str, keys: Iterable[str]) -> tuple[str, ...]:
        """A group with these branches begins; the recorded ones, in the order of their outcomes. They are about to be
        opened, so none of their siblings need wait for it."""
        mismatch = self._cursor.open_group(group, keys)
        if mismatch is not None:
            self._end.hold(mismatch)
        recorded = self._cursor.branches(group)
        for scope in recorded:
            self._cursor.open_branch(scope)
        return recorded

    def leave_group(self, group: str) -> None:
        """A group ended normally: everything recorded in it must be answered, and its time is that of its parent.
        Of a group that is left otherwise no time passes, for a replay may not enter its branches again."""
        self._close(group)
        self._pass(group.rpartition("/")[0], self._within.pop(group, 0))

    def waits_for_cancel(self, scope: str) -> bool:
        """Whether what is recorded in the scope was cancelled by the code, and waits to be cancelled again."""
        return EntryStatus.ABANDONED in self._cursor.left(scope)

    def unknown(self, scope: str) -> bool:
        """Whether what comes next in the scope is an effect that may have happened: there is still work to do."""
        return self._cursor.left(scope)[:1] == [EntryStatus.INTENDED]

    def recorded(self, scope: str) -> int:
        """How many outcomes of the scope wait for its code."""
        return len(self._cursor.left(scope))

    def enter_branch(self, scope: str, outer: str) -> None:
        """A branch begins directly inside the scope `outer`."""
        if self._cursor.waiting:  # else nobody asks which of the recorded are open
            self._cursor.open_branch(scope)
        self._branches.open(scope, outer)

    def leave_branch(self, scope: str, group: str | None = None) -> None:
        """A branch (of this group) ended normally: everything recorded in it must be answered."""
        self._close(scope)
        at_us = self.times.pop(scope, 0)
        if group is None:
            self._pass(outer_scope(scope), at_us)
        elif at_us > self._within.get(group, 0):
            self._within[group] = at_us
        self._branches.close(scope)

    def spend(self, scope: str) -> None:
        """A branch or a group was left by an exception, or lost a race: its entries count as answered. Of one that is
        left because the attempt ends the code gave nothing up: the next attempt goes on in it."""
        if self._end.decided is None:
            self.given_up += self._cursor.spend(scope)
        self.times.pop(scope, None)
        self._within.pop(scope, None)
        self._branches.close(scope)

    def cancellations(self) -> tuple[CancelChild, ...]:
        """The children to be cancelled with what is recorded next. Their calls were spent by a replay: the attempt that
        gave them up went down before it could say so."""
        begun, self.given_up = self.given_up, []
        children = (str(codec.decode(entry.payload, str, what="the id of a child")) for entry in begun)
        return tuple(CancelChild(child, entry.position) for child, entry in zip(children, begun, strict=True))

    def lost(self, group: str) -> tuple[CancelChild, ...]:
        """The children to be cancelled with the winner of a race: those that calls in its branches started and wait
        for, or have not heard of yet. Who loses may not come to say so."""
        starts = (call.first or call for scope, call in self._open.items() if within(scope, group))
        return tuple(CancelChild(start.child) for start in starts if start.child is not None)

    def _pass(self, scope: str, at_us: int) -> None:
        if at_us > self.times.get(scope, 0):
            self.times[scope] = at_us

    def _close(self, path: str) -> None:
        if self._end.decided is not None:
            self._end.check()
        mismatch = self._cursor.close(path)
        if mismatch is not None:
            self._end.hold(mismatch)

    # --- time and chance ------------------------------------------------------------------------------------

    def now_us(self, scope: str) -> int:
        """The time of the last outcome delivered in this scope or the ones around it; before any, the run's."""
        while scope and scope not in self.times:
            scope = scope.rpartition("/")[0]
        return max(self.times.get(scope, 0), self._created_at_us)  # a clock may have been set back

    def moment(self, scope: str) -> tuple[int, str, int]:
        """The identity of this moment: it seeds chance."""
        return self._cursor.moment(scope)
