"""Limits that runs share: concurrency keys and rates."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The concurrency key of a run, and how many runs with this key it allows to run at once, itself included."""

    key: str
    at_most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a rate allows: `units` in each `period_us`, and `burst` of them at once after a pause."""

    units: int
    period_us: int
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTurn:
    """A call of an attempt that asks for its turn under a shared rate: it costs `cost` units.

    `terms` are those that its code declares. `call` names the call within the run: a turn that lies so far ahead that
    the run is unloaded until then is kept under it.
    """

    rate: str
    terms: Terms
    cost: int
    run: int
    token: int
    call: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """How long to wait for a turn; negative: a kept one came so long ago. `reserved=False`: it lies too far ahead to be
    kept; ask again then."""

    wait_us: int
    reserved: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRecord:
    """A shared rate as stored. `pinned`: an operator set its terms, and what code declares does not count.

    The next turn of one unit is in `wait_us`; all of them are held back for `held_back_us`, as a server asked.
    """

    name: str
    terms: Terms
    pinned: bool
    wait_us: int
    held_back_us: int
