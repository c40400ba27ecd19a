"""What commands share: `--store` and `--json`, a client on the store, runs by id or prefix, durations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

import click

from holdfast.cli.app import did_you_mean
from holdfast.client import Client, RunHandle
from holdfast.controller import RETENTION
from holdfast.duration import seconds
from holdfast.errors import HoldfastError, RunNotFound, UsageError
from holdfast.model import Run, RunFilter, RunState
from holdfast.settings import find_store
from holdfast.store import open_store, shown

P = ParamSpec("P")
T = TypeVar("T")

NAMES_SHOWN = 6
NAMES_COMPARED = 500
COMPLETION_S = 0.5  # a shell that waits longer for a TAB feels broken

store_option = click.option(
    "--store",
    metavar="URL|PATH",
    help="The store: sqlite:///PATH, the path of a SQLite file, or postgresql://USER@HOST/DATABASE.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="JSON on stdout, everything else on stderr."
)


def ids_for_completion(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Ids that begin so."""
    return [run.id for run in _soon(ctx, RunFilter(id_prefix=incomplete, limit=50))]


def workers_for_completion(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of workers that begin so."""

    async def soon() -> list[str]:
        async with asyncio.timeout(COMPLETION_S), opened(ctx.params.get("store")) as client:
            return [one.name for one in await client.store.list_workers()]

    try:
        return sorted({name for name in asyncio.run(soon()) if name.startswith(incomplete)})
    except (HoldfastError, TimeoutError):
        return []


def _soon(ctx: click.Context, chosen: RunFilter) -> list[Run]:
    """The chosen runs; none when the store does not answer within a moment."""

    async def soon() -> list[Run]:
        async with asyncio.timeout(COMPLETION_S), opened(ctx.params.get("store")) as client:
            return await client.store.list_runs(chosen)

    try:
        return asyncio.run(soon())
    except (HoldfastError, TimeoutError):
        return []


def _known(field: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Completes with what the newest runs have in this field."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        found = {str(getattr(run, field)) for run in _soon(ctx, RunFilter(limit=NAMES_COMPARED))}
        return sorted(name for name in found if name.startswith(incomplete))

    return complete


run_argument = click.argument("run_id", metavar="ID", shell_complete=ids_for_completion)


STATES = tuple(state.value for state in RunState)


def filters(command: Callable[P, T]) -> Callable[P, T]:
    """The options that choose runs by what they have in common."""
    options = (
        click.option("--agent", metavar="NAME", help="Runs of this agent.", shell_complete=_known("agent")),
        click.option(
            "--state", "states", type=click.Choice(STATES), multiple=True, help="In this state; repeatable."
        ),
        click.option("--queue", metavar="NAME", help="In this queue.", shell_complete=_known("queue")),
        click.option(
            "--tag", "tags", metavar="NAME[=VALUE]", multiple=True, help="With this tag; repeatable."
        ),
        click.option(
            "--search",
            "text",
            metavar="TEXT",
            help="With this in the id, agent, tags, step, progress or error.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


class DurationType(click.ParamType[float]):
    """Seconds, or text such as 90s, 15m, 4h, 1h30m."""

    name = "duration"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return seconds(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


DURATION = DurationType()


class RetentionType(click.ParamType["float | None"]):
    """A duration, or `never`."""

    name = "retention"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if value == "never":
            return None
        try:
            return seconds(value)
        except UsageError as error:
            self.fail(f"{error}; or never", param, ctx)


retention_option = click.option(
    "--retention",
    type=RetentionType(),
    metavar="DURATION|never",
    default=RETENTION,
    show_default=True,
    help="Delete finished runs that ended longer ago than this.",
)


def common(command: Callable[P, T]) -> Callable[P, T]:
    """The options that every command has."""
    return store_option(json_option(command))


@asynccontextmanager
async def opened(given: str | None, *, make: bool = False) -> AsyncGenerator[Client]:
    """A client on the store that `--store` or its surroundings name. `make`: one may be created."""
    async with open_store(find_store(given, make=make).url) as store:
        yield Client(store)


def on_store(given: str | None, work: Callable[[Client], Awaitable[T]], *, make: bool = False) -> T:
    """Open the store, do the work, close it."""

    async def whole() -> T:
        async with opened(given, make=make) as client:
            return await work(client)

    return asyncio.run(whole())


def on_run(given: str | None, text: str, work: Callable[[Client, RunHandle[object]], Awaitable[T]]) -> T:
    """The same, for a command about one run."""

    async def found(client: Client) -> T:
        return await work(client, await find(client, text))

    return on_store(given, found)


async def find(client: Client, text: str) -> RunHandle[object]:
    """The run with this id, or the only one whose id begins so. Raises RunNotFound that names what is near."""
    try:
        return await client.get(text)
    except RunNotFound:
        pass
    chosen = RunFilter(id_prefix=text, limit=NAMES_SHOWN + 1)
    begins = [run.id for run in await client.store.list_runs(chosen)] if text else []
    if len(begins) == 1:
        return await client.get(begins[0])
    if begins:
        more = ", …" if len(begins) > NAMES_SHOWN else ""
        raise RunNotFound(
            f"{text!r} begins several ids: {', '.join(begins[:NAMES_SHOWN])}{more}: write more of it"
        )
    known = [run.id for run in await client.store.list_runs(RunFilter(limit=NAMES_COMPARED))]
    hint = did_you_mean(text, known) or (
        ": `holdfast ls` lists them" if known else ": the store holds no runs"
    )
    raise RunNotFound(f"no run {text!r} in {shown(client.store.url)}{hint}")
