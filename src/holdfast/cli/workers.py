"""`workers`: who serves, what each holds, and `workers drain`, from anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import click

from holdfast.cli import words
from holdfast.cli.app import CommandGroup, did_you_mean
from holdfast.cli.exits import Exit
from holdfast.cli.options import DURATION, common, on_store, workers_for_completion
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.client import Client, ServingView
from holdfast.client.view import at
from holdfast.errors import NotFound, UsageError

LOOK_S: Final = 0.2


class WorkersGroup(CommandGroup):
    """`workers` alone lists them."""

    default = "ls"


@click.group(cls=WorkersGroup)
def workers() -> None:
    """The workers of the store: what each serves and holds. `workers` alone lists them.

    `workers drain WORKER` empties one from anywhere, as SIGTERM does on its machine.
    """


@workers.command()
@common
def ls(store: str | None, as_json: bool) -> int:
    """List the workers that are alive, or dead and still hold runs."""

    async def tell(client: Client) -> int:
        views = await client.workers.list()
        if as_json:
            print_document(views)
        elif not views:
            say("no workers: `holdfast worker FILE.py` serves the agents of a file", err=True)
        else:
            from holdfast.cli.console import console
            from holdfast.cli.render import workers_table

            console().print(workers_table(views, at(await client.store.now())))
        return Exit.SUCCEEDED

    return on_store(store, tell)


@workers.command()
@click.argument("named", metavar="WORKER...", nargs=-1, shell_complete=workers_for_completion)
@click.option("--all", "every", is_flag=True, help="Every worker.")
@click.option("--wait", is_flag=True, help="Until they have ended.")
@click.option(
    "--timeout",
    "timeout_s",
    type=DURATION,
    help="Wait so long at most; then leave with 1. [default: for ever]",
)
@common
def drain(
    named: tuple[str, ...],
    every: bool,
    wait: bool,
    timeout_s: float | None,
    store: str | None,
    as_json: bool,
) -> int:
    """Let workers claim nothing more: their runs end at the next safe point and go on elsewhere, then the workers end.

    A WORKER is its number or its name, as `holdfast workers` shows them. Each leaves with exit code 0.
    """
    if bool(named) == every:
        raise UsageError(
            "name the workers to drain, or all of them with --all; `holdfast workers` lists them"
        )
    if timeout_s is not None and not wait:
        raise UsageError("--timeout says how long to --wait: add it")

    async def ask(client: Client) -> int:
        chosen = await _chosen(client, named)
        for one in chosen:
            await client.workers.drain(one.number)
        if not as_json:
            for one in chosen:
                holds = words.number(one.runs, "run")
                say(f"{one.name} ({one.number}, pid {one.pid} on {one.host}) drains; it holds {holds}")
        left = await _until_gone(client, chosen, timeout_s) if wait else chosen
        if as_json:
            print_document(await _as_they_are(client, chosen))
        elif wait and left:
            names = ", ".join(f"{one.name} ({words.number(one.runs, 'run')})" for one in left)
            say(f"still there after {words.duration(timeout_s or 0)}: {names}", err=True)
        elif wait:
            say("ended")
        return Exit.FAILED if wait and left else Exit.SUCCEEDED

    return on_store(store, ask)


async def _chosen(client: Client, named: Sequence[str]) -> list[ServingView]:
    """The workers that are meant, each once; all that are alive when none is named."""
    if not named:
        return [one for one in await client.workers.list() if one.standing != "lost"]
    found: dict[int, ServingView] = {}
    for name in named:
        try:
            one = await client.workers.find(name)
        except NotFound as error:
            known = [one.name for one in await client.workers.list()]
            hint = did_you_mean(name, known) or (
                ": `holdfast workers` lists them" if known else ": there are none"
            )
            raise NotFound(f"{error}{hint}") from None
        found[one.number] = one
    return list(found.values())


async def _as_they_are(client: Client, chosen: Sequence[ServingView]) -> list[ServingView]:
    numbers = {one.number for one in chosen}
    return [one for one in await client.workers.list() if one.number in numbers]


async def _until_gone(
    client: Client, chosen: Sequence[ServingView], timeout_s: float | None
) -> list[ServingView]:
    """Wait until they are gone; those that are not when the time is over."""
    ends_at = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
    while left := await _as_they_are(client, chosen):
        if ends_at is not None and asyncio.get_running_loop().time() >= ends_at:
            return left
        await asyncio.sleep(LOOK_S)
    return []
