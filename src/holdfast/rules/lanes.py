"""Concurrency keys: how many runs of one key hold a lease at once, and who is next in line.

Laws of this file:
1. Of the limits that runs of one key declare, the smallest among those concerned holds: none is ever exceeded.
2. The line is in the order of claims (`schedule.claim_key`): whoever stands ahead goes first, also the called ones.
3. A call that nobody answers in time passes to the next in line: a run that no worker can take stops nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from holdfast.errors import UsageError
from holdfast.model import Lane

MAX_KEY: Final = 200
"""Characters of a key: people read it, and it is an index's."""

MAX_AT_ONCE: Final = 1_000
"""Live runs under one key: they are counted at every move; a larger limit is one of a queue."""

CALL_LAPSES_US: Final = 10_000_000
"""So long a run that is called has to be claimed: ten looks of an idle worker."""


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `limit` runs with the same `key` run at once, in the whole store; the others wait in line, at no slot.

    `key` is text, or a function of the agent's arguments that returns text or a number (None: no limit for this run).
    A key is one word for all agents: those that use the same share its limit.
    """

    key: str | Callable[..., object]
    limit: int = 1

    def __post_init__(self) -> None:
        if not callable(self.key):
            _check_key(self.key)
        if type(self.limit) is not int or not 1 <= self.limit <= MAX_AT_ONCE:
            raise UsageError(
                f"Concurrency(limit={self.limit!r}): a whole number from 1 to {MAX_AT_ONCE}; "
                "for more, give the runs a queue of their own and limit that"
            )

    def lane(self, args: tuple[object, ...]) -> Lane | None:
        """The lane of a run with these arguments; None when its key is None. Raises UsageError."""
        key: object = self.key
        if callable(key):
            try:
                found: object = key(*args)
            except Exception as error:
                raise UsageError(
                    f"the key of Concurrency(…) raised {type(error).__name__}: {error}; it is called with the "
                    "agent's arguments"
                ) from error
            if found is None:
                return None
            key = str(found) if type(found) is int else found
        return Lane(key=_check_key(key), at_most=self.limit)


def _check_key(key: object) -> str:
    if not isinstance(key, str) or not key or len(key) > MAX_KEY or not key.isprintable():
        raise UsageError(
            f"a concurrency key is text of 1 to {MAX_KEY} printable characters, not {repr(key)[:80]}: "
            "Concurrency('customer-7'), or Concurrency(lambda repo: repo)"
        )
    return key


def may_run(lane: Lane, *, live: int, narrowest: int | None, ahead: int) -> bool:
    """Whether a run of this lane may run now. `live` counts the runs of its key that run, `narrowest` is the smallest
    limit that one of them declared (None: none runs), `ahead` counts those in line and called ahead of it."""
    at_most = lane.at_most if narrowest is None else min(lane.at_most, narrowest)
    return live + ahead < at_most


def lapsed(called_at_us: int, now_us: int) -> bool:
    """Whether a call was not answered in time; one from the future is of a clock that was set back."""
    return not called_at_us <= now_us < called_at_us + CALL_LAPSES_US
