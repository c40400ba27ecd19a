"""Shared rates: when a call may begin, by the generic cell rate algorithm (ITU-T I.371), in whole microseconds.

Laws of this file:
1. In any window of W starts at most `burst - 1 + ceil(W / interval)` units, where the interval is period / units.
2. A turn is reserved: whoever has to wait gets its time, in the order of asking, and nobody has to ask again for it.
3. Time is counted as it passes, never as an instant: a clock that is set books nothing and frees nothing.
4. A server's Retry-After moves everybody: no turn lies before it, and after it the rate begins without a burst.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass, replace
from typing import Final, Literal

from holdfast.duration import micros
from holdfast.errors import UsageError
from holdfast.model import Terms
from holdfast.rules.usage import Usage

MAX_NAME: Final = 200
"""Characters of a rate's name: people read it."""

MAX_UNITS: Final = 1_000_000_000
"""Units in a period, or at once: beyond it nothing is limited."""

MAX_PERIOD_US: Final = 31 * 86_400 * 1_000_000
"""A month: longer budgets are budgets, not rates."""

LOADED_US: Final = 2_000_000
"""A turn up to this far ahead is waited for in memory; beyond it the run is unloaded, and the store keeps it."""

LEAD_US: Final = 1_500_000
"""So long before its turn an unloaded run is woken: an idle worker looks once a second."""

LATE_US: Final = 500_000
"""A turn that is not used within this is lost: used later, it would be one too many for the window it falls into."""

HORIZON_US: Final = 86_400 * 1_000_000
"""A day: turns are not reserved further ahead, for most of those who wait would be gone by then."""

_PERIODS_US: Final = (
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
)
_COUNTS: Final = ("calls", "tokens", "tokens_in", "tokens_out")
_RATE: Final = re.compile(r"(\d+)/((?:\d+(?:\.\d+)?)?(?:ms|s|m|min|h|d))")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A rate that all workers share: `RateLimit("openai", "500/m")`, five hundred units a minute.

    `name` is the same for all who share it. `burst` is how many units may begin at once after a pause: with 1 they are
    spread evenly, and no window of the period ever has more than the rate; a larger one adds as much to a window. Give
    it to a step: `ctx.step(ask, question, rate=limit)`, or `rate=limit.cost(3)` for one that costs more.
    With `counts="tokens"` (or `tokens_in`, `tokens_out`) a call takes what its `cost` estimates, corrected afterwards.
    """

    name: str
    rate: str
    _: KW_ONLY
    burst: int = 1
    units: int = 1
    counts: Literal["calls", "tokens", "tokens_in", "tokens_out"] = "calls"

    def __post_init__(self) -> None:
        _check_name(self.name)
        _parse(self.rate)
        if type(self.burst) is not int or not 1 <= self.burst <= MAX_UNITS:
            raise UsageError(
                f"RateLimit({self.name!r}, burst={self.burst!r}): a whole number from 1 to {MAX_UNITS}"
            )
        if self.counts not in _COUNTS:
            raise UsageError(
                f"RateLimit({self.name!r}, counts={self.counts!r}): it is one of {', '.join(_COUNTS)}"
            )
        if type(self.units) is not int or self.units < 1:
            raise UsageError(
                f"a call of rate {self.name!r} costs a whole number of units, 1 or more, not {self.units!r}"
            )
        if self.units > self.burst:
            raise UsageError(
                f"a call costs {self.units} units of rate {self.name!r}, but at most {self.burst} may begin at once: "
                f"RateLimit({self.name!r}, {self.rate!r}, burst={self.units}) or more"
            )

    def cost(self, units: int) -> RateLimit:
        """The same rate for a call that costs `units`. Raises UsageError when that is more than the burst."""
        return replace(self, units=units)

    def counted(self, usage: Usage) -> int:
        """How many units a call of this usage is: its fresh tokens, of the kind that the rate counts."""
        of = {
            "tokens": usage.tokens_in + usage.tokens_out,
            "tokens_in": usage.tokens_in,
            "tokens_out": usage.tokens_out,
        }
        return of.get(self.counts, self.units)

    @property
    def terms(self) -> Terms:
        """What the rate allows."""
        units, period_us = _parse(self.rate)
        return Terms(units=units, period_us=period_us, burst=self.burst)


def terms_of(rate: str, burst: int = 1) -> Terms:
    """Terms as people write them: `"500/m"`. Raises UsageError."""
    return RateLimit("rate", rate, burst=burst).terms


def written(terms: Terms) -> str:
    """The rate as people write it, without its burst: `"500/m"`."""
    for unit, unit_us in _PERIODS_US:
        periods, rest = divmod(terms.period_us, unit_us)
        if not rest:
            return f"{terms.units}/{'' if periods == 1 else periods}{unit}"
    return f"{terms.units}/{terms.period_us / 1_000_000:g}s"


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise UsageError(
            f"the name of a RateLimit is text of 1 to {MAX_NAME} printable characters, not {repr(name)[:80]}"
        )


def _parse(rate: object) -> tuple[int, int]:
    """Units and period of a rate in writing."""
    found = _RATE.fullmatch(rate.replace(" ", "")) if isinstance(rate, str) else None
    if found is None:
        raise UsageError(f"{rate!r} is not a rate: {_meant(rate)}")
    units, per = int(found[1]), found[2]
    period_us = micros(per if per[0].isdigit() else f"1{per}")
    if not 1 <= units <= MAX_UNITS or not 1 <= period_us <= MAX_PERIOD_US:
        raise UsageError(
            f"the rate {rate!r} is out of bounds: 1 to {MAX_UNITS} units in a millisecond to 31 days"
        )
    return units, period_us


def _meant(rate: object) -> str:
    """What somebody meant who wrote '500 per minute', '500rpm' or 500."""
    text = str(rate).lower()
    number = re.search(r"\d+", text.replace("_", "").replace(",", ""))
    if number is None:
        return "write units and a period, such as '500/m' or '10/s'"
    rest = text.replace("per", " ").replace("rp", " ").replace("/", " ")
    unit = re.search(r"[smhd]", rest)
    return f"did you mean '{number[0]}/{unit[0] if unit else 'm'}'?"


# --- the rule -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Booked:
    """How far ahead of now a rate is booked, and for how long it is held back. Both shrink as time passes."""

    ahead_us: int = 0
    held_back_us: int = 0


def later(booked: Booked, elapsed_us: int) -> Booked:
    """The same after this time; a negative one, of a clock that was set back, counts as none."""
    elapsed_us = max(0, elapsed_us)
    return Booked(max(0, booked.ahead_us - elapsed_us), max(0, booked.held_back_us - elapsed_us))


def take(booked: Booked, terms: Terms, cost: int) -> tuple[Booked, int | None]:
    """Book a turn that costs so many units: what is booked then, and how long to wait for it.

    None: it lies over a day ahead, and nothing was booked. A call that is heavier than the burst (an operator made it
    so) waits until nothing is booked.
    """
    ahead_us = booked.ahead_us + interval_us(terms, cost)
    wait_us = max(0, ahead_us - interval_us(terms, max(terms.burst, cost)))
    if wait_us > HORIZON_US:
        return booked, None
    return replace(booked, ahead_us=ahead_us), wait_us


def hold_back(booked: Booked, terms: Terms, for_us: int) -> Booked:
    """Let no turn begin for so long, for a server asked for it; after it turns follow one another without a burst."""
    full_us = for_us + interval_us(terms, terms.burst) - interval_us(terms, 1)
    return Booked(max(booked.ahead_us, full_us), max(booked.held_back_us, for_us))


def adjust(booked: Booked, terms: Terms, units: int) -> Booked:
    """What is booked when a call used so many units more than it took (negative: fewer), up to the horizon. Turns that
    were given out before stand."""
    moved_us = interval_us(terms, abs(units))
    if units < 0:
        return replace(booked, ahead_us=max(0, booked.ahead_us - moved_us))
    most_us = max(booked.ahead_us, HORIZON_US)
    return replace(booked, ahead_us=min(most_us, booked.ahead_us + moved_us))


def interval_us(terms: Terms, units: int) -> int:
    """How long the rate takes for so many units, rounded up: the rate is never exceeded by a fraction."""
    return -(-units * terms.period_us // terms.units)


def stands(in_us: int, held_back_us: int) -> bool:
    """Whether a turn that was reserved and comes in so long (negative: it has come) may be used."""
    return in_us >= (held_back_us or -LATE_US)
