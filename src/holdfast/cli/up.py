"""`up`: a controller by itself, for where workers come and go."""

from __future__ import annotations

import asyncio
import os
import signal

import click

from holdfast.cli.exits import Exit
from holdfast.cli.options import common, on_store, retention_option
from holdfast.cli.saying import say
from holdfast.cli.views import print_line
from holdfast.cli.worker import log_to_stderr
from holdfast.client import Client
from holdfast.controller import Controller
from holdfast.store import shown

_CODES = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}


@click.command()
@retention_option
@common
def up(retention: float | None, store: str | None, as_json: bool) -> int:
    """Keep a store going without executing anything: schedules, deadlines, missing code, retention.

    Each worker does this beside its runs; this is for times without a worker: what falls due then waits for
    one to come. Any number may run. SIGTERM or Ctrl-C ends it at once, which loses nothing.
    """
    log_to_stderr()

    async def serve(client: Client) -> int:
        stopped: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        for number in _CODES:
            asyncio.get_running_loop().add_signal_handler(number, _stop, stopped, number)
        controlling = asyncio.create_task(Controller(client.store, retention=retention).run())
        if as_json:
            print_line({"type": "ready", "pid": os.getpid(), "store": shown(client.store.url)})
        else:
            say(f"the controller (pid {os.getpid()}) keeps {shown(client.store.url)} going", err=True)
        controlling.add_done_callback(lambda ended: _give_up(stopped, ended))
        try:
            return await stopped
        finally:
            controlling.cancel()
            await asyncio.wait({controlling})

    return on_store(store, serve, make=True)


def _stop(stopped: asyncio.Future[Exit], number: signal.Signals) -> None:
    if not stopped.done():
        stopped.set_result(_CODES[number])


def _give_up(stopped: asyncio.Future[Exit], controlling: asyncio.Task[None]) -> None:
    """A controller ends by an error only: whoever waits hears it."""
    error = None if controlling.cancelled() else controlling.exception()
    if error is not None and not stopped.done():
        stopped.set_exception(error)
