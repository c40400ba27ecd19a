"""Shared rates: one row each, which every worker's turns are booked in.

What is booked is kept as a length of time as of a moment, and shrinks by the time since boot: nobody sets that clock.
After a reboot the wall clock tells how long the machine was away, and one that went back says: no time at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from holdfast.clock import Clock
from holdfast.errors import NotFound
from holdfast.model import AdjustRate, NewTurn, RateRecord, Terms, Turn
from holdfast.rules import rate as rules
from holdfast.store.transactions.connection import Connection


@dataclass(frozen=True, slots=True)
class _Rate:
    """A rate as of now."""

    terms: Terms
    pinned: bool
    booked: rules.Booked


@dataclass(frozen=True, slots=True)
class _Moment:
    """Now, by every clock."""

    boot_id: str
    boot_us: int
    wall_us: int


def take(connection: Connection, clock: Clock, asked: Sequence[NewTurn]) -> list[Turn]:
    """Book a turn for each that asks, in order, inside the caller's transaction."""
    now = _now(clock)
    rates: dict[str, _Rate] = {}
    turns: list[Turn] = []
    for new in asked:
        known = rates.get(new.rate) or _load(connection, new.rate, now)
        rate = _declared(known, new.terms)
        rates[new.rate], turn = _book(connection, rate, new, now)
        turns.append(turn)
    for name, rate in rates.items():
        _save(connection, name, rate, now)
    return turns


def hold_back(connection: Connection, clock: Clock, name: str, terms: Terms, for_us: int) -> None:
    """Let no turn of the rate begin for so long."""
    now = _now(clock)
    rate = _declared(_load(connection, name, now), terms)
    _save(connection, name, replace(rate, booked=rules.hold_back(rate.booked, rate.terms, for_us)), now)


def adjust(connection: Connection, run: int, position: int, thing: AdjustRate, now_us: int) -> None:
    """A call used more or less than its turn. The booking counts as of its own moment: no time has passed for it."""
    row = connection.row("rates.rate", (thing.rate,))
    if row is None:  # it was deleted meanwhile
        return
    units, period_us, burst, _, ahead_us, held_back_us = row[:6]
    terms = Terms(units=units, period_us=period_us, burst=burst)
    booked = rules.adjust(rules.Booked(ahead_us, held_back_us), terms, thing.units)
    connection.run("rates.adjust", (thing.rate, booked.ahead_us))


def pin(connection: Connection, clock: Clock, name: str, terms: Terms | None) -> None:
    """Set the terms, whatever code declares; None: let code declare them again. Raises NotFound for that."""
    now = _now(clock)
    rate = _load(connection, name, now)
    if terms is not None:
        booked = rules.Booked() if rate is None else rate.booked
        _save(connection, name, _Rate(terms, True, booked), now)
    elif rate is not None:
        _save(connection, name, replace(rate, pinned=False), now)
    else:
        raise _not_found(connection, name)


def forget(connection: Connection, name: str) -> None:
    """Delete the rate and what is booked in it. Raises NotFound."""
    connection.run("rates.forget", (name,))
    if not connection.changed():
        raise _not_found(connection, name)


def read(connection: Connection, clock: Clock, name: str) -> RateRecord | None:
    """The rate as of now, or None."""
    rate = _load(connection, name, _now(clock))
    if rate is None:
        return None
    _, wait_us = rules.take(rate.booked, rate.terms, 1)
    return RateRecord(
        name=name,
        terms=rate.terms,
        pinned=rate.pinned,
        wait_us=rules.HORIZON_US if wait_us is None else wait_us,
        held_back_us=rate.booked.held_back_us,
    )


def listed(connection: Connection, clock: Clock) -> list[RateRecord]:
    """Every rate, by name."""
    found = (read(connection, clock, name) for (name,) in connection.rows("rates.rates"))
    return [each for each in found if each is not None]


def _book(connection: Connection, rate: _Rate, new: NewTurn, now: _Moment) -> tuple[_Rate, Turn]:
    """The turn that is kept for this call, or a new one."""
    kept_us = _kept(connection, rate, new, now)
    if kept_us is not None:
        if kept_us <= rules.LOADED_US:
            connection.run(
                "rates.drop_turn", (new.run, new.call)
            )  # a turn is used once, whatever becomes of the call
        return rate, Turn(wait_us=kept_us)
    if connection.row("rates.runs_under", (new.run, new.token)) is None:
        return rate, Turn(wait_us=rules.HORIZON_US, reserved=False)  # fenced out: it books nothing
    booked, wait_us = rules.take(rate.booked, rate.terms, new.cost)
    if wait_us is None:
        return rate, Turn(wait_us=rules.HORIZON_US, reserved=False)
    if wait_us > rules.LOADED_US:
        connection.run("rates.drop_past_turns", (new.run, now.boot_us - rules.LATE_US, now.boot_id))
        at_us = now.boot_us + wait_us
        connection.run("rates.keep_turn", (new.run, new.call, new.rate, now.boot_id, at_us))
    return replace(rate, booked=booked), Turn(wait_us=wait_us)


def _kept(connection: Connection, rate: _Rate, new: NewTurn, now: _Moment) -> int | None:
    row = connection.row("rates.turn", (new.run, new.call))
    if row is None or row[:2] != (new.rate, now.boot_id):
        return None
    in_us: int = row[2] - now.boot_us
    return in_us if rules.stands(in_us, rate.booked.held_back_us) else None


def _now(clock: Clock) -> _Moment:
    return _Moment(clock.boot_id(), clock.boot_us(), clock.wall_us())


def _load(connection: Connection, name: str, now: _Moment) -> _Rate | None:
    row = connection.row("rates.rate", (name,))
    if row is None:
        return None
    units, period_us, burst, pinned, ahead_us, held_back_us, boot_id, boot_us, wall_us = row
    elapsed_us = now.boot_us - boot_us if boot_id == now.boot_id else now.wall_us - wall_us
    booked = rules.later(rules.Booked(ahead_us, held_back_us), elapsed_us)
    return _Rate(Terms(units=units, period_us=period_us, burst=burst), bool(pinned), booked)


def _declared(rate: _Rate | None, terms: Terms) -> _Rate:
    """The rate under the newest terms: those of an operator, or of the code that asks."""
    if rate is None:
        return _Rate(terms, False, rules.Booked())
    return rate if rate.pinned else replace(rate, terms=terms)


def _save(connection: Connection, name: str, rate: _Rate, now: _Moment) -> None:
    terms, booked = rate.terms, rate.booked
    connection.run(
        "rates.save",
        (name, terms.units, terms.period_us, terms.burst, rate.pinned, booked.ahead_us, booked.held_back_us,
         now.boot_id, now.boot_us, now.wall_us),
    )  # fmt: skip


def _not_found(connection: Connection, name: str) -> NotFound:
    there = ", ".join(repr(known) for (known,) in connection.rows("rates.rates")) or "none"
    return NotFound(f"there is no rate {name!r} in {connection.where}; there is {there}")
