"""The replay cursor: a call is answered by what is recorded, executed, or it is a mismatch.

Laws:
1. Calls in a scope are sequential, so a call is answered only by the next unanswered entry of its scope, counted
   across the setup and all live segments. A scope opened inside counts as one element of its parent.
2. A next entry of another identity, or with other arguments, is a mismatch: never somebody else's outcome.
3. A call executes only when nothing is left for it: in its scope, and in the scopes around it apart from the group
   it is in; and in a group only when every recorded sibling has been opened again.
4. At `restore` the setup, at a checkpoint call the segments so far, at a scope's end its subtree, and at the return
   of the agent everything must be answered. Not when the agent raises. An intent without an outcome is left, too.
5. Whether a checkpoint was saved never changes an identity: the segment counts checkpoint *calls*.

A scope is a path: "" is the root; a group opened in scope P as G with a branch K is "P/G/K" (without the leading
slash at the root), so the parts alternate: group, branch, group, branch. G carries the segment and the occurrence:
no two groups of a run share a path.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.errors import Refused, UsageError
from holdfast.model import (
    SETUP,
    Call,
    Entry,
    EntryKind,
    EntryStatus,
    Identity,
    Journal,
    Mismatch,
    Resolution,
    ResolutionKind,
)
from holdfast.rules.line import Element, arrange

WARN_ENTRIES: Final = 1_000
"""A setup or a tail longer than this earns a warning: every resume reads it."""
MAX_ENTRIES: Final = 10_000
"""A setup or a tail longer than this stops the run: resuming it would cost more than a checkpoint ever does. What is in
branches is counted by itself, so that a map of so many items has room beside other calls."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The call has its outcome already."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Execute:
    """The call runs."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """The call must wait until recorded siblings, named here, are open again; `entry` is the first of theirs."""

    siblings: tuple[str, ...]
    entry: int


CALLED: Final = ":call"
"""How the name of the entry ends with which a call of a child begins; the name before it is that of its outcome."""
TIMEOUT: Final = ":timeout"
"""How the name of the timer ends that says until when a wait lasts."""
ASKED: Final = ":asked"
"""How the name of the entry ends that asks a question."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The call is an effect that may have happened: its newest intent, a person's word about it, if any, and how often
    its body was begun since anything was known."""

    intent: Entry
    verdict: Resolution | None
    begun: int


Answer = Recorded | Execute | Blocked | Mismatch | Unknown

_EXECUTE: Final = Execute()


class Cursor:
    """Walks the journal of one attempt. No I/O: the caller asks, executes, records, and tells what it recorded."""

    __slots__ = (
        "_answers",
        "_begun",
        "_by_identity",
        "_doubts",
        "_keys",
        "_left",
        "_occurrences",
        "_opened",
        "_orphans",
        "_places",
        "_tries",
        "_verdicts",
        "base",
        "segment",
        "waiting",
    )

    def __init__(self, journal: Journal) -> None:
        self.segment = SETUP
        self.base = journal.base_segment
        self._occurrences: dict[str, dict[str, int]] = defaultdict(dict)
        self._keys: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self._opened: set[str] = set()
        self._answers: dict[str, int] = defaultdict(int)
        line = arrange(journal.entries, journal.resolutions)
        self._tries, self._places = line.tries, line.places
        self._doubts, self._orphans, self._verdicts = line.doubts, line.orphans, line.verdicts
        self._begun = line.begun
        elements = sorted((e for e in line.outcomes.values() if self._live(e)), key=lambda e: e.place)
        self._by_identity = {element.entry.identity: element for element in elements}
        self._left: dict[str, deque[Element]] = defaultdict(deque)
        self.waiting = len(elements)  # recorded outcomes that are still unanswered: the attempt replays
        for element in elements:
            for scope in around(element.entry.identity.scope):
                self._left[scope].append(element)

    # --- identities -----------------------------------------------------------------------------------------

    def identify(self, scope: str, name: str, key: str | None) -> Identity:
        """Take the identity of a call. A key used twice in one scope and segment raises UsageError at once."""
        if key is None:
            counts = self._occurrences[scope]
            count = counts.get(name, 0)
            counts[name] = count + 1
            return Identity(self.segment, scope, name, None, count)
        if (name, key) in self._keys[scope]:
            raise UsageError(
                f"key {key!r} of step {name!r} is used twice between two checkpoints; a key names one call: "
                "make it distinct, or leave it out"
            )
        self._keys[scope].add((name, key))
        return Identity(self.segment, scope, name, key, 0)

    def moment(self, scope: str) -> tuple[int, str, int]:
        """What seeds chance here: the segment, the scope and the number of calls answered in it."""
        return self.segment, scope, self._answers[scope]

    # --- answers --------------------------------------------------------------------------------------------

    def answer(self, call: Call) -> Answer:
        """Say what becomes of a call at hand. A recorded outcome stays unanswered until `use`."""
        if not self.waiting and not self._doubts:
            return _EXECUTE
        mine = self._by_identity.get(call.identity)
        following = self._next(call.identity.scope)
        doubt = self._doubts.get(call.identity)
        if mine is not None and not mine.answered:
            answer = self._recorded(call, mine, following)
            if not isinstance(answer, Recorded) or mine.entry.status is not EntryStatus.INTENDED:
                return answer
            doubt = mine.entry
        elif following is not None and not self._may_precede(call.identity, following):
            return _mismatch(call, following.entry, f"the code calls {call.identity}")
        answer = self._may_execute(call)
        if doubt is None or not isinstance(answer, Execute):
            return answer
        return Unknown(doubt, self._verdicts.get(doubt.position), self._begun.get(call.identity, 1))

    def free(self, identity: Identity) -> int | None:
        """When nothing at all is left that could answer a call, so that this one executes: how many failed tries of it
        are recorded. None when `answer` must say what becomes of it."""
        if self.waiting or self._doubts:
            return None
        return self._tries.get(identity, 0) if self._tries else 0

    def holds(self, identity: Identity) -> bool:
        """Whether an outcome of this call waits for it. A race whose winner is recorded is not entered again."""
        mine = self._by_identity.get(identity)
        return mine is not None and not mine.answered

    def tries(self, identity: Identity) -> int:
        """How many failed tries of a call that is not over are recorded."""
        return self._tries.get(identity, 0)

    def take_up(self, identity: Identity) -> None:
        """The unknown effect is looked into: from now on it is live."""
        mine = self._by_identity.get(identity)
        if mine is not None:
            self._answer(mine)
        self._doubts.pop(identity, None)

    def unaccounted(self) -> Entry | None:
        """The intent of an effect in a tail that was superseded, of which nobody has said what became of it: a call
        that is recorded nowhere may be the same one under another name."""
        left = (entry for entry in self._doubts.values() if entry.position in self._orphans)
        return next((entry for entry in left if entry.position not in self._verdicts), None)

    def nonce(self, identity: Identity) -> int:
        """What tells a call that a way out put here from the one that had this identity before."""
        place = self._places.get(identity)
        return 0 if place is None else place[-2]

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
        if self._doubts:  # the code is past their places
            self._doubts = {i: entry for i, entry in self._doubts.items() if i.segment >= self.segment}
        return None

    def finish(self) -> Mismatch | None:
        """The agent returns: everything recorded must be answered."""
        following = self._next("")
        return _mismatch(None, following.entry, "the agent returns") if following is not None else None

    def open_group(self, group: str, branches: Iterable[str]) -> Mismatch | None:
        """A group of branches is entered. When something is recorded in it, it must be what is recorded next, and
        none of its branches may be missing from those at hand. `group` is its path."""
        following = self._next(_outer(group))
        if following is None or self._next(group) is None:
            return None
        if not within(following.entry.identity.scope, group):
            return _mismatch(None, following.entry, f"the code enters {group!r}")
        known = {f"{group}/{branch}" for branch in branches}
        for element in self._elements(group):
            if _branch(element.entry.identity.scope, group) not in known:
                return _mismatch(None, element.entry, f"the code enters {group!r} without this branch")
        return None

    def branches(self, group: str) -> tuple[str, ...]:
        """The branches of the group in which outcomes are left, in the order of the last one of each."""
        scopes = [_branch(element.entry.identity.scope, group) for element in self._elements(group)]
        return tuple(reversed(dict.fromkeys(reversed(scopes))))

    def left(self, scope: str) -> list[EntryStatus]:
        """How the outcomes that are left in the scope ended, the next one first; INTENDED: nobody knows."""
        return [element.entry.status for element in self._elements(scope)]

    def open_branch(self, scope: str) -> None:
        """A branch begins."""
        self._opened.add(scope)

    def close(self, scope: str) -> Mismatch | None:
        """A scope ends normally: its whole subtree must be answered."""
        following = self._next(scope) if self.waiting else None
        if following is not None:
            return _mismatch(None, following.entry, f"the scope {scope!r} ends")
        self._forget(scope)
        return None

    def spend(self, scope: str) -> list[Entry]:
        """A scope was left by an exception or lost a race: its entries count as answered. Returns those that began a
        call of a child whose outcome the code never met: nobody waits for it any more."""
        left = list(self._elements(scope))
        for element in left:
            self._answer(element)
        self._forget(scope)
        return _unfinished_calls([element.entry for element in left])

    # --- inside ---------------------------------------------------------------------------------------------

    def _live(self, element: Element) -> bool:
        segment = element.entry.identity.segment
        return segment == SETUP or segment >= self.base

    def _enter_segment(self, segment: int) -> None:
        self.segment = segment
        self._occurrences.clear()
        self._keys.clear()
        self._answers.clear()

    def _forget(self, scope: str) -> None:
        """A scope is over and never opened again: a map of many items must not leave something of each."""
        self._opened.discard(scope)
        self._occurrences.pop(scope, None)
        self._keys.pop(scope, None)
        self._answers.pop(scope, None)
        self._left.pop(scope, None)

    def _elements(self, scope: str) -> Iterable[Element]:
        return (element for element in self._left.get(scope, ()) if not element.answered)

    def _next(self, scope: str) -> Element | None:
        queue = self._left.get(scope)
        while queue and queue[0].answered:
            queue.popleft()
        return queue[0] if queue else None

    def _answer(self, element: Element) -> None:
        if not element.answered:
            element.answered = True
            self.waiting -= 1

    def _recorded(self, call: Call, mine: Element, following: Element | None) -> Answer:
        if following is not mine:
            assert following is not None  # `mine` is in the queue of its own scope
            return _mismatch(call, following.entry, f"the code calls {call.identity}")
        if call.args_hash and mine.entry.args_hash and call.args_hash != mine.entry.args_hash:
            return _mismatch(call, mine.entry, f"the code calls {call.identity} with other arguments")
        return Recorded(mine.entry)

    def _may_precede(self, identity: Identity, following: Element) -> bool:
        """Whether a resolution lets the call execute although this element is left."""
        place = self._places.get(identity)
        return place is not None and following.place > place

    def _may_execute(self, call: Call) -> Answer:
        branch = call.identity.scope
        while branch:
            group = _outer(branch)
            for element in self._elements(_outer(group)):
                inside = within(element.entry.identity.scope, group)
                if not inside and not self._may_precede(call.identity, element):
                    return _mismatch(call, element.entry, f"the code calls {call.identity}")
            blocked = self._closed_siblings(group)
            if blocked is not None:
                return blocked
            branch = _outer(group)
        return _EXECUTE

    def _closed_siblings(self, group: str) -> Blocked | None:
        closed: dict[str, int] = {}
        for element in self._elements(group):
            branch = _branch(element.entry.identity.scope, group)
            if branch not in self._opened:
                closed.setdefault(branch, element.entry.position)
        return Blocked(tuple(sorted(closed)), min(closed.values())) if closed else None


def superseded_by_retry(
    entries: Sequence[Entry], failed: Iterable[int], ending: Collection[int] = ()
) -> tuple[int, ...]:
    """The positions that a retry of the run supersedes, given the positions of the step failures that ended it.

    These are: each such failure with its recorded tries; everything that follows it in its scope and the scopes
    around it (cleanup runs again); and, in the other branches of the groups it is in, a last entry that is a failure
    or abandoned, or began the call of a child. Of a last entry that only went unseen, the mark goes and the outcome
    stays. With a wait that goes, its timer goes, and with the outcome of a question that has an end the question: they
    last as long as the first time. `ending` are the entries that asked such questions. `ctx.once` is outside all
    order: only a failure of it that is named goes. Which intents stay nevertheless, `rules.effects` says.
    """
    live = [entry for entry in entries if not entry.superseded]
    calls = [entry for entry in live if entry.kind is not EntryKind.ONCE]
    by_position = {entry.position: entry for entry in live}
    failures = [by_position[position] for position in failed if position in by_position]
    gone = {failure.position for failure in failures}
    for failure in failures:
        if failure.kind is not EntryKind.ONCE:
            gone.update(_undone(calls, failure))
    gone.update(_ends(calls, gone, ending))
    identities = {by_position[position].identity for position in gone}
    gone.update(entry.position for entry in live if entry.identity in identities and _is_mark(entry))
    return tuple(sorted(gone))


def superseded_by(resolution: Resolution, entries: Sequence[Entry]) -> tuple[int, ...]:
    """The positions that a resolution supersedes: for `drop` and `rerun` the entry with its tries and marks, and what
    says until when it lasts."""
    if resolution.kind not in (ResolutionKind.DROP, ResolutionKind.RERUN):
        return ()
    identity = next(e.identity for e in entries if e.position == resolution.position)
    marks = (e.position for e in entries if e.identity == identity and not e.superseded and _is_mark(e))
    ends = (e.position for e in entries if e.identity == resolution.end and not e.superseded)
    return tuple(sorted({*marks, *ends, resolution.position or 0}))


def end_of(entry: Entry, entries: Sequence[Entry], ending: Collection[int] = ()) -> Entry | None:
    """The entry that says until when the call lasts of which this one is the outcome. `ending` are the entries that
    asked questions which have an end."""
    live = [each for each in entries if not each.superseded]
    found = _ends(live, (entry.position,), ending)
    return next((each for each in live if each.position in found), None)


def resolve(
    kind: ResolutionKind, mismatch: Mismatch, entry: Entry | None, after: int, end: Entry | None = None
) -> Resolution:
    """An operator's way out of a mismatch. `entry` is the one that was named (for `insert` none is), `after` the
    run's position, `end` what `end_of` found for it: what executes again lasts as long as the first time. Raises
    Refused when the way does not fit the mismatch."""
    call = mismatch.call
    if kind is ResolutionKind.INSERT:
        if call is None or mismatch.entry is None:
            raise Refused(
                "no call is at hand before a recorded entry: drop the entry, or go back to the checkpoint"
            )
        return Resolution(kind=kind, position=mismatch.entry, call=call, after=after)
    if entry is None:
        raise Refused(f"{kind} needs the number of an entry")
    if kind is ResolutionKind.ACCEPT:
        if call is None:
            raise Refused(
                "no call is at hand that the entry could answer: drop it, or go back to the checkpoint"
            )
        setup, segment = entry.identity.segment == SETUP, call.identity.segment
        if (segment == SETUP) != setup or segment > entry.identity.segment:
            raise Refused(
                "an outcome cannot move over `restore` or to a later segment: it is not kept as long"
            )
    elif kind is ResolutionKind.DROP:
        call = None
    elif call is None or entry.position != mismatch.entry:
        call = Call(identity=entry.identity)
    again = kind is ResolutionKind.RERUN and call is not None and call.identity == entry.identity
    return Resolution(
        kind=kind,
        position=entry.position,
        call=call,
        after=after,
        recorded=entry.identity,
        before=mismatch.entry,
        end=end.identity if end is not None and again else None,
    )


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


def _unfinished_calls(entries: Sequence[Entry]) -> list[Entry]:
    """Those that began a call and are not followed in their scope by its outcome: nothing comes between the two, while
    other calls of that name (a step that is named as the agent) may come before and after."""
    begun: dict[str, Entry] = {}
    unfinished: list[Entry] = []
    for entry in entries:
        start = begun.pop(entry.identity.scope, None)
        if start is not None and not _ends_call(entry, start):
            unfinished.append(start)
        if _begins_call(entry):
            begun[entry.identity.scope] = entry
    return [*unfinished, *begun.values()]


def _ends_call(entry: Entry, start: Entry) -> bool:
    name = start.identity.name.removesuffix(CALLED)
    return entry.kind is EntryKind.CHILD and entry.identity.name == name


def _begins_call(entry: Entry) -> bool:
    called = entry.kind is EntryKind.CHILD and entry.identity.name.endswith(CALLED)
    return called and entry.status is EntryStatus.OK


def _is_mark(entry: Entry) -> bool:
    return entry.status in (EntryStatus.RETRIED, EntryStatus.UNSEEN, EntryStatus.INTENDED)


def _parallel(one: str, other: str) -> bool:
    """Whether two scopes lie in different branches of one group, so that neither comes before the other."""
    ones, others = one.split("/"), other.split("/")
    for n, (mine, theirs) in enumerate(zip(ones, others, strict=False)):
        if mine != theirs:
            return n % 2 == 1  # the first difference is a branch, not a group
    return False


def _follows(entry: Entry, other: Entry) -> bool:
    return entry.position > other.position and not _parallel(entry.identity.scope, other.identity.scope)


def _undone(calls: Sequence[Entry], failure: Entry) -> Iterable[int]:
    """The positions that a retry undoes because of one failure, itself apart."""
    kept: list[Entry] = []
    for entry in calls:
        if _follows(entry, failure):
            yield entry.position
        elif _parallel(entry.identity.scope, failure.identity.scope):
            kept.append(entry)
    unhappy = (EntryStatus.FAILED, EntryStatus.ABANDONED, EntryStatus.UNSEEN)
    for entry in kept:
        later = (other for other in kept if other.identity != entry.identity or not _is_mark(other))
        if (entry.status in unhappy or _begins_call(entry)) and not any(
            _follows(other, entry) for other in later
        ):
            yield entry.position


def _ends(calls: Sequence[Entry], gone: Collection[int], ending: Collection[int]) -> list[int]:
    """The entries that say until when a call lasts that goes. In its scope nothing comes between it and them."""
    found: list[int] = []
    ends: dict[tuple[object, ...], int] = {}
    for entry in calls:
        segment, scope, name, key, _ = entry.identity
        call = (segment, scope, name.removesuffix(TIMEOUT).removesuffix(ASKED), key)
        timer = entry.kind is EntryKind.TIMER and name.endswith(TIMEOUT) and not _is_mark(entry)
        if timer or entry.position in ending:
            ends[call] = entry.position
        elif (end := ends.pop(call, None)) is not None and entry.position in gone:
            found.append(end)
    return found


def _mismatch(call: Call | None, entry: Entry, does: str) -> Mismatch:
    return Mismatch(
        message=f"{does}, but entry {entry.position} is recorded next: {entry.identity}",
        call=call,
        entry=entry.position,
    )
