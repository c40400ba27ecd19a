"""`pause`, `resume`, `throttle`, `kill`, `cancel`, `signal`, `retry`, `delete`, `tag`: steer runs from any process."""

from __future__ import annotations

import json
import sys

import click

from holdfast.cli.arguments import json_text
from holdfast.cli.bulk import Chosen, Deed, chosen_runs, to_many
from holdfast.cli.exits import Exit
from holdfast.cli.explain import explain
from holdfast.cli.options import common, on_run, run_argument
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.client import Client, RunHandle
from holdfast.client.view import at
from holdfast.errors import UsageError
from holdfast.model import RunState
from holdfast.rules import tags as tag_rules

_UNFINISHED = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.WAITING})
_FINISHED = frozenset(RunState) - _UNFINISHED


def _steer(store: str | None, chosen: Chosen, as_json: bool, deed: Deed, told: str | None = None) -> int:
    """Change one run, and say how it stands now (`told`: what follows instead); or many."""
    if chosen.one is None:
        return to_many(store, chosen, as_json, deed)

    async def acted(client: Client, handle: RunHandle[object]) -> int:
        await deed.act(handle)
        view = await handle.status()
        if as_json:
            print_document(view)
            return Exit.SUCCEEDED
        why = told or explain(view, await handle.detail(), at(await client.store.now())).why
        reason = f" ({view.reason})" if view.reason else ""
        say(f"{view.id}: {view.state}{reason}: {why}")
        return Exit.SUCCEEDED

    return on_run(store, chosen.one, acted)


@click.command()
@chosen_runs
@common
def pause(chosen: Chosen, store: str | None, as_json: bool) -> int:
    """Pause runs: at once when nobody executes them, else at their next safe point."""
    deed = Deed("pause", "paused", _UNFINISHED, lambda handle: handle.pause())
    return _steer(store, chosen, as_json, deed)


@click.command()
@chosen_runs
@common
def resume(chosen: Chosen, store: str | None, as_json: bool) -> int:
    """Let paused or parked runs go on."""
    states = frozenset({RunState.WAITING, RunState.RUNNING})
    return _steer(store, chosen, as_json, Deed("resume", "resumed", states, lambda handle: handle.resume()))


@click.command()
@chosen_runs
@click.option("--off", is_flag=True, help="Let them go again.")
@common
def throttle(chosen: Chosen, off: bool, store: str | None, as_json: bool) -> int:
    """Hold runs back until they are let go: less CPU, their memory reclaimed early."""
    verb, done = ("let go", "let go") if off else ("throttle", "throttled")
    deed = Deed(verb, done, _UNFINISHED, lambda handle: handle.throttle(off=off))
    return _steer(store, chosen, as_json, deed)


@click.command()
@chosen_runs
@common
def kill(chosen: Chosen, store: str | None, as_json: bool) -> int:
    """Kill the processes of runs; the runs go on from their checkpoints."""
    deed = Deed("kill", "killed", frozenset({RunState.RUNNING}), lambda handle: handle.kill())
    return _steer(store, chosen, as_json, deed, "its processes are killed; it goes on from its checkpoint")


@click.command()
@chosen_runs
@common
def cancel(chosen: Chosen, store: str | None, as_json: bool) -> int:
    """Cancel runs: from now on nothing more of them is recorded."""
    deed = Deed("cancel", "cancelled", _UNFINISHED, lambda handle: handle.cancel())
    return _steer(store, chosen, as_json, deed)


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
            say(f"{handle.id}: signal {sent.n} {sent.name!r} is in its inbox")
        return Exit.SUCCEEDED

    return on_run(store, run_id, send)


ENTRY = click.IntRange(min=1)


@click.command()
@chosen_runs
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
    chosen: Chosen,
    accept: int | None,
    insert: bool,
    drop: int | None,
    rerun: int | None,
    from_checkpoint: bool,
    store: str | None,
    as_json: bool,
) -> int:
    """Let failed or held runs go on.

    Alone it tries again what failed. The options are the ways out of a mismatch between code and record, one at a
    time; `holdfast show ID` names those that fit, `holdfast steps ID` numbers the entries.
    """
    if chosen.one is None and (accept or insert or drop or rerun):
        raise UsageError(
            "--accept, --insert, --drop and --rerun answer the mismatch of one run: name it by its id"
        )
    states = frozenset({RunState.WAITING, RunState.QUEUED, RunState.FAILED, RunState.CANCELLED})
    deed = Deed(
        "retry",
        "retried",
        states,
        lambda handle: handle.retry(
            accept=accept, insert=insert, drop=drop, rerun=rerun, from_checkpoint=from_checkpoint
        ),
    )
    return _steer(store, chosen, as_json, deed)


@click.command()
@chosen_runs
@common
def delete(chosen: Chosen, store: str | None, as_json: bool) -> int:
    """Delete finished runs and all that belongs to them."""
    deed = Deed("delete", "deleted", _FINISHED, lambda handle: handle.delete())
    if chosen.one is None:
        return to_many(store, chosen, as_json, deed)

    async def gone(_: Client, handle: RunHandle[object]) -> int:
        view = await handle.status()
        if view.state in _FINISHED and not chosen.yes and sys.stdin.isatty():
            click.confirm(
                f"delete {handle.id} ({view.state}, {view.steps} outcomes recorded)?", abort=True, err=True
            )
        await handle.delete()
        if as_json:
            print_document({"id": handle.id, "deleted": True})
        else:
            say(f"{handle.id}: deleted")
        return Exit.SUCCEEDED

    return on_run(store, chosen.one, gone)


@click.command()
@run_argument
@click.argument("changes", metavar="[NAME[=VALUE]]...", nargs=-1)
@click.option("--remove", metavar="NAME", multiple=True, help="Remove this tag; repeatable.")
@common
def tag(
    run_id: str, changes: tuple[str, ...], remove: tuple[str, ...], store: str | None, as_json: bool
) -> int:
    """Set and remove tags of a run, and say which it has."""

    async def tagged(_: Client, handle: RunHandle[object]) -> int:
        tags = await handle.tag({**tag_rules.parsed(changes), **dict.fromkeys(remove)})
        if as_json:
            print_document({"id": handle.id, "tags": tags})
        else:
            say(f"{handle.id}: {tag_rules.told(tags) or 'no tags'}")
        return Exit.SUCCEEDED

    return on_run(store, run_id, tagged)
