"""Budgets as operators see and change them: those of runs, and shared ones of agents and projects."""

from __future__ import annotations

from holdfast.client.view import BudgetUnitView, BudgetView, budget_view
from holdfast.duration import Duration, micros
from holdfast.errors import UsageError
from holdfast.model import BudgetChange
from holdfast.rules.budget import Budget, run_of_scope, scope_of
from holdfast.store.protocol import Store


class Budgets:
    """What runs may use up: `client.budgets`. A scope is a run's id, `agent:NAME`, or `project:NAME`, which is that of
    the runs with the tag `project=NAME`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, scope: str) -> BudgetView | None:
        """A budget as it is now; None when there is none."""
        found = await self._store.get_budget(scope_of(scope))
        return None if found is None else budget_view(found)

    async def of_run(self, run_id: str) -> list[BudgetView]:
        """Every budget that the run is charged to: its own, its agent's, its project's, and those of its ancestors.
        Raises RunNotFound."""
        return [budget_view(one) for one in await self._store.budgets_of(run_id)]

    async def list(self, *, runs: bool = False, limit: int = 100) -> list[BudgetView]:
        """The shared budgets; with `runs`, after them those of runs that limit something; at most `limit`."""
        return [budget_view(one) for one in await self._store.list_budgets(limit, runs=runs)]

    async def set(self, scope: str, budget: Budget, *, per: Duration | None = None) -> BudgetView:
        """Set the limits that `budget` gives, whatever is used already, and wake the runs that wait for it.
        What it does not give stays, `soft` too.

        `per` begins it anew after so long, aligned to the epoch (`"1d"`: at midnight, UTC); of shared ones only.
        Raises RunNotFound, UsageError.
        """
        named = scope_of(scope)
        per_us = None if per is None else micros(per)
        if per_us is not None and run_of_scope(named) is not None:
            raise UsageError(
                "the budget of a run has no window: a run is once; per= is for agent:… and project:…"
            )
        limits = budget.terms.limits
        change = BudgetChange(set=dict(limits), soft_percent=budget.soft_percent, per_us=per_us)
        return budget_view(await self._store.change_budget(named, change))

    async def raise_by(self, scope: str, more: Budget) -> BudgetView:
        """Raise limits by as much as `more` says, and wake the runs that wait for it. Raises RunNotFound, and Refused
        for a unit that has no limit."""
        change = BudgetChange(add=more.limits)
        return budget_view(await self._store.change_budget(scope_of(scope), change))

    async def remove(self, scope: str) -> None:
        """Forget a budget and what was used of it; who waits for it goes on. Raises NotFound."""
        await self._store.forget_budget(scope_of(scope))


__all__ = ["BudgetUnitView", "BudgetView", "Budgets"]
