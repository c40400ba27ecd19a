"""What runs share and use up, as parts of the Store protocol: rates, and budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from holdfast.model import (
    BudgetChange,
    BudgetRecord,
    NewReservation,
    NewTurn,
    RateRecord,
    Reserved,
    Terms,
    Turn,
)


class Rates(Protocol):
    """Rates that all workers share: who may begin a call, and when."""

    async def take_turns(self, asked: Sequence[NewTurn]) -> list[Turn]:
        """Book a turn under a shared rate for each call that asks, and say how long to wait for it.

        One transaction; in order; by `rules.rate` on the store's own clock, so that no window ever has more turns than
        the rate allows, whoever asks. The terms are those that an operator pinned, else those that are asked with. A
        turn over `rate.LOADED_US` ahead is kept for its run and call: who asks again gets it, until it has come to
        be that near; then it is given out for the last time. An attempt that is fenced out books nothing.
        """
        ...

    async def hold_back(self, rate: str, terms: Terms, for_us: int) -> None:
        """Let no turn of the rate begin for so long: a server asked for it. Turns given out before do not count."""
        ...

    async def get_rate(self, rate: str) -> RateRecord | None:
        """The rate as it is now; None when nobody has asked for a turn yet."""
        ...

    async def list_rates(self) -> list[RateRecord]:
        """Every rate, by name."""
        ...

    async def pin_rate(self, rate: str, terms: Terms | None) -> None:
        """Set the terms of a rate, whatever code declares; None: as code declares them. Raises NotFound for that."""
        ...

    async def forget_rate(self, rate: str) -> None:
        """Delete a rate, and what is booked in it. Raises NotFound."""
        ...


class Budgets(Protocol):
    """What runs may use up: their own, and shared ones of agents and projects (the runs tagged `project=NAME`).

    A run's calls are charged to its own budget, to those of its agent and project, and to all of its ancestors'. A run
    that uses a model under no budget gets one that only counts, and the event `budget.missing`, once.
    """

    async def reserve(self, asked: Sequence[NewReservation]) -> list[Reserved]:
        """Reserve for each call what it may use up, in every scope that it is charged to, or in none.

        One transaction; in order; by `rules.budget`. Idempotent within an attempt: a call that asks again has what it
        has. What an attempt that is over had reserved for the same call counts as used. A call that is refused is
        remembered: raising that budget wakes its run, and so does the room that a settled call leaves there. `Settle`
        beside an entry charges what was used, and tells of a soft limit that is passed, `budget.soft`, in the feed of
        the run; `sweep` settles what attempts that are over had reserved. Of a body that died with its worker, or with
        a process of its own, the working time that is known is charged where that is found: in the claim, or beside
        the end.
        """
        ...

    async def change_budget(self, scope: str, change: BudgetChange) -> BudgetRecord:
        """Set or raise limits of a budget, which is made when it is not there, and wake the runs that wait for it, in
        one transaction. Raises RunNotFound, and Refused when there is no limit to raise."""
        ...

    async def forget_budget(self, scope: str) -> None:
        """Delete a budget and what was used of it; the runs that wait for it go on. Raises NotFound."""
        ...

    async def get_budget(self, scope: str) -> BudgetRecord | None:
        """A budget as it is now, or None."""
        ...

    async def budgets_of(self, run_id: str) -> list[BudgetRecord]:
        """Every budget that the run is charged to, its own first. Raises RunNotFound."""
        ...

    async def list_budgets(self, limit: int, *, runs: bool = False) -> list[BudgetRecord]:
        """The shared budgets, by name; with `runs`, after them those of runs that limit something; at most `limit`."""
        ...
