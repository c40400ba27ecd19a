"""`run`: execute an agent, or a program, from this process, to its end, with live progress."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace

import click

from holdfast.agents import AnyAgent
from holdfast.cli.exits import Exit, exit_of_state
from holdfast.cli.explain import WayOut, explain
from holdfast.cli.follow import BATCH, glances, picture_of
from holdfast.cli.live import Show, choose_show
from holdfast.cli.options import DURATION, common, on_store
from holdfast.cli.process import leave_now, replace_process
from holdfast.cli.programs import Program, ProgramShow, WithProgram, takes_program, wanted
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.cli.writing import Writing
from holdfast.client import Client, RunHandle, RunView
from holdfast.client.view import at
from holdfast.clock import SystemClock
from holdfast.commands.program import shown
from holdfast.embedded import Stopping, execute, prepare
from holdfast.errors import WorkerStuck
from holdfast.model import RunState
from holdfast.references import reachable
from holdfast.serving import check_served
from holdfast.worker import Worker

LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Order:
    """What was typed."""

    reference: str | None
    program: Program | None
    agent: AnyAgent
    payload: bytes | None
    run_id: str | None
    store: str | None
    drain_timeout_s: float
    as_json: bool

    def again(self, run_id: str, *more: str) -> list[str]:
        """The arguments that go on with the run."""
        store = ["--store", self.store] if self.store else []
        if self.program is not None:
            options = [*self.program.options(), "--id", run_id, *store, *more]
            return ["run", *options, "--", *self.program.argv]
        assert self.reference is not None
        return ["run", self.reference, "--id", run_id, *store, *more]


@click.command(cls=WithProgram)
@click.argument("agent", metavar="FILE.py:NAME", required=False)
@click.option(
    "--input", "given", metavar="JSON|@FILE", help="An object: its keys are the parameters. [default: {}]"
)
@click.option("--id", "run_id", metavar="ID", help="Go on with this run, or give the new one its id.")
@click.option(
    "--drain-timeout",
    type=DURATION,
    help="How long an interrupted run may take to its next safe point. [default: 30s, of a program 0]",
)
@takes_program
@common
def run(
    program: Program | None,
    agent: str | None,
    given: str | None,
    run_id: str | None,
    drain_timeout: float | None,
    store: str | None,
    as_json: bool,
) -> int:
    """Execute an agent here, to the end, with live progress; its result is printed as JSON. Or a program, after `--`:
    what it writes is shown, and kept as logs of the run.

    With the --id of an unfinished run: go on with it, with the code at hand. Ctrl-C parks the run and says how to go
    on. A run that waits for a person or a signal is left with code 4 and the command that continues it.
    """
    loaded, payload = wanted(agent, program, given)
    timeout_s = drain_timeout if drain_timeout is not None else 30.0 if program is None else 0.0
    order = Order(agent, program, loaded, payload, run_id, store, timeout_s, as_json)

    async def whole(client: Client) -> int:
        return await _run(client, order)

    return on_store(store, whole, make=True)


async def _run(client: Client, order: Order) -> int:
    served = reachable([order.agent])
    check_served(served)  # before there is a run that nobody can execute
    prepared = await prepare(client, order.agent, order.payload, order.run_id)
    handle = await client.get(prepared.id)
    if prepared.state.final:
        return await _ended(client, handle, order)
    show = await _show(client, prepared.id, order)
    worker = Worker(client.store, served, only=prepared.id, drain_timeout=order.drain_timeout_s)
    if not sys.stderr.isatty():
        verb = "goes on with" if prepared.attempts else "begins"
        show.say(f"{verb} run {prepared.id}")

    timed = order.drain_timeout_s > 0

    def told(number: int, count: int) -> None:
        show.say(_stopping_text(number, count, program=order.program is not None and not timed))

    stuck: WorkerStuck | None = None
    # What agents print is talk: stdout is for the result alone.
    with show.shown(), _streams(order), Stopping(worker, told) as stopping:
        try:
            await _followed(client, worker, prepared.id, prepared.event_no, show)
        except WorkerStuck as error:
            stuck = error
    if stuck is not None:
        say(str(stuck), err=True)
    ended = await client.store.get_run(prepared.id)
    interrupted = stopping.signal is not None and not ended.state.final
    if stuck is not None and not interrupted:
        await client.store.close()
        replace_process(order.again(prepared.id, *(["--json"] if order.as_json else [])))
    code = await (_interrupted(handle, order, stopping) if interrupted else _ended(client, handle, order))
    if stuck is not None:
        await client.store.close()
        leave_now(code)
    return code


async def _show(client: Client, run_id: str, order: Order) -> Show:
    if order.program is not None and not order.as_json:
        return ProgramShow()
    picture = await picture_of(client, run_id)
    now_us = SystemClock().wall_us
    return choose_show(picture, as_json=order.as_json, stderr=True, now_us=now_us, quiet_json=True)


@contextmanager
def _streams(order: Order) -> Generator[None]:
    """What agents print is talk: stdout is for the result alone. What a program writes is shown where it wrote it, but
    for `--json`, whose stdout is a document."""
    if order.program is None:
        with redirect_stdout(sys.stderr):
            yield
        return

    writing = Writing()

    async def show(stream: int, data: bytes) -> None:
        await writing.write(2 if order.as_json else stream, data)

    token = shown.set(show)
    try:
        yield
    finally:
        shown.reset(token)


async def _followed(client: Client, worker: Worker, run_id: str, after: int, show: Show) -> None:
    """Execute, and show every event of it, the last ones included."""
    done = asyncio.Event()
    tail = asyncio.create_task(_tail(client, run_id, after, show, done))
    glancing = asyncio.create_task(glances(client, run_id, show))
    try:
        await execute(client, worker)
    finally:
        done.set()
        glancing.cancel()
        await tail


async def _tail(client: Client, run_id: str, after: int, show: Show, done: asyncio.Event) -> None:
    while True:
        last_look = done.is_set()
        while events := await client.store.read_events(run_id, after, BATCH):
            after = events[-1].n
            for event in events:
                show.event(event)
        if last_look:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await done.wait()


async def _ended(client: Client, handle: RunHandle[object], order: Order) -> int:
    """Say how the run stands now that nothing more happens here."""
    view = await handle.status()
    if order.as_json:
        print_document(view)
    if view.state is RunState.SUCCEEDED:
        _succeeded(view, order)
    else:
        await _stands(client, handle, view, order)
    return exit_of_state(view.state)


def _succeeded(view: RunView, order: Order) -> None:
    from holdfast.cli.console import Text, console
    from holdfast.cli.render import recorded, took

    end = view.finished_at or view.created_at
    line = Text.assemble(
        ("✓ ", "green"), (view.id, "bold"), f" succeeded in {took(view, end)}: {recorded(view)}"
    )
    console(stderr=True).print(line)
    if not order.as_json and order.program is None:
        print_document(view.result)


async def _stands(client: Client, handle: RunHandle[object], view: RunView, order: Order) -> None:
    """The failure with the user's own frames, or why the run waits; and the ways on."""
    from holdfast.cli.console import console
    from holdfast.cli.render import page

    detail = await handle.detail()
    now = at(await client.store.now())
    why = explain(view, detail, now)
    go_on = WayOut(shlex.join(["holdfast", *order.again(view.id)]), "and then go on here")
    why = replace(why, ways=(*why.ways, go_on))
    console(stderr=True).print(page(view, detail, why, now, await handle.input()))


async def _interrupted(handle: RunHandle[object], order: Order, stopping: Stopping) -> int:
    view = await handle.status()
    if order.as_json:
        print_document(view)
    reason = f" ({view.reason})" if view.reason else ""
    command = shlex.join(["holdfast", *order.again(view.id)])
    say(
        f"\nrun {view.id} is {view.state}{reason}; everything recorded is kept. To go on:\n\n  {command}\n",
        err=True,
    )
    return Exit.INTERRUPTED if stopping.signal == signal.SIGINT else Exit.TERMINATED


def _stopping_text(number: int, count: int, *, program: bool) -> str:
    if count == 2:
        return "stopping now"
    again = "Ctrl-C again" if number == signal.SIGINT else "a second signal"
    if program:
        return f"asking the program to end ({again} kills it now)"
    return f"ending at the next safe point ({again} stops now)"
