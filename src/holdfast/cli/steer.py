"""`pause`, `resume`, `cancel`, `signal`, `retry`, `delete`: steer a run from any process."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable

import click

from holdfast.cli.arguments import json_text
from holdfast.cli.exits import Exit
from holdfast.cli.explain import explain
from holdfast.cli.options import common, on_run, run_argument
from holdfast.cli.views import print_document
from holdfast.client import Client, RunHandle, RunView
from holdfast.client.view import at
from holdfast.model import RunState

Act = Callable[[RunHandle[object]], Awaitable[RunView]]


def _steer(store: str | None, run_id: str, as_json: bool, act: Act) -> int:
    """Change a run, and say how it stands now."""

    async def acted(client: Client, handle: RunHandle[object]) -> int:
        view = await act(handle)
        if as_json:
            print_document(view)
            return Exit.SUCCEEDED
        why = explain(view, await handle.detail(), at(await client.store.now())).why
        reason = f" ({view.reason})" if view.reason else ""
        click.echo(f"{view.id}: {view.state}{reason}: {why}")
        return Exit.SUCCEEDED

    return on_run(store, run_id, acted)


@click.command()
@run_argument
@common
def pause(run_id: str, store: str | None, as_json: bool) -> int:
    """Pause a run: at once when nobody executes it, else at its next safe point."""
    return _steer(store, run_id, as_json, lambda handle: handle.pause())


@click.command()
@run_argument
@common
def resume(run_id: str, store: str | None, as_json: bool) -> int:
    """Let a paused or parked run go on."""
    return _steer(store, run_id, as_json, lambda handle: handle.resume())


@click.command()
@run_argument
@common
def cancel(run_id: str, store: str | None, as_json: bool) -> int:
    """Cancel a run: from now on nothing more of it is recorded."""
    return _steer(store, run_id, as_json, lambda handle: handle.cancel())


@click.command()
@run_argument
@click.argument("name")
@click.option(
    "--data", metavar="JSON|@FILE", default="null", help="What `ctx.wait_for` answers. [default: null]"
)
@click.option("--dedup", metavar="KEY", help="Sent again with the same key, it counts once.")
@common
def signal(run_id: str, name: str, data: str, dedup: str | None, store: str | None, as_json: bool) -> int:
    """Send a named signal to a run; it is kept until the run asks for it."""
    value = json.loads(json_text(data, "--data"))

    async def send(client: Client, handle: RunHandle[object]) -> int:
        sent = await handle.signal(name, value, dedup=dedup)
        if as_json:
            print_document({"run": handle.id, "n": sent.n, "name": sent.name, "at": at(sent.at_us)})
        else:
            click.echo(f"{handle.id}: signal {sent.n} {sent.name!r} is in its inbox")
        return Exit.SUCCEEDED

    return on_run(store, run_id, send)


ENTRY = click.IntRange(min=1)


@click.command()
@run_argument
@click.option("--accept", type=ENTRY, metavar="ENTRY", help="This entry's outcome answers the call at hand.")
@click.option(
    "--insert", is_flag=True, help="The call at hand executes; the recorded entries stay and follow."
)
@click.option(
    "--drop", type=ENTRY, metavar="ENTRY", help="Leave this entry out: its step was removed from the code."
)
@click.option("--rerun", type=ENTRY, metavar="ENTRY", help="Forget this entry and execute the call at hand.")
@click.option("--from-checkpoint", is_flag=True, help="Forget everything since the newest good checkpoint.")
@common
def retry(
    run_id: str,
    accept: int | None,
    insert: bool,
    drop: int | None,
    rerun: int | None,
    from_checkpoint: bool,
    store: str | None,
    as_json: bool,
) -> int:
    """Let a failed or held run go on.

    Alone it tries again what failed. The options are the ways out of a mismatch between code and record, one at a
    time; `holdfast show ID` names those that fit, `holdfast steps ID` numbers the entries.
    """
    return _steer(
        store,
        run_id,
        as_json,
        lambda handle: handle.retry(
            accept=accept, insert=insert, drop=drop, rerun=rerun, from_checkpoint=from_checkpoint
        ),
    )


@click.command()
@run_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@common
def delete(run_id: str, yes: bool, store: str | None, as_json: bool) -> int:
    """Delete a finished run and all that belongs to it."""

    async def gone(_: Client, handle: RunHandle[object]) -> int:
        view = await handle.status()
        if view.state in _FINISHED and not yes and sys.stdin.isatty():
            click.confirm(
                f"delete {handle.id} ({view.state}, {view.steps} outcomes recorded)?", abort=True, err=True
            )
        await handle.delete()
        if as_json:
            print_document({"id": handle.id, "deleted": True})
        else:
            click.echo(f"{handle.id}: deleted")
        return Exit.SUCCEEDED

    return on_run(store, run_id, gone)


_FINISHED = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)
