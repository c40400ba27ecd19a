"""`budget list | show | set | raise | remove`: what runs may use up, and have."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import click

from holdfast.cli import words
from holdfast.cli.app import CommandGroup, did_you_mean
from holdfast.cli.exits import Exit
from holdfast.cli.options import DURATION, common, find, ids_for_completion, on_store
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.client import BudgetView, Client
from holdfast.errors import NotFound, UsageError
from holdfast.model import Unit
from holdfast.rules.budget import Budget, run_of_scope, scope_of
from holdfast.store import shown

P = ParamSpec("P")
T = TypeVar("T")

LISTED = 1_000
"""Budgets that are listed, and compared with a name that is not there."""


@click.group(cls=CommandGroup)
def budget() -> None:
    """What runs may use up: those of runs, and shared ones of agents and projects.

    A SCOPE is the ID of a run, agent:NAME, or project:NAME (the runs with the tag project=NAME).
    """


scope_argument = click.argument("scope", metavar="SCOPE", shell_complete=ids_for_completion)


Units: TypeAlias = "dict[Unit, float]"


def units(command: Callable[Concatenate[Units, P], T]) -> Callable[P, T]:
    """An option for each unit; the command gets those that were given as its first argument."""

    @functools.wraps(command)
    def gathered(*args: P.args, **kwargs: P.kwargs) -> T:
        typed: dict[Unit, Any] = {unit: kwargs.pop(unit.value) for unit in Unit}
        return command({unit: one for unit, one in typed.items() if one is not None}, *args, **kwargs)

    options = (
        click.option("--usd", type=float, help="Dollars, by the price table."),
        click.option("--tokens-in", type=int, help="Fresh tokens read."),
        click.option("--tokens-out", type=int, help="Tokens made."),
        click.option("--tokens-cached", type=int, help="Tokens read from a cache."),
        click.option("--working-s", type=DURATION, help="Working time: seconds, or 90s, 15m, 2h."),
        click.option("--steps", type=int, help="Steps."),
        click.option("--tool-calls", type=int, help="Calls of tools."),
        click.option("--requests", type=int, help="Requests to models."),
    )
    for option in reversed(options):
        gathered = option(gathered)
    return gathered


def _on_scope(store: str | None, given: str, work: Callable[[Client, str], Awaitable[int]]) -> int:
    """Do it with the scope that is meant: a run's id may be cut short."""

    async def found(client: Client) -> int:
        scope = scope_of(given)
        run_id = run_of_scope(scope)
        if run_id is not None:
            scope = f"run:{(await find(client, run_id)).id}"
        return await work(client, scope)

    return on_store(store, found)


def _say(views: Sequence[BudgetView], document: object, as_json: bool) -> int:
    if as_json:
        print_document(document)
    for view in () if as_json else views:
        for line in lines(view):
            say(line)
    return Exit.SUCCEEDED


@budget.command("list")
@click.option("--all", "every", is_flag=True, help="Those of runs, too.")
@common
def list_budgets(every: bool, store: str | None, as_json: bool) -> int:
    """List the shared budgets, with --all those of runs, too: what is used, reserved and left."""

    async def tell(client: Client) -> int:
        views = await client.budgets.list(runs=every, limit=LISTED)
        if not views and not as_json:
            say("no budgets" if every else "no shared budgets (--all lists those of runs)", err=True)
        return _say(views, views, as_json)

    return on_store(store, tell)


@budget.command()
@scope_argument
@common
def show(scope: str, store: str | None, as_json: bool) -> int:
    """A budget; of a run every one that it is charged to, its own first."""

    async def tell(client: Client, named: str) -> int:
        run_id = run_of_scope(named)
        if run_id is not None:
            views = await client.budgets.of_run(run_id)
        else:
            one = await client.budgets.get(named)
            if one is None:
                raise await _not_found(client, named)
            views = [one]
        if not views and not as_json:
            say(f"{run_id} has no budget: holdfast budget set {run_id} --usd 5", err=True)
        return _say(views, views, as_json)

    return _on_scope(store, scope, tell)


async def _not_found(client: Client, named: str) -> NotFound:
    known = [one.scope for one in await client.budgets.list(limit=LISTED)]
    hint = did_you_mean(named, known) or f": holdfast budget set {named} --usd 5 makes it"
    return NotFound(f"no budget {named!r} in {shown(client.store.url)}{hint}")


@budget.command("set")
@scope_argument
@units
@click.option("--soft", type=float, help="Tell at this share of a limit; 0.8 until it is set.")
@click.option("--per", type=DURATION, help="Begin anew after so long, such as 1d; of shared budgets only.")
@common
def set_budget(
    typed: Units, scope: str, store: str | None, as_json: bool, soft: float | None, per: float | None
) -> int:
    """Set limits of a budget, whatever is used already; runs that fit into it then go on."""
    given = _budget(typed, soft=soft)

    async def steer(client: Client, named: str) -> int:
        view = await client.budgets.set(named, given, per=per)
        return _say([view], view, as_json)

    return _on_scope(store, scope, steer)


@budget.command("raise")
@scope_argument
@units
@common
def raise_budget(typed: Units, scope: str, store: str | None, as_json: bool) -> int:
    """Raise limits of a budget by so much; runs that wait for it go on."""
    more = _budget(typed)

    async def steer(client: Client, named: str) -> int:
        view = await client.budgets.raise_by(named, more)
        return _say([view], view, as_json)

    return _on_scope(store, scope, steer)


@budget.command()
@scope_argument
@common
def remove(scope: str, store: str | None, as_json: bool) -> int:
    """Forget a budget and what was used of it; runs that wait for it go on."""

    async def steer(client: Client, named: str) -> int:
        if await client.budgets.get(named) is None:
            raise await _not_found(client, named)
        await client.budgets.remove(named)
        if as_json:
            print_document({"scope": named, "removed": True})
        else:
            say(f"{named}: removed")
        return Exit.SUCCEEDED

    return _on_scope(store, scope, steer)


def _budget(typed: Units, soft: float | None = None) -> Budget:
    if not typed:
        raise UsageError("say how much of what, such as --usd 5 (or --tokens-out, --working-s, --steps …)")
    return Budget(**{unit.value: amount for unit, amount in typed.items()}, soft=soft)  # type: ignore[arg-type]


def lines(view: BudgetView) -> list[str]:
    """A budget as people read it: a line for itself, and one for each unit."""
    head = view.scope
    if view.per_s is not None:
        head += f", anew every {words.duration(view.per_s)}"
    if view.waiting:
        head += f", {words.number(view.waiting, 'run')} waiting for it"
    return [head, *(f"  {words.spent(unit)}" for unit in view.units)]
