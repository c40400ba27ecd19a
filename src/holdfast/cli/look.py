"""`ls`, `show`, `steps`, `checkpoints`, `state`: look at runs without touching them."""

from __future__ import annotations

import shlex
from typing import Final

import click

from holdfast.cli.exits import Exit
from holdfast.cli.explain import explain
from holdfast.cli.needs import needs_of
from holdfast.cli.options import common, filters, on_run, on_store, run_argument
from holdfast.cli.saying import say
from holdfast.cli.views import in_trees, print_document, shown_whole
from holdfast.client import Client, RunHandle
from holdfast.client.view import at
from holdfast.errors import UsageError
from holdfast.model import RunState
from holdfast.rules.tags import parsed

SHOWN_BELOW: Final = 50
"""Runs under the page of the one that started them: more is no page any more."""


@click.command()
@filters
@click.option(
    "-n", "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many."
)
@click.option(
    "--needs-me", is_flag=True, help="What only a person can move: questions first, each with its command."
)
@click.option("--tree", is_flag=True, help="Runs that no other started, each with what it started.")
@common
def ls(
    agent: str | None,
    states: tuple[str, ...],
    queue: str | None,
    tags: tuple[str, ...],
    text: str | None,
    limit: int,
    needs_me: bool,
    tree: bool,
    store: str | None,
    as_json: bool,
) -> int:
    """List runs, newest first: state and reason, progress, age."""
    if needs_me:
        if agent or states or queue or tags or text:
            raise UsageError(
                "--needs-me lists what waits for people in all runs: leave the other choices out"
            )
        return on_store(store, lambda client: _needs(client, limit, as_json))

    async def list_them(client: Client) -> int:
        chosen = [RunState(state) for state in states]
        views = await client.runs(
            agent=agent, states=chosen, queue=queue, tags=parsed(tags), text=text, limit=limit, top=tree
        )
        if tree and views:
            views = in_trees(views, await client.tree([view.id for view in views]))
        if as_json:
            print_document(views)
        elif not views:
            nothing_chosen = not (agent or states or queue or tags or text)
            say("no runs here yet" if nothing_chosen else "no run fits", err=True)
        else:
            from holdfast.cli.console import console
            from holdfast.cli.render import runs_table

            console().print(runs_table(views, at(await client.store.now())))
        return Exit.SUCCEEDED

    return on_store(store, list_them)


async def _needs(client: Client, limit: int, as_json: bool) -> int:
    found = await needs_of(client, limit)
    if as_json:
        print_document(found)
    elif not found:
        say("nothing waits for a person", err=True)
    else:
        from holdfast.cli.console import console
        from holdfast.cli.render import needs_table

        console().print(needs_table(found, at(await client.store.now())))
    return Exit.SUCCEEDED


@click.command()
@run_argument
@common
def show(run_id: str, store: str | None, as_json: bool) -> int:
    """Everything about one run: its state, why nothing moves, and the commands that lead out."""

    async def tell(client: Client, handle: RunHandle[object]) -> int:
        view, history = await handle.status(), await handle.history()
        if as_json:
            print_document(shown_whole(view, history))
            return Exit.SUCCEEDED
        from holdfast.cli.charts import BLOCKS, PLAIN, history_chart
        from holdfast.cli.console import console
        from holdfast.cli.render import page

        detail = await handle.detail()
        now = at(await client.store.now())
        why, given = explain(view, detail, now), await handle.input()
        below = in_trees([], await client.tree([run_id], SHOWN_BELOW), of=run_id) if view.children else []
        screen = console()
        blocks = BLOCKS if screen.encoding.startswith("utf") else PLAIN
        chart = history_chart(history, view.resources, screen.width, blocks=blocks)
        screen.print(page(view, detail, why, now, given, below, chart), soft_wrap=False)
        if len(below) == SHOWN_BELOW:
            say(f"the first {SHOWN_BELOW} of them; `holdfast ls --tree` has all", err=True)
        return Exit.SUCCEEDED

    return on_run(store, run_id, tell)


@click.command()
@run_argument
@common
def steps(run_id: str, store: str | None, as_json: bool) -> int:
    """What a run has recorded, in order: results, failures, tries, and what a retry superseded."""

    async def tell(_: Client, handle: RunHandle[object]) -> int:
        recorded = await handle.steps()
        if as_json:
            print_document(recorded)
        elif not recorded:
            say(f"run {handle.id} has recorded nothing yet", err=True)
        else:
            from holdfast.cli.console import console
            from holdfast.cli.render import steps_table

            console().print(steps_table(recorded))
        return Exit.SUCCEEDED

    return on_run(store, run_id, tell)


@click.command()
@run_argument
@common
def checkpoints(run_id: str, store: str | None, as_json: bool) -> int:
    """The stored checkpoints of a run, each verified."""

    async def tell(_: Client, handle: RunHandle[object]) -> int:
        stored = await handle.checkpoints()
        if as_json:
            print_document(stored)
        elif not stored:
            say(f"run {handle.id} has no checkpoint yet", err=True)
        else:
            from holdfast.cli.console import console
            from holdfast.cli.render import checkpoints_table

            console().print(checkpoints_table(stored))
            say(f"`holdfast state {shlex.quote(handle.id)} --checkpoint N` prints one", err=True)
        return Exit.SUCCEEDED

    return on_run(store, run_id, tell)


@click.command()
@run_argument
@click.option(
    "--checkpoint", "n", type=click.IntRange(min=1), help="Of this checkpoint. [default: the newest good one]"
)
@common
def state(run_id: str, n: int | None, store: str | None, as_json: bool) -> int:
    """The state in a checkpoint of a run, as JSON."""

    async def tell(_: Client, handle: RunHandle[object]) -> int:
        print_document(await handle.state(n))
        return Exit.SUCCEEDED

    return on_run(store, run_id, tell)
