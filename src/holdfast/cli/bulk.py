"""Steering many runs at once: chosen by their ids, or by what they have in common."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, TypeVar

import click

from holdfast.cli.exits import Exit
from holdfast.cli.options import filters, find, ids_for_completion, on_store
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.client import Client, RunHandle
from holdfast.errors import HoldfastError, Refused, UsageError
from holdfast.model import RunFilter, RunState
from holdfast.rules.tags import parsed

R = TypeVar("R")

PAGE: Final = 500
SHOWN: Final = 10
BAR_FROM: Final = 20  # fewer runs are done before a bar could be read


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which runs a command is about, as they were named on the command line."""

    ids: tuple[str, ...]
    agent: str | None
    states: frozenset[RunState]
    queue: str | None
    tags: tuple[tuple[str, str], ...]
    text: str | None
    yes: bool
    dry_run: bool

    @property
    def one(self) -> str | None:
        """The run, when exactly one is named by its id."""
        return self.ids[0] if len(self.ids) == 1 and not self.dry_run else None

    @property
    def by_filter(self) -> bool:
        """Whether they are chosen by what they have in common."""
        return bool(self.agent or self.states or self.queue or self.tags or self.text)


def chosen_runs(command: Callable[..., R]) -> Callable[..., R]:
    """The arguments and options of a command that steers one run or many: it gets them as its first argument."""

    @click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=ids_for_completion)
    @filters
    @click.option("-y", "--yes", is_flag=True, help="Do not ask, however many runs it is about.")
    @click.option("--dry-run", is_flag=True, help="Only say which runs it is about.")
    @wraps(command)
    def with_chosen(
        *,
        ids: tuple[str, ...],
        agent: str | None,
        states: tuple[str, ...],
        queue: str | None,
        tags: tuple[str, ...],
        text: str | None,
        yes: bool,
        dry_run: bool,
        **others: Any,
    ) -> R:
        chosen = Chosen(
            ids=tuple(dict.fromkeys(ids)),
            agent=agent,
            states=frozenset(RunState(state) for state in states),
            queue=queue,
            tags=tuple(parsed(tags).items()),
            text=text,
            yes=yes,
            dry_run=dry_run,
        )
        if chosen.ids and chosen.by_filter:
            raise UsageError("name the runs, or choose them by --agent, --state, …: not both")
        if not chosen.ids and not chosen.by_filter:
            raise UsageError(
                "name a run by its id, or choose runs by --agent, --state, --queue, --tag, --search"
            )
        return command(chosen, **others)

    return with_chosen


@dataclass(frozen=True, slots=True)
class Deed:
    """What is done to each run: `verb` ("cancel"), `done` ("cancelled"), to runs in `states`."""

    verb: str
    done: str
    states: frozenset[RunState]
    act: Callable[[RunHandle[object]], Awaitable[object]]


def to_many(store: str | None, chosen: Chosen, as_json: bool, deed: Deed) -> int:
    """Do it to each chosen run, one transaction each. What refuses is told, and keeps the others from nothing."""

    async def work(client: Client) -> int:
        ids = [run_id async for run_id in _ids(client, chosen, deed.states)]
        if chosen.dry_run:
            return _told(ids, deed, as_json)
        _confirm(ids, chosen, deed)
        results = [await _do(client, run_id, deed) for run_id in _counted(ids, deed.verb)]
        return _summed_up(results, deed, as_json)

    return on_store(store, work)


async def _ids(client: Client, chosen: Chosen, fit: frozenset[RunState]) -> AsyncIterator[str]:
    if chosen.ids:
        for text in chosen.ids:
            yield (await find(client, text)).id
        return
    states = (chosen.states & fit) if chosen.states else fit
    if not states:
        raise UsageError(f"no run in {_named(chosen.states)} can be meant: only those in {_named(fit)}")
    before: int | None = None
    while True:
        page = await client.store.list_runs(
            RunFilter(
                agent=chosen.agent,
                states=states,
                queue=chosen.queue,
                tags=chosen.tags,
                text=chosen.text,
                limit=PAGE,
                before=before,
            )
        )
        for run in page:
            yield run.id
        if len(page) < PAGE:
            return
        before = page[-1].key


def _named(states: Iterable[RunState]) -> str:
    return ", ".join(sorted(states))


def _told(ids: list[str], deed: Deed, as_json: bool) -> int:
    if as_json:
        print_document([{"id": run_id} for run_id in ids])
    else:
        for run_id in ids:
            say(run_id)
        say(f"{deed.verb} is about {_runs(len(ids))}; nothing was done", err=True)
    return Exit.SUCCEEDED


def _confirm(ids: list[str], chosen: Chosen, deed: Deed) -> None:
    """Several runs are changed only when somebody says so: here, or by --yes."""
    if chosen.yes or not ids or (chosen.ids and deed.verb != "delete"):
        return
    names = ", ".join(ids[:SHOWN]) + (", …" if len(ids) > SHOWN else "")
    if not sys.stdin.isatty():
        raise Refused(f"{deed.verb} is about {_runs(len(ids))} ({names}): say --yes, or look with --dry-run")
    click.confirm(f"{deed.verb} {_runs(len(ids))} ({names})?", abort=True, err=True)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


async def _do(client: Client, run_id: str, deed: Deed) -> tuple[str, str | None]:
    try:
        await deed.act(await client.get(run_id))
    except HoldfastError as error:
        return run_id, str(error)
    return run_id, None


def _counted(ids: list[str], verb: str) -> Iterator[str]:
    """The ids, with a progress bar on a terminal."""
    if len(ids) < BAR_FROM or not sys.stderr.isatty():
        yield from ids
        return
    with _bar(ids, verb) as moving:
        yield from moving


@contextmanager
def _bar(ids: list[str], verb: str) -> Generator[Iterable[str]]:
    from rich.progress import track

    from holdfast.cli.console import console

    yield track(ids, verb, console=console(stderr=True), transient=True)


def _summed_up(results: list[tuple[str, str | None]], deed: Deed, as_json: bool) -> int:
    failed = [(run_id, why) for run_id, why in results if why is not None]
    if as_json:
        print_document([{"id": run_id, deed.done: why is None, "error": why} for run_id, why in results])
    else:
        for run_id, why in results:
            say(f"{run_id}: {deed.done}" if why is None else f"{run_id}: not {deed.done}: {why}")
        if not results:
            say("no run fits", err=True)
        elif len(results) > 1:
            say(f"{deed.done}: {len(results) - len(failed):,} of {_runs(len(results))}", err=True)
    return Exit.REFUSED if failed else Exit.SUCCEEDED
