"""Where prices come from: the file that HOLDFAST_PRICES names, over the dated table that holdfast ships."""

from __future__ import annotations

import functools
import os
import tomllib
from collections.abc import Mapping
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Final

from holdfast.errors import UsageError
from holdfast.rules.prices import Prices, parsed

VARIABLE: Final = "HOLDFAST_PRICES"
STALE_DAYS: Final = 182
"""Half a year: providers change their prices about as often."""


@functools.cache
def shipped() -> tuple[Prices, date]:
    """The table that comes along, and its date."""
    text = resources.files("holdfast").joinpath("prices.toml").read_text("utf-8")
    as_of = tomllib.loads(text)["as_of"]
    return parsed(text, f"the table of {as_of} that holdfast ships"), as_of


def load(path: str | os.PathLike[str]) -> Prices:
    """The prices in a TOML file. Raises UsageError that names the file, the model and what is wrong."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the prices in {os.fspath(path)} cannot be read: {error}") from error
    return parsed(text, os.fspath(path))


def default(environ: Mapping[str, str] | None = None) -> Prices:
    """The prices of an agent that brings none. Raises as `load` does."""
    named = (os.environ if environ is None else environ).get(VARIABLE)
    return load(named).over(shipped()[0]) if named else shipped()[0]


def stale(prices: Prices, model: str, now_us: int) -> str | None:
    """What to say of a price that was shipped and is old by now; None when there is nothing to say."""
    table, as_of = shipped()
    price = prices.price(model)
    age_days = now_us // 86_400_000_000 - (as_of - date(1970, 1, 1)).days
    if price is None or price is not table.price(model) or age_days < STALE_DAYS:
        return None
    return (
        f"the price of {model!r} is that of {as_of}, which holdfast ships, {age_days} days old: check it, and give "
        f"your own by @agent(prices=…) or {VARIABLE}"
    )
