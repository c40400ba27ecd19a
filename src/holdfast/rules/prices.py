"""What tokens cost: a table of prices per million, by model.

A model is looked up by its name; a provider before it (`anthropic/…`, `openai:…`) and a date behind it (`…-20250929`,
`…-2025-04-14`) count only where the table has them. Amounts are rounded up to a nanodollar.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, cast

from holdfast.errors import UsageError
from holdfast.model import GRAINS, Unit
from holdfast.rules.usage import Usage, stated

_MILLION: Final = 1_000_000
_DATE: Final = re.compile(r"(?:[-@](?:\d{8}|\d{4}-\d\d-\d\d)|-latest)$")
_OPTIONAL: Final = ("tokens_cached", "tokens_written", "tokens_written_1h")
_MOST: Final = 1_000_000.0
"""Dollars per million tokens: a dollar a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Dollars per million tokens: fresh ones read, made ones, ones read from a cache (none given: as fresh ones), ones
    written to a cache (none given: as fresh ones), and ones written to a cache for an hour (none given: 1.6 times as
    others written, which is twice the fresh where these are 1.25 times). Raises UsageError for what is no price."""

    tokens_in: float
    tokens_out: float
    tokens_cached: float | None = None
    tokens_written: float | None = None
    tokens_written_1h: float | None = None

    def __post_init__(self) -> None:
        for name in ("tokens_in", "tokens_out", *_OPTIONAL):
            value: object = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UsageError(f"Price({name}={value!r}): dollars per million tokens, 0 or more")
            if not 0 <= value <= _MOST:
                raise UsageError(f"Price({name}={value!r}): dollars per million tokens, 0 or more")

    def nanodollars(self, usage: Usage) -> int:
        """What this usage costs, rounded up."""
        cached = self.tokens_in if self.tokens_cached is None else self.tokens_cached
        written = _nano(self.tokens_in if self.tokens_written is None else self.tokens_written)
        total = (
            (usage.tokens_in - usage.tokens_written) * _nano(self.tokens_in)
            + (usage.tokens_written - usage.tokens_written_1h) * written
            + usage.tokens_written_1h * self._for_an_hour(written)
            + usage.tokens_cached * _nano(cached)
            + usage.tokens_out * _nano(self.tokens_out)
        )
        return -(-total // _MILLION)

    def _for_an_hour(self, written: int) -> int:
        if self.tokens_written_1h is not None:
            return _nano(self.tokens_written_1h)
        return written if self.tokens_written is None else -(-written * 8 // 5)


_TABLE: Final = "a table of prices by model, {'my-model': Price(tokens_in=3, tokens_out=15)}"


def _nano(dollars: float) -> int:
    return round(Decimal(str(dollars)) * GRAINS[Unit.USD])


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by model: `Prices({"my-model": Price(tokens_in=3, tokens_out=15)})`. `named` says where they are from."""

    table: Mapping[str, Price]
    named: str = "the prices given"

    def __post_init__(self) -> None:
        """Raise UsageError for what is no table of prices."""
        table = cast("object", self.table)
        if not isinstance(table, Mapping):
            raise UsageError(f"Prices({table!r}): {_TABLE}")
        for model, price in cast("Mapping[object, object]", table).items():
            if not isinstance(model, str) or not isinstance(price, Price):
                raise UsageError(f"Prices({{{model!r}: {price!r}}}): {_TABLE}")

    def price(self, model: str) -> Price | None:
        """The price of a model, or None."""
        bare = re.split(r"[/:]", model)[-1]
        for name in (model, bare, _DATE.sub("", model), _DATE.sub("", bare)):
            if name in self.table:
                return self.table[name]
        return None

    def over(self, other: Prices) -> Prices:
        """These prices, and those of the other table for models that are not in this one."""
        return Prices({**other.table, **self.table}, f"{self.named} and {other.named}")

    def missing(self, model: str) -> UsageError:
        """The error for a model that has no price: it says how it gets one."""
        near = difflib.get_close_matches(model, self.table, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return UsageError(
            f"model {model!r} has no price in {self.named}: {hint}add it, @agent(prices=Prices({{{model!r}: "
            "Price(tokens_in=…, tokens_out=…)})), or to the TOML file that HOLDFAST_PRICES names; or say what the "
            "call costs, Cost(usd=…)"
        )


def parsed(text: str, named: str) -> Prices:
    """Prices from TOML: a table for each model, `["my-model"]`, with `in`, `out`, `cached`, `written`, `written_1h`.

    Raises UsageError that names the model and what is wrong with it.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{named} is no TOML: {error}") from error
    tables.pop("as_of", None)
    return Prices({model: _price(model, table, named) for model, table in tables.items()}, named)


_NAMES: Final = {
    "in": "tokens_in",
    "out": "tokens_out",
    "cached": "tokens_cached",
    "written": "tokens_written",
    "written_1h": "tokens_written_1h",
}


def _price(model: str, table: object, named: str) -> Price:
    if not isinstance(table, dict):
        raise UsageError(
            f'{named}: {model!r} is no table of prices: write ["{model}"], then in = 3, out = 15'
        )
    prices = cast("dict[str, float]", table)
    for name in prices:
        if name not in _NAMES:
            raise UsageError(f"{named}: {model!r} has a price {name!r}; there are {', '.join(_NAMES)}")
    if not {"in", "out"} <= prices.keys():
        raise UsageError(f"{named}: {model!r} lacks `in` or `out`, dollars per million tokens")
    try:
        return Price(**{_NAMES[name]: value for name, value in prices.items()})
    except UsageError as error:
        raise UsageError(f"{named}: {model!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call may cost at most, reserved before it begins: `Cost(model="m", tokens_in=900, max_tokens_out=4096)`.

    Tokens are priced by the table; `usd` says the money by itself. Raises UsageError for what is no amount.
    """

    model: str | None = None
    tokens_in: int = 0
    max_tokens_out: int = 0
    tokens_cached: int = 0
    usd: float | None = None

    def __post_init__(self) -> None:
        _ = self.usage

    @property
    def usage(self) -> Usage:
        """The estimate as if it had been used."""
        if self.model is not None and not self.model:
            raise UsageError("Cost(model=''): the name of a model, or None")
        return stated(self.tokens_in, self.max_tokens_out, self.tokens_cached, self.usd, self.model)


def check_cost(cost: object) -> None:
    """Raise UsageError when `cost` is none."""
    if cost is not None and not isinstance(cost, Cost):
        raise UsageError(
            f"cost={cost!r} is no cost: did you mean cost=Cost(model='…', tokens_in=900, max_tokens_out=4096)?"
        )
