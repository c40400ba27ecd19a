"""The replay cursor: a call is answered by what is recorded, executed, or it is a mismatch.

Laws (DESIGN 3.2):
1. Calls in a scope are sequential, so a call is answered only by the next unanswered entry of its scope, counted
   across the setup and all live segments. A scope opened inside counts as one element of its parent.
2. A next entry of another identity, or with other arguments, is a mismatch: never somebody else's outcome.
3. A call executes only when nothing is left for it: in its scope, and in the scopes around it apart from the group
   it is in; and in a group only when every recorded sibling has been opened again.
4. At `restore` the setup, at a checkpoint call the segments so far, at a scope's end its subtree, and at the return
   of the agent everything must be answered. Not when the agent raises.
5. Whether a checkpoint was saved never changes an identity: the segment counts checkpoint *calls*.

A scope is a path: "" is the root; a group opened in scope P as G with a branch K is "P/G/K" (without the leading
slash at the root), so the parts alternate: group, branch, group, branch.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from holdfast.errors import UsageError
from holdfast.model import (
    SETUP,
    Call,
    Entry,
    EntryStatus,
    Identity,
    Journal,
    Mismatch,
    Resolution,
    ResolutionKind,
)

WARN_ENTRIES: Final = 1_000
"""A setup or a tail longer than this earns a warning: every resume reads it."""
MAX_ENTRIES: Final = 10_000
"""A setup or a tail longer than this stops the run: resuming it would cost more than a checkpoint ever does."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The call has its outcome already."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Execute:
    """The call runs."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """The call must wait until recorded siblings, named here, have been opened again."""

    siblings: tuple[str, ...]


Answer = Recorded | Execute | Blocked | Mismatch

_EXECUTE: Final = Execute()


@dataclass(slots=True)
class _Element:
    """A recorded outcome in its place. `order` is its position, moved by resolutions."""

    entry: Entry
    order: tuple[int, int]
    answered: bool = False


class Cursor:
    """Walks the journal of one attempt. No I/O: the caller asks, executes, records, and tells what it recorded."""

    __slots__ = (
        "_allowed",
        "_answers",
        "_by_identity",
        "_keys",
        "_left",
        "_occurrences",
        "_opened",
        "_tries",
        "_waiting",
        "base",
        "segment",
    )

    def __init__(self, journal: Journal) -> None:
        self.segment = SETUP
        self.base = journal.base_segment
        self._occurrences: dict[tuple[str, str], int] = {}
        self._keys: set[tuple[str, str, str]] = set()
        self._opened: set[str] = set()
        self._answers: dict[str, int] = defaultdict(int)
        elements, self._tries, self._allowed = arrange(journal.entries, journal.resolutions)
        self._by_identity = {element.entry.identity: element for element in elements}
        self._left: dict[str, deque[_Element]] = defaultdict(deque)
        self._waiting = len(elements)
        for element in elements:
            for scope in around(element.entry.identity.scope):
                self._left[scope].append(element)

    @property
    def replaying(self) -> bool:
        """Whether recorded outcomes are still unanswered."""
        return self._waiting > 0

    # --- identities -----------------------------------------------------------------------------------------

    def identify(self, scope: str, name: str, key: str | None) -> Identity:
        """Take the identity of a call. A key used twice in one scope and segment raises UsageError at once."""
        if key is None:
            count = self._occurrences.get((scope, name), 0)
            self._occurrences[scope, name] = count + 1
            return Identity(self.segment, scope, name, None, count)
        if (scope, name, key) in self._keys:
            raise UsageError(
                f"key {key!r} of step {name!r} is used twice between two checkpoints; a key names one call: "
                "make it distinct, or leave it out"
            )
        self._keys.add((scope, name, key))
        return Identity(self.segment, scope, name, key, 0)

    def moment(self, scope: str) -> tuple[int, str, int]:
        """What seeds chance here: the segment, the scope and the number of calls answered in it."""
        return self.segment, scope, self._answers[scope]

    # --- answers --------------------------------------------------------------------------------------------

    def answer(self, call: Call) -> Answer:
        """Say what becomes of a call at hand. A recorded outcome stays unanswered until `use`."""
        if not self._waiting:
            return _EXECUTE
        mine = self._by_identity.get(call.identity)
        following = self._next(call.identity.scope)
        if mine is not None and not mine.answered:
            return self._recorded(call, mine, following)
        if following is not None and not self._may_insert(call.identity, following):
            return _mismatch(call, following.entry, f"the code calls {call.identity}")
        return self._may_execute(call)

    def tries(self, identity: Identity) -> int:
        """How many failed tries of a call that is not over are recorded."""
        return self._tries.get(identity, 0)

    def use(self, entry: Entry) -> None:
        """The recorded outcome was delivered."""
        self._answer(self._by_identity[entry.identity])
        self._answers[entry.identity.scope] += 1

    def recorded(self, identity: Identity) -> None:
        """A live outcome was delivered."""
        self._answers[identity.scope] += 1

    # --- lines and scopes -----------------------------------------------------------------------------------

    def restore(self) -> Mismatch | None:
        """The setup ends here; the segment continues where the checkpoint left it."""
        left = next((e for e in self._elements("") if e.entry.identity.segment == SETUP), None)
        if left is not None:
            return _mismatch(None, left.entry, "the code reaches `restore`")
        self._enter_segment(self.base)
        return None

    def checkpoint(self) -> Mismatch | None:
        """A checkpoint call: its segment must be used up, and the next one begins."""
        following = self._next("")
        if following is not None and following.entry.identity.segment <= self.segment:
            return _mismatch(None, following.entry, f"the code takes checkpoint call {self.segment + 1}")
        self._enter_segment(self.segment + 1)
        return None

    def finish(self) -> Mismatch | None:
        """The agent returns: everything recorded must be answered."""
        following = self._next("")
        return _mismatch(None, following.entry, "the agent returns") if following is not None else None

    def open_group(self, group: str, branches: Iterable[str]) -> Mismatch | None:
        """A group of branches is entered: what is recorded next must lie in it, and none of its branches may be
        missing from those at hand. `group` is its path."""
        following = self._next(_outer(group))
        if following is not None and not within(following.entry.identity.scope, group):
            return _mismatch(None, following.entry, f"the code enters {group!r}")
        known = {f"{group}/{branch}" for branch in branches}
        for element in self._elements(group):
            if _branch(element.entry.identity.scope, group) not in known:
                return _mismatch(None, element.entry, f"the code enters {group!r} without this branch")
        return None

    def open_branch(self, scope: str) -> None:
        """A branch begins."""
        self._opened.add(scope)

    def close(self, scope: str) -> Mismatch | None:
        """A scope ends normally: its whole subtree must be answered."""
        following = self._next(scope)
        return (
            _mismatch(None, following.entry, f"the scope {scope!r} ends") if following is not None else None
        )

    def spend(self, scope: str) -> None:
        """A scope was left by an exception or lost a race: its entries count as answered."""
        for element in list(self._elements(scope)):
            self._answer(element)

    # --- inside ---------------------------------------------------------------------------------------------

    def _enter_segment(self, segment: int) -> None:
        self.segment = segment
        self._occurrences.clear()
        self._keys.clear()
        self._answers.clear()

    def _elements(self, scope: str) -> Iterable[_Element]:
        return (element for element in self._left.get(scope, ()) if not element.answered)

    def _next(self, scope: str) -> _Element | None:
        queue = self._left.get(scope)
        while queue and queue[0].answered:
            queue.popleft()
        return queue[0] if queue else None

    def _answer(self, element: _Element) -> None:
        if not element.answered:
            element.answered = True
            self._waiting -= 1

    def _recorded(self, call: Call, mine: _Element, following: _Element | None) -> Answer:
        if following is not mine:
            assert following is not None  # `mine` is in the queue of its own scope
            return _mismatch(call, following.entry, f"the code calls {call.identity}")
        if call.args_hash and mine.entry.args_hash and call.args_hash != mine.entry.args_hash:
            return _mismatch(call, mine.entry, f"the code calls {call.identity} with other arguments")
        return Recorded(mine.entry)

    def _may_insert(self, identity: Identity, following: _Element) -> bool:
        allowed = self._allowed.get(identity)
        return allowed is not None and following.order >= allowed

    def _may_execute(self, call: Call) -> Answer:
        branch = call.identity.scope
        while branch:
            group = _outer(branch)
            for element in self._elements(_outer(group)):
                if not within(element.entry.identity.scope, group):
                    return _mismatch(call, element.entry, f"the code calls {call.identity}")
            closed = self._closed_siblings(group)
            if closed:
                return Blocked(closed)
            branch = _outer(group)
        return _EXECUTE

    def _closed_siblings(self, group: str) -> tuple[str, ...]:
        siblings = {_branch(element.entry.identity.scope, group) for element in self._elements(group)}
        return tuple(sorted(siblings - self._opened))


def arrange(
    entries: Sequence[Entry], resolutions: Sequence[Resolution] = ()
) -> tuple[list[_Element], dict[Identity, int], dict[Identity, tuple[int, int]]]:
    """Order the outcomes, count failed tries, and work resolutions and marks in.

    Returns the outcomes in the order in which calls must ask for them; the failed tries per identity; and, for
    calls that may execute although entries follow, the place that they take.
    """
    outcomes: dict[int, _Element] = {}
    tries: dict[Identity, int] = defaultdict(int)
    newest: dict[Identity, _Element] = {}
    for entry in entries:
        if entry.status is EntryStatus.RETRIED:
            tries[entry.identity] += 1
        elif entry.status is EntryStatus.UNSEEN:
            seen = newest[entry.identity]
            seen.entry = replace(seen.entry, status=EntryStatus.ABANDONED)
        else:
            element = _Element(entry, (entry.position, 1))
            outcomes[entry.position] = newest[entry.identity] = element
    allowed: dict[Identity, tuple[int, int]] = {}
    for resolution in resolutions:
        _resolve(resolution, outcomes, allowed)
    for element in outcomes.values():
        place = allowed.get(element.entry.identity)
        if place is not None and element.order > place and element.order[1] == 1:
            element.order = place
    return sorted(outcomes.values(), key=lambda e: e.order), dict(tries), allowed


def superseded_by_retry(entries: Sequence[Entry], failed: Iterable[int]) -> tuple[int, ...]:
    """The positions that a retry of the run supersedes, given the positions of the step failures that ended it.

    These are: each such failure with its recorded tries; everything later in its scope and the scopes around it
    (cleanup runs again); and, in the other branches of its outermost group, a last entry that is a failure or
    abandoned.
    """
    live = [entry for entry in entries if not entry.superseded]
    by_position = {entry.position: entry for entry in live}
    gone: set[int] = set()
    for position in failed:
        failure = by_position.get(position)
        if failure is not None:
            gone.update(entry.position for entry in live if _undone(entry, failure, live))
    identities = {by_position[position].identity for position in gone}
    marks = (EntryStatus.RETRIED, EntryStatus.UNSEEN)
    gone.update(entry.position for entry in live if entry.identity in identities and entry.status in marks)
    return tuple(sorted(gone))


def around(scope: str) -> tuple[str, ...]:
    """The scope and the scopes and groups around it, innermost first, the root last."""
    paths = [scope]
    while scope:
        scope = _outer(scope)
        paths.append(scope)
    return tuple(paths)


def _outer(path: str) -> str:
    return path.rpartition("/")[0]


def within(scope: str, outer: str) -> bool:
    """Whether `scope` is `outer` or lies inside it."""
    return not outer or scope == outer or scope.startswith(outer + "/")


def _branch(scope: str, group: str) -> str:
    """The branch of `group` in which `scope` lies."""
    rest = scope[len(group) + 1 :]
    return f"{group}/{rest.partition('/')[0]}"


def _undone(entry: Entry, failure: Entry, live: Sequence[Entry]) -> bool:
    if entry is failure:
        return True
    mine, theirs = entry.identity.scope, failure.identity.scope
    if within(theirs, mine) and entry.position > failure.position:
        return True
    if not mine or not theirs or mine.partition("/")[0] != theirs.partition("/")[0]:
        return False
    if entry.status not in (EntryStatus.FAILED, EntryStatus.ABANDONED):
        return False
    same = (
        e.position for e in live if e.identity.scope == mine and e.identity.segment == entry.identity.segment
    )
    return entry.position == max(same)


def _resolve(
    resolution: Resolution, outcomes: dict[int, _Element], allowed: dict[Identity, tuple[int, int]]
) -> None:
    """Work one resolution in: the entries that it speaks of take the identities that the code now gives them."""
    position, call = resolution.position, resolution.call
    if position is None:
        return
    old = [element for element in outcomes.values() if element.entry.position <= resolution.after]
    target = outcomes.get(position)
    kind = resolution.kind
    if kind is ResolutionKind.ACCEPT and target is not None and call is not None:
        others = [element for element in old if element is not target]
        _shift(others, target.entry.identity, target.order, -1)
        _shift(others, call.identity, target.order, +1)
        target.entry = replace(target.entry, identity=call.identity, args_hash=call.args_hash)
    elif kind is ResolutionKind.INSERT and call is not None:
        place = target.order[0] if target is not None else position
        _shift(old, call.identity, (place, 0), +1)
        allowed[call.identity] = (place, 0)
    elif kind is ResolutionKind.DROP and call is not None:
        _shift(old, call.identity, (position, 1), -1)
    elif kind is ResolutionKind.RERUN and call is not None:
        allowed[call.identity] = (position, 0)


def _shift(elements: Iterable[_Element], identity: Identity, after: tuple[int, int], by: int) -> None:
    """Move the occurrences of later calls of the same name, for a call of that name came or went before them."""
    if identity.key is not None:
        return
    for element in elements:
        mine = element.entry.identity
        same = (mine.segment, mine.scope, mine.name, mine.key) == (
            identity.segment,
            identity.scope,
            identity.name,
            None,
        )
        if same and element.order > after and mine.occurrence >= identity.occurrence:
            element.entry = replace(
                element.entry, identity=mine._replace(occurrence=max(0, mine.occurrence + by))
            )


def _mismatch(call: Call | None, entry: Entry, does: str) -> Mismatch:
    return Mismatch(
        message=f"{does}, but entry {entry.position} is recorded next: {entry.identity}",
        call=call,
        entry=entry.position,
    )
