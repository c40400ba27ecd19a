"""Limits that runs share: concurrency keys and rates."""

from __future__ import annotations

from msgspec import Struct


class Lane(Struct, frozen=True, kw_only=True):
    """The concurrency key of a run, and how many runs with this key it allows to run at once, itself included."""

    key: str
    at_most: int


class Terms(Struct, frozen=True, kw_only=True):
    """What a rate allows: `units` in each `period_us`, and `burst` of them at once after a pause."""

    units: int
    period_us: int
    burst: int


class NewTurn(Struct, frozen=True, kw_only=True):
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


class Turn(Struct, frozen=True, kw_only=True):
    """How long to wait for a turn; negative: a kept one came so long ago. `reserved=False`: it lies too far ahead to be
    kept; ask again then."""

    wait_us: int
    reserved: bool = True


class RateRecord(Struct, frozen=True, kw_only=True):
    """A shared rate as stored. `pinned`: an operator set its terms, and what code declares does not count.

    The next turn of one unit is in `wait_us`; all of them are held back for `held_back_us`, as a server asked.
    """

    name: str
    terms: Terms
    pinned: bool
    wait_us: int
    held_back_us: int
