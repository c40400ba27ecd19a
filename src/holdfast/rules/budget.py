"""Budgets: what a call may begin with, what it is charged, and when somebody is told.

Laws of this file:
1. What is used and what calls in flight have reserved never add up to more than the limit when a call is granted: a
   limit is exceeded only by what a call uses beyond its reservation.
2. A call whose outcome nobody knows counts as having used what it reserved: a crash makes nothing cheaper.
3. Every scope of a call is charged the same, or none.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields
from decimal import Decimal
from typing import Final, TypeGuard

from msgspec.structs import replace

from holdfast.duration import Duration, micros
from holdfast.errors import Refused, UsageError
from holdfast.model import GRAINS, SOFT_PERCENT, Account, Amounts, NewBudget, Unit, Verdict

MOST: Final = 1 << 60
"""The largest limit, in grains: over a billion dollars. Sums of some of them are still whole numbers of a database."""

KEPT: Final = 1 << 62
"""The most that is counted of a unit: a whole number of a database ends little above. Whoever is there has no limit."""

RECHECK_US: Final = 600_000_000
"""A call that does not fit beside others in flight is woken when one of them makes room. Should whoever was woken not
take it, the next one asks again by itself after so long, at no cost worth a thought."""

DAY_US: Final = 86_400_000_000
MAX_PER_US: Final = 366 * DAY_US
"""A year: what lasts longer is no window."""

_SPENT_WHEN_LOST: Final = frozenset(
    {Unit.USD, Unit.TOKENS_IN, Unit.TOKENS_OUT, Unit.TOKENS_CACHED, Unit.REQUESTS}
)
_SCOPE: Final = re.compile(r"(run|agent|project):(.{1,1000})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may use up, its children included: `Budget(usd=5, working_s="2h")`.

    `usd` are dollars by the price table; `tokens_in` and `tokens_out` fresh tokens, `tokens_cached` those a model read
    from its cache; `working_s` the time in which bodies of steps run (a duration: no queueing, no rates, no sleep, no
    people); `steps`, `tool_calls` (steps with `tool=True`) and `requests` (tries with a `cost`) are counted. At `soft`
    of a limit an event tells (None: at 0.8, or where the budget that it changes has it); a call that does not fit in a
    limit parks the run until the budget is raised. Raises UsageError for what can be no limit.
    """

    usd: float | Decimal | None = None
    _: KW_ONLY
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int | None = None
    working_s: Duration | None = None
    steps: int | None = None
    tool_calls: int | None = None
    requests: int | None = None
    soft: float | None = None

    def __post_init__(self) -> None:
        if self.soft is not None and not (_is_number(self.soft) and 0 < self.soft <= 1):
            raise UsageError(
                f"Budget(soft={self.soft!r}): a share of the limit, over 0 and up to 1, such as 0.8"
            )
        _ = self.terms

    @property
    def terms(self) -> NewBudget:
        """The limits in grains. Raises UsageError when there is none."""
        limits = self.limits
        if not limits:
            raise UsageError(
                f"Budget() limits nothing: give it one of {', '.join(Unit)}, such as Budget(usd=5)"
            )
        return NewBudget(limits=limits, soft_percent=self.soft_percent or SOFT_PERCENT)

    @property
    def soft_percent(self) -> int | None:
        """At how many percent of a limit an event tells; None when it does not say."""
        return None if self.soft is None else max(1, round(self.soft * 100))

    @property
    def limits(self) -> Amounts:
        """The limits that are given, in grains."""
        given = {unit: getattr(self, unit) for unit in Unit}
        return {unit: grains(unit, value) for unit, value in given.items() if value is not None}


_UNITS: Final = tuple(each.name for each in fields(Budget) if each.name != "soft")


def budget_of(**limits: object) -> Budget:
    """A Budget of names as people write them. Raises UsageError that says what was meant."""
    for name in limits:
        if name not in (*_UNITS, "soft"):
            near = difflib.get_close_matches(name, _UNITS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_UNITS)}"
            raise UsageError(f"a budget has no unit {name!r}: {hint}")
    return Budget(**limits)  # type: ignore[arg-type]  # it checks them itself


def check_budget(budget: object, whose: str) -> None:
    """Raise UsageError when `budget` is neither a Budget nor None."""
    if budget is not None and not isinstance(budget, Budget):
        raise UsageError(f"{whose}: budget={budget!r} is no budget: did you mean budget=Budget(usd=5)?")


def grains(unit: Unit, value: object) -> int:
    """An amount as it is stored. Raises UsageError for one that can be no amount."""
    if unit is Unit.WORKING_S:
        return micros(value)  # type: ignore[arg-type]  # it refuses what is none
    if not _is_number(value) or value < 0 or (unit is not Unit.USD and value != int(value)):
        what = "dollars, 0 or more" if unit is Unit.USD else "a whole number, 0 or more"
        raise UsageError(f"{unit}={value!r} is no amount: it is {what}")
    if value > MOST // GRAINS[unit]:
        raise UsageError(f"{unit}={value!r} is over the largest limit, {MOST // GRAINS[unit]}")
    return round(value * GRAINS[unit])


def plain(unit: Unit, amount: int) -> float:
    """An amount as people read it: dollars, seconds, counts."""
    grain = GRAINS[unit]
    return amount if grain == 1 else amount / grain


def enough(unit: Unit, amount: int) -> str:
    """An amount as it is typed, rounded up to what people type: cents, seconds, counts."""
    if unit is Unit.USD:
        return f"{-(-amount // 10_000_000) / 100:.2f}"
    return str(-(-amount // GRAINS[unit]))


def told(unit: Unit, amount: int) -> str:
    """An amount in words: `$1.25`, `90 s`, `12,000 tokens_in`."""
    if unit is Unit.USD:
        text = f"{amount / GRAINS[unit]:,.6f}".rstrip("0")
        whole, _, cents = text.partition(".")
        return f"${whole}.{cents.ljust(2, '0')}"
    if unit is Unit.WORKING_S:
        return f"{amount / GRAINS[unit]:,.1f} working seconds"
    return f"{amount:,} {unit}"


def _is_number(value: object) -> TypeGuard[int | float | Decimal]:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return False
    if isinstance(value, Decimal):
        return value.is_finite()
    return isinstance(value, int) or math.isfinite(value)


# --- scopes ---------------------------------------------------------------------------------------------------


def scope_of(text: str) -> str:
    """The scope that people name: `agent:NAME`, `project:NAME`, or a run by its id. Raises UsageError."""
    if not text:
        raise UsageError("a budget is that of a run's ID, of agent:NAME or of project:NAME")
    return text if _SCOPE.fullmatch(text) else f"run:{text}"


def run_of_scope(scope: str) -> str | None:
    """The id of the run whose budget it is; None for a shared one."""
    kind, _, name = scope.partition(":")
    return name if kind == "run" else None


# --- the rule -------------------------------------------------------------------------------------------------


def verdict(account: Account, asked: int) -> Verdict:
    """Whether a call that asks for so much of the unit may begin."""
    hard = account.hard
    if hard is None or account.used + account.reserved + asked <= hard:
        return Verdict.GRANTED
    if account.used + asked <= hard:
        return Verdict.BUSY
    return Verdict.FULL


def worst(verdicts: Mapping[Unit, Verdict]) -> Unit | None:
    """The unit that stands most in the way; None when nothing does."""
    order = (Verdict.FULL, Verdict.BUSY)
    return next((unit for each in order for unit, found in verdicts.items() if found is each), None)


def wait_us(account: Account, asked: int, now_us: int, ends_at_us: int | None) -> int | None:
    """How long a call that is refused waits before it asks again; None: until its budget is raised, for a new window is
    no larger than this one."""
    if verdict(account, asked) is Verdict.BUSY:
        return RECHECK_US
    return None if ends_at_us is None or asked > (account.hard or 0) else ends_at_us - now_us


def reserve(account: Account, asked: int) -> Account:
    """The account when the call has begun."""
    return replace(account, reserved=min(KEPT, account.reserved + asked))


def settle(account: Account, reserved: int, spent: int) -> Account:
    """The account when a call that reserved so much has used so much."""
    used = min(KEPT, account.used + spent)
    return replace(account, reserved=max(0, account.reserved - reserved), used=used)


def cut_off(told: Mapping[str, object], step: str | None, until_us: int | None, now_us: int) -> int:
    """The working time of a body that was cut off: from when `told`, the event of the newest open step, says that it
    began, if that is the open `step`, until `until_us`. Nothing where anything of it is not known."""
    began_us = told.get("started_at_us")
    if until_us is None or told.get("name") != step or not isinstance(began_us, int):
        return 0
    return max(0, min(until_us, now_us) - began_us)


def lost(reserved: Mapping[Unit, int]) -> Amounts:
    """What a call is charged whose outcome nobody knows: what it reserved at its provider. It is no step done."""
    return {unit: amount for unit, amount in reserved.items() if unit in _SPENT_WHEN_LOST}


def passes_soft(before: Account, after: Account, soft_percent: int) -> bool:
    """Whether the charge, or a new limit, took the account over its soft limit."""
    return _at_soft(after, soft_percent) and not _at_soft(before, soft_percent)


def _at_soft(account: Account, soft_percent: int) -> bool:
    hard = account.hard
    return hard is not None and hard > 0 and account.used * 100 >= hard * soft_percent


def window_start(per_us: int, now_us: int) -> int:
    """When the window that is now began: windows are aligned to the epoch, a day is one in UTC."""
    return now_us // per_us * per_us


def begins_anew(per_us: int | None, since_us: int, now_us: int) -> bool:
    """Whether the window is over. A clock that was set back ends none."""
    return per_us is not None and now_us >= since_us + per_us


def check_per(per_us: int) -> int:
    """A window's length. Raises UsageError."""
    if not 1_000_000 <= per_us <= MAX_PER_US:
        raise UsageError("the window of a budget is a second to 366 days long, such as 1d")
    return per_us


def changed(scope: str, hard: int | None, unit: Unit, added: int) -> int:
    """The limit after it was raised. Raises Refused when there is none."""
    if hard is None:
        raise Refused(f"{scope} has no limit of {unit} to raise: set one, holdfast budget set")
    return min(MOST, hard + added)
