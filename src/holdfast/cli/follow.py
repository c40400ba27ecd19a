"""`watch` and `logs`: a run followed from any process."""

from __future__ import annotations

import asyncio

import click

from holdfast.cli.exits import Exit, exit_of_state
from holdfast.cli.lines import log_line
from holdfast.cli.live import Picture, Show, choose_show
from holdfast.cli.options import common, on_run, run_argument
from holdfast.cli.saying import say
from holdfast.cli.views import event_json, print_line
from holdfast.client import Client, RunHandle
from holdfast.clock import SystemClock
from holdfast.errors import HoldfastError
from holdfast.model import Event

GLANCE_S = 0.5
BATCH = 500


async def picture_of(client: Client, run_id: str) -> Picture:
    """What a display begins with."""
    run = await client.store.get_run(run_id)
    return Picture(run, progress=await client.store.get_progress(run.key), step=run.step, recorded=run.steps)


async def glances(client: Client, run_id: str, show: Show) -> None:
    """Look at the run about twice a second, until cancelled."""
    while True:
        try:
            show.glance(await client.store.get_run(run_id))
        except HoldfastError:  # what reads the events says it
            pass
        await asyncio.sleep(GLANCE_S)


async def stream(handle: RunHandle[object], show: Show) -> None:
    """Show the text that the run's steps stream, until its end."""
    async for piece in handle.output():
        show.output(piece)


@click.command()
@run_argument
@click.option(
    "--after", type=click.IntRange(min=0), default=None, help="Begin after this event number. [default: all]"
)
@click.option("--output", is_flag=True, help="Show the text that steps stream, too.")
@common
def watch(run_id: str, after: int | None, output: bool, store: str | None, as_json: bool) -> int:
    """Follow a run live, to its end; leaves with the code of its outcome.

    Every event once, in order, across restarts of everything. Ctrl-C ends the watching, not the run.
    """

    async def follow(client: Client, handle: RunHandle[object]) -> int:
        picture = await picture_of(client, handle.id)
        show = choose_show(picture, as_json=as_json, stderr=False, now_us=SystemClock().wall_us)
        beside = [asyncio.create_task(glances(client, handle.id, show))]
        if output:
            beside.append(asyncio.create_task(stream(handle, show)))
        try:
            with show.shown():
                async for event in handle.watch(after or 0):
                    show.event(event)
        finally:
            for task in beside:
                task.cancel()
        return exit_of_state((await handle.status()).state)

    return on_run(store, run_id, follow)


@click.command()
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the run is over.")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Begin after this event number.")
@common
def logs(run_id: str, follow: bool, after: int, store: str | None, as_json: bool) -> int:
    """The log lines of a run: what its code logged with the standard `logging`."""

    async def read(client: Client, handle: RunHandle[object]) -> int:
        if follow:
            async for event in handle.watch(after):
                tell(event)
            return Exit.SUCCEEDED
        last = after
        while events := await client.store.read_events(handle.id, last, BATCH):
            last = events[-1].n
            for event in events:
                tell(event)
        return Exit.SUCCEEDED

    def tell(event: Event) -> None:
        if event.type != "log":
            return
        if as_json:
            print_line(event_json(event))
        else:
            say(log_line(event))

    return on_run(store, run_id, read)
