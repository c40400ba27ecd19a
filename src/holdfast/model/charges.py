"""What a call is charged, beside the entry of its outcome."""

from __future__ import annotations

from holdfast.model.budgets import Amounts
from holdfast.model.changes import Beside


class Settle(Beside, frozen=True, kw_only=True):
    """What a call used up, beside the entry of its outcome; what it had reserved is free again."""

    call: str
    spent: Amounts


class AdjustRate(Beside, frozen=True, kw_only=True):
    """A call under a rate used so many units more than it took (negative: fewer)."""

    rate: str
    units: int
