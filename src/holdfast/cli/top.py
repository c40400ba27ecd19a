"""`top`: all runs that are not over, live, and the keys that steer them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Final

import click

from holdfast.cli.board import ORDERS, Act, Board, HostView, Order, Snapshot, totals_of
from holdfast.cli.exits import Exit
from holdfast.cli.options import DURATION, common, filters, on_store
from holdfast.cli.saying import say
from holdfast.cli.views import print_document, print_line
from holdfast.client import Client, RunView
from holdfast.client.resources import shared_view
from holdfast.client.view import at
from holdfast.errors import HoldfastError, RunNotFound, UsageError
from holdfast.model import FINAL_STATES, HostStall, Reason, RunFilter, RunState
from holdfast.rules.tags import parsed
from holdfast.store import shown

MOST: Final = 1_000
"""The newest so many are looked at: more than anybody reads, and a look that costs little."""
LEAST_S: Final = 0.2
ENDED_SHOWN: Final = 20
"""Of the runs that ended between two looks, so many are shown for a moment."""


class Host:
    """How this machine is."""

    def __init__(self) -> None:
        from holdfast.throttle.host import Host as Pressure

        self._pressure = Pressure()

    def look(self) -> HostView:
        import psutil

        cores = os.cpu_count() or 1
        memory = psutil.virtual_memory()
        stalled: HostStall | None = self._pressure.stall()
        return HostView(
            cores=cores,
            load=round(os.getloadavg()[0] / cores, 2),
            memory_mb=round(memory.total / 2**20, 1),
            memory_free_mb=round(memory.available / 2**20, 1),
            stalled=stalled,
        )


class Looking:
    """One look after another at the runs that fit."""

    def __init__(self, client: Client, chosen: RunFilter) -> None:
        self._client, self._chosen = client, chosen
        self._host = Host()

    async def look(self) -> Snapshot:
        """The runs as they are now: some ten statements, however many there are."""
        runs = await self._client.views(self._chosen)
        workers = {
            one.name: shared_view(one.sample)
            for one in await self._client.store.list_workers()
            if one.alive and one.sample is not None and one.runs
        }
        return Snapshot(
            at=at(await self._client.store.now()),
            totals=totals_of(runs, workers),
            host=self._host.look(),
            runs=tuple(runs),
            more=len(runs) == self._chosen.limit,
        )

    async def ended(self, before: frozenset[str], snapshot: Snapshot) -> list[RunView]:
        """Runs of the look before that have ended since."""
        gone = before - {run.id for run in snapshot.runs}
        found: list[RunView] = []
        for run_id in sorted(gone)[:ENDED_SHOWN]:
            try:
                view = await (await self._client.get(run_id)).status()
            except RunNotFound:
                continue
            if view.state.final:
                found.append(view)
        return found

    async def do(self, order: Order) -> str:
        """Do what a key asked for; what came of it, in a line."""
        try:
            handle = await self._client.get(order.run)
            match order.act:
                case Act.THROTTLE:
                    await handle.throttle(off=order.off)
                    return f"{order.run}: {'let go' if order.off else 'throttled, until t lets it go'}"
                case Act.KILL:
                    await handle.kill()
                    return f"{order.run}: its processes are killed; it goes on from its checkpoint"
                case Act.CANCEL:
                    await handle.cancel()
                    return f"{order.run}: cancelled"
                case Act.PAUSE:
                    run = await self._client.store.get_run(order.run)
                    if order.off or run.asked == "pause":
                        await handle.resume()
                        return f"{order.run}: goes on"
                    view = await handle.pause()
                    asked = view.reason is not Reason.PAUSED
                    return f"{order.run}: {'pauses at its next safe point' if asked else 'paused'}"
        except HoldfastError as error:
            return str(error).splitlines()[0]


@click.command()
@filters
@click.option("--once", is_flag=True, help="One look, and out.")
@click.option("--interval", type=DURATION, default=2.0, show_default=True, help="The time between two looks.")
@click.option(
    "--sort", type=click.Choice(tuple(ORDERS)), default="cpu", show_default=True, help="The most of it first."
)
@common
def top(
    agent: str | None,
    states: tuple[str, ...],
    queue: str | None,
    tags: tuple[str, ...],
    text: str | None,
    once: bool,
    interval: float,
    sort: str,
    store: str | None,
    as_json: bool,
) -> int:
    """All runs that are not over, live: what they use, whether they work or hang, and keys that steer them."""
    if interval < LEAST_S:
        raise UsageError(f"--interval is {interval:g} s: at least {LEAST_S:g} s")
    live = not once and not as_json
    if live and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("top draws on a terminal, and this is none: --once prints a table, --json snapshots")
    chosen = RunFilter(
        agent=agent,
        states=frozenset(RunState(state) for state in states) or frozenset(RunState) - FINAL_STATES,
        queue=queue,
        tags=tuple(parsed(tags).items()),
        text=text,
        limit=MOST,
    )

    async def show(client: Client) -> int:
        looking = Looking(client, chosen)
        if as_json:
            return await _snapshots(looking, once, interval, sort)
        if once:
            return await _table(looking, shown(client.store.url), sort)
        return await _live(looking, shown(client.store.url), interval, Board(sort=sort))

    return on_store(store, show)


async def _snapshots(looking: Looking, once: bool, interval_s: float, sort: str) -> int:
    while True:
        snapshot = await looking.look()
        board = Board(sort=sort)
        board.take(snapshot, ())
        document = {name: getattr(snapshot, name) for name in snapshot.__struct_fields__} | {
            "runs": board.shown()
        }
        if once:
            print_document(document)
            return Exit.SUCCEEDED
        print_line(document)
        sys.stdout.flush()
        await asyncio.sleep(interval_s)


async def _table(looking: Looking, where: str, sort: str) -> int:
    from holdfast.cli.board_view import head, table
    from holdfast.cli.console import console

    screen, board = console(), Board(sort=sort)
    snapshot = await looking.look()
    board.take(snapshot, ())
    for line in head(snapshot, where, screen.width):
        screen.print(line)
    if board.runs:
        screen.print(table(board.shown(), screen.width))
    else:
        say("no run goes on here", err=True)
    return Exit.SUCCEEDED


async def _live(looking: Looking, where: str, interval_s: float, board: Board) -> int:
    from holdfast.cli.board_view import frame
    from holdfast.cli.console import console
    from holdfast.cli.screen import Screen

    loop = asyncio.get_running_loop()
    snapshot = (
        await looking.look()
    )  # before the terminal is taken: what is wrong with the store is said plainly
    board.take(snapshot, ())
    with Screen(console()) as screen:
        due_s = loop.time() + interval_s
        while not board.over and not screen.gone and screen.ended_by is None:
            screen.draw(frame(board, snapshot, screen.size, where))
            orders = [board.press(key) for key in await screen.wait(due_s - loop.time())]
            for order in orders:
                if order is not None:
                    board.message = await looking.do(order)
                    due_s = 0.0  # show what came of it
            if screen.to_suspend:
                screen.suspend()
                due_s = 0.0
            if loop.time() >= due_s and not board.over:
                snapshot = await _look_again(looking, board, snapshot)
                due_s = loop.time() + interval_s
    return Exit.SUCCEEDED if screen.ended_by is None else _EXITS[screen.ended_by]


async def _look_again(looking: Looking, board: Board, before: Snapshot) -> Snapshot:
    """A store that is away for a moment ends nothing: the board says so, and keeps what it has."""
    try:
        snapshot = await looking.look()
        board.take(snapshot, await looking.ended(board.unfinished, snapshot))
    except HoldfastError as error:
        board.message = str(error).splitlines()[0]
        return before
    return snapshot


_EXITS: Final = {
    signal.SIGINT: Exit.INTERRUPTED,
    signal.SIGTERM: Exit.TERMINATED,
    signal.SIGHUP: Exit.TERMINATED,
}
