"""Budgets: what runs may use up, and what they have. Amounts are whole numbers in the grain of their unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from msgspec import Struct


class Unit(StrEnum):
    """What a budget counts. Fresh and cached tokens are apart: a cached one costs a tenth, or nothing."""

    USD = "usd"
    TOKENS_IN = "tokens_in"  # read by a model for the first time
    TOKENS_OUT = "tokens_out"
    TOKENS_CACHED = "tokens_cached"  # read by a model from its cache
    WORKING_S = "working_s"  # bodies of steps run; no queueing, no rate, no sleep, no person
    STEPS = "steps"
    TOOL_CALLS = "tool_calls"
    REQUESTS = "requests"  # to models, each try of them


GRAINS: Final = dict.fromkeys(Unit, 1) | {Unit.USD: 1_000_000_000, Unit.WORKING_S: 1_000_000}
"""How many of what is stored make one: nanodollars (a token of the cheapest model costs some), microseconds."""

SOFT_PERCENT: Final = 80
"""At this share of a limit an event warns, unless it was ever said."""

Amounts = dict[Unit, int]
"""So much of each unit, in grains; a unit that is missing is none."""


class Verdict(StrEnum):
    """What becomes of a call that asks for its share."""

    GRANTED = "granted"
    BUSY = "busy"  # it does not fit beside the calls in flight, which may cost less than they reserved
    FULL = "full"  # it does not fit in what is left, or is larger than all of it
    FENCED = "fenced"  # the attempt is over


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBudget:
    """Hard limits of some units, in grains, and at how many percent of one an event warns."""

    limits: Amounts
    soft_percent: int = SOFT_PERCENT


class NewReservation(Struct, frozen=True, kw_only=True):
    """A call of an attempt that asks for what it may use up, before it begins. `call` names it within the run."""

    run: int
    token: int
    call: str
    asked: Amounts


class Reserved(Struct, frozen=True, kw_only=True):
    """The answer. Unless it is granted, `scope` and `unit` are what it does not fit in, with the amounts there.

    `wait_us`: ask again then; None: when the budget is raised, which wakes the run.
    """

    verdict: Verdict
    scope: str = ""
    unit: Unit | None = None
    asked: int = 0
    hard: int = 0
    used: int = 0
    reserved: int = 0
    wait_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetChange:
    """What an operator changes: limits to `set` (None: no limit) and by how much to `add` to others, in grains.

    `per_us`: how long a window is, after which it begins anew; 0 for none; None leaves it.
    """

    set: dict[Unit, int | None] = field(default_factory=dict[Unit, "int | None"])
    add: Amounts = field(default_factory=dict[Unit, int])
    soft_percent: int | None = None
    per_us: int | None = None


class Account(Struct, frozen=True, kw_only=True):
    """One unit of a budget: its limit (None: it is only counted), what is used, and what calls in flight reserved."""

    unit: Unit
    hard: int | None = None
    used: int = 0
    reserved: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRecord:
    """A budget as stored. `scope` is `run:ID`, `agent:NAME` or `project:NAME`; a window of `per_us` ends at
    `ends_at_us`. `waiting`: so many runs wait for it."""

    scope: str
    soft_percent: int
    per_us: int | None
    ends_at_us: int | None
    accounts: tuple[Account, ...]
    waiting: int = 0
