"""Which branches of an attempt are open now, what runs in them, and what they wait for.

Laws:
1. Code stands in the innermost open scopes; the code around them is suspended until they are closed.
2. A run is unloaded only when no code of it could move: every innermost scope waits for a time or a signal.
3. A drain or a pause ends the attempt only when nothing is in flight in any branch, so nothing is done twice for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from holdfast.model import INBOX_REASONS, Park, Reason
from holdfast.rules.waits import any_of

_TOLD_FIRST: Final = (Reason.APPROVAL, Reason.SIGNAL, Reason.CHILD)
"""Of several waits that one is told which needs a person most."""


class Branches:
    """The scopes of an attempt that are open, the root among them."""

    __slots__ = ("_open", "_waits", "in_flight", "inside", "several", "watching")

    def __init__(self) -> None:
        self.in_flight = 0
        self.several = False  # whether any branch is open
        self.inside: dict[str, int] = {}  # how many branches are open directly inside a scope, where any is
        self.watching: set[asyncio.Future[bool]] = set()  # of those who wait for a movement
        self._open: dict[str, str] = {}  # the branches, with the scope around each
        self._waits: dict[str, Park] = {}

    def within(self, scope: str) -> str | None:
        """A branch that is open directly inside the scope, if one is."""
        if scope not in self.inside:
            return None
        return next(branch for branch, outer in self._open.items() if outer == scope)

    def open(self, scope: str, outer: str) -> None:
        """A branch begins: the code around it, in the scope `outer`, is suspended."""
        self._open[scope] = outer
        self.several = True
        self.inside[outer] = self.inside.get(outer, 0) + 1
        if self.watching:
            self.tell()

    def close(self, scope: str) -> None:
        """The branch is over. Idempotent."""
        outer = self._open.pop(scope, None)
        if outer is None:
            return
        if self.inside[outer] == 1:
            del self.inside[outer]
            self.several = bool(self._open)
        else:
            self.inside[outer] -= 1
        if self.watching:
            self.tell()

    def tell(self) -> None:
        """Something moved: who waits for others looks again."""
        for watcher in self.watching:
            _wake(watcher, True)

    async def movement(self, timeout_s: float) -> bool:
        """Wait until something moves; False when nothing did for so long.

        Not by `asyncio.timeout`: in the first Pythons 3.11 its end is a CancelledError in a task that was cancelled
        before, as the loser of a race that tidies up was.
        """
        loop = asyncio.get_running_loop()
        watcher: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_later(timeout_s, _wake, watcher, False)
        self.watching.add(watcher)
        try:
            return await watcher
        finally:
            timer.cancel()
            self.watching.discard(watcher)

    def wait(self, scope: str, park: Park) -> None:
        """The code in the scope waits."""
        self._waits[scope] = park

    def go_on(self, scope: str) -> None:
        """The code in the scope moves again."""
        self._waits.pop(scope, None)

    @property
    def looping(self) -> Park | None:
        """The wait of code that goes round in circles, if some does."""
        return next((park for park in self._waits.values() if park.reason is Reason.LOOP), None)

    def stillness(self) -> Park | None:
        """How the run may be unloaded: for the earliest time and any of the signals. None while any code can move."""
        innermost = [scope for scope in ("", *self._open) if scope not in self.inside]
        if self.in_flight or not all(scope in self._waits for scope in innermost):
            return None
        return together(self._waits[scope] for scope in innermost)


def _wake(watcher: asyncio.Future[bool], moved: bool) -> None:
    if not watcher.done():
        watcher.set_result(moved)


def together(parks: Iterable[Park]) -> Park:
    """One wait for several: it ends with the first of them, but for a loop, which ends by a person alone."""
    waits = list(parks)
    if len(waits) == 1:
        return waits[0]
    looping = next((park for park in waits if park.reason is Reason.LOOP), None)
    if looping is not None:  # woken by another branch, it would go on though nobody let it
        return looping
    times = [park.until_us for park in waits if park.until_us is not None]
    signals = [park for park in waits if park.reason in INBOX_REASONS]
    unfunded = any(park.unfunded for park in waits)
    if not signals:
        first = min(waits, key=lambda park: park.until_us or 0)
        return Park(reason=first.reason, until_us=min(times, default=None), unfunded=unfunded)
    return Park(
        reason=min((park.reason for park in signals), key=_TOLD_FIRST.index),
        until_us=min(times, default=None),
        wait_name=any_of(park.wait_name or "" for park in signals),
        inbox_seen=min(park.inbox_seen for park in signals),
        unfunded=unfunded,
    )


def outer_scope(scope: str) -> str:
    """The scope around a branch. Its path is that of the group, and the branch's key."""
    return scope.rpartition("/")[0].rpartition("/")[0]
