"""The outcomes of a journal in their places, as recordings and an operator's ways out followed each other in time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from holdfast.model import (
    SETUP,
    Call,
    Entry,
    EntryKind,
    EntryStatus,
    Identity,
    Resolution,
    ResolutionKind,
)

_VERDICTS: Final = frozenset({ResolutionKind.DONE, ResolutionKind.NOT_DONE, ResolutionKind.GIVEN_UP})

Place = tuple[int, ...]
"""Where something stands among the outcomes; places compare. The entry at position p stands at (1, p, 1), in the
setup at (0, p, 1): whatever is added to the setup later comes before all segments. What is put before the place
(*rest, 1) stands at (*rest, 0, p, 1), so anything can be put before anything, in the order of its recording."""


@dataclass(slots=True)
class Element:
    """A recorded outcome in its place."""

    entry: Entry
    place: Place
    answered: bool = False


class Line:
    """The outcomes of a journal, each in its place, as recordings and resolutions followed each other in time.

    `tries` counts the failed tries per identity; `places` says where calls may execute although entries follow.
    An intent without an outcome has a place like one; when its outcome was superseded it has none, and is in `doubts`.
    `orphans` are those of a tail that was superseded, `verdicts` what a person said of each, and `begun` counts the
    bodies that were begun since anything was known.
    """

    __slots__ = ("_newest", "begun", "doubts", "orphans", "outcomes", "places", "tries", "verdicts")

    def __init__(self) -> None:
        self.outcomes: dict[int, Element] = {}
        self.tries: dict[Identity, int] = {}
        self.places: dict[Identity, Place] = {}
        self.doubts: dict[Identity, Entry] = {}
        self.begun: dict[Identity, int] = {}
        self.orphans: set[int] = set()
        self.verdicts: dict[int, Resolution] = {}
        self._newest: dict[Identity, Element] = {}

    def add(self, entry: Entry) -> None:
        identity = entry.identity
        if entry.status is EntryStatus.RETRIED:
            self.tries[identity] = self.tries.get(identity, 0) + 1
            self._close_intent(identity)
            self.begun.pop(identity, None)
        elif entry.kind is EntryKind.ONCE:
            return  # outside scopes and their order
        elif entry.status is EntryStatus.UNSEEN:
            seen = self._newest.get(identity)  # none, when the outcome was superseded by an operator
            if seen is not None:
                seen.entry = structs.replace(seen.entry, status=EntryStatus.ABANDONED)
        else:
            intended = self._close_intent(identity)
            among = self.places.pop(identity, intended)
            rest = among[1:-2] if among is not None else ()
            if entry.status is EntryStatus.INTENDED:
                self.begun[identity] = self.begun.get(identity, 0) + 1
            place = (int(identity.segment != SETUP), *rest, entry.position, 1)
            self.outcomes[entry.position] = self._newest[identity] = Element(entry, place)

    def _close_intent(self, identity: Identity) -> Place | None:
        """What became of the newest intent is known, or another one follows; the place it had."""
        self.doubts.pop(identity, None)
        intent = self._newest.get(identity)
        if intent is None or intent.entry.status is not EntryStatus.INTENDED:
            return None
        del self.outcomes[intent.entry.position], self._newest[identity]
        return intent.place

    def _reopen(self, positions: Iterable[int]) -> None:
        """The outcomes of these effects are superseded: code may come by them in any order, but not blindly."""
        for position in positions:
            intent = self.outcomes.pop(position, None)
            if intent is not None:
                self._newest.pop(intent.entry.identity, None)
                self.doubts[intent.entry.identity] = intent.entry

    def resolve(self, resolution: Resolution) -> None:
        """Work one resolution in: what is recorded takes the identities that the code now gives it."""
        kind, position, call = resolution.kind, resolution.position, resolution.call
        self._reopen(resolution.reopened)
        if kind in _VERDICTS and position is not None:
            self.verdicts[position] = resolution
        elif kind is ResolutionKind.FROM_CHECKPOINT:
            self.orphans.update(resolution.reopened)
            self.places = {i: place for i, place in self.places.items() if i.segment == SETUP}
        elif kind is ResolutionKind.ACCEPT and position in self.outcomes and call is not None:
            self._accept(self.outcomes[position], call, resolution.before)
        elif kind is ResolutionKind.ACCEPT and call is not None:
            self._follow(resolution.recorded, call)
        elif kind is ResolutionKind.INSERT and position is not None and call is not None:
            place = self._place(position, call.identity)
            self._shift(call.identity, +1)
            self.places[call.identity] = (*place[:-1], 0, resolution.after, 1)
        elif resolution.recorded is not None and position is not None:
            place = self._place(position, resolution.recorded)
            self.places.pop(resolution.recorded, None)
            self._shift(resolution.recorded, -1)
            if kind is ResolutionKind.RERUN and call is not None:
                self._shift(call.identity, +1)
                self.places[call.identity] = (*place[:-1], 0, resolution.after, 1)
                if resolution.end is not None:  # nothing comes between the two
                    self.places[resolution.end] = self.places[call.identity]

    def _accept(self, target: Element, call: Call, before: int | None) -> None:
        entry = target.entry
        del self.outcomes[entry.position]
        self._shift(entry.identity, -1)
        self._shift(call.identity, +1)
        if before in self.outcomes:
            target.place = (*self.outcomes[before].place[:-1], 0, entry.position, 1)
        self.outcomes[entry.position] = target
        self._rename(target, call)

    def _follow(self, recorded: Identity | None, call: Call) -> None:
        """The outcome that was accepted is superseded since; an intent that it left goes by the new name, too."""
        intent = None if recorded is None else self._newest.get(recorded)
        if recorded is not None and intent is not None and intent.entry.status is EntryStatus.INTENDED:
            del self._newest[recorded]
            self._rename(intent, call)

    def _rename(self, target: Element, call: Call) -> None:
        target.entry = structs.replace(target.entry, identity=call.identity, args_hash=call.args_hash)
        self._newest[call.identity] = target

    def _place(self, position: int, identity: Identity) -> Place:
        """The place of an entry, also of one that is superseded by now."""
        if position in self.outcomes:
            return self.outcomes[position].place
        if identity in self.places:
            return (*self.places[identity][:-2], position, 1)
        return (int(identity.segment != SETUP), position, 1)

    def _shift(self, identity: Identity, by: int) -> None:
        """Move the occurrences of the calls of that name from this one on, for one more came or this one went."""
        for element in self.outcomes.values():
            element.entry = structs.replace(
                element.entry, identity=_shifted(element.entry.identity, identity, by)
            )
        self.tries = {_shifted(i, identity, by): count for i, count in self.tries.items()}
        self.places = {_shifted(i, identity, by): place for i, place in self.places.items()}
        self.doubts = {_shifted(i, identity, by): entry for i, entry in self.doubts.items()}
        self._newest = {element.entry.identity: element for element in self.outcomes.values()}


def arrange(entries: Iterable[Entry], resolutions: Sequence[Resolution]) -> Line:
    """The journal as it stands after all that was recorded and given, in the order of their times."""
    line, given = Line(), deque(resolutions)
    for entry in entries:
        while given and given[0].after < entry.position:
            line.resolve(given.popleft())
        line.add(entry)
    for resolution in given:
        line.resolve(resolution)
    return line


def _shifted(mine: Identity, identity: Identity, by: int) -> Identity:
    first = identity.occurrence if by > 0 else identity.occurrence + 1
    if identity.key is None and mine[:4] == identity[:4] and mine.occurrence >= first:
        return mine._replace(occurrence=mine.occurrence + by)
    return mine
