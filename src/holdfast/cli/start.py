"""`start`: queue a run and print its id."""

from __future__ import annotations

import json

import click

from holdfast.cli.arguments import json_text
from holdfast.cli.exits import Exit
from holdfast.cli.options import DURATION, common, on_store
from holdfast.cli.programs import Program, WithProgram, takes_program, wanted
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.client import Client
from holdfast.client.client import new_signal
from holdfast.rules import labels
from holdfast.rules.tags import parsed


@click.command(cls=WithProgram)
@click.argument("agent", metavar="FILE.py:NAME", required=False)
@click.option(
    "--input", "given", metavar="JSON|@FILE", help="An object: its keys are the parameters. [default: {}]"
)
@click.option(
    "--id", "run_id", metavar="ID", help="The run's id; the same id and input again is the same run."
)
@click.option(
    "--priority", type=click.IntRange(-1000, 1000), default=0, help="Smaller goes first. [default: 0]"
)
@click.option("--queue", metavar="NAME", help="[default: the agent's]")
@click.option("--delay", type=DURATION, default=0.0, help="Start later: 90s, 15m, 4h. [default: now]")
@click.option("--tag", "tags", metavar="NAME[=VALUE]", multiple=True, help="To find it by; repeatable.")
@click.option(
    "--needs", metavar="NAME,...", help="Only for a worker with these labels: gpu,eu. [default: the agent's]"
)
@click.option(
    "--signal", "signal_name", metavar="NAME", help="Send it this signal with the start; needs --id."
)
@click.option("--data", metavar="JSON|@FILE", default="null", help="What the signal carries. [default: null]")
@click.option("--dedup", metavar="KEY", help="Sent again with the same key, the signal counts once.")
@takes_program
@common
def start(
    program: Program | None,
    agent: str | None,
    given: str | None,
    run_id: str | None,
    priority: int,
    queue: str | None,
    delay: float,
    tags: tuple[str, ...],
    needs: str | None,
    signal_name: str | None,
    data: str,
    dedup: str | None,
    store: str | None,
    as_json: bool,
) -> int:
    """Queue a run of an agent for any worker that serves it, and print its id. Or of a program, after `--`, for a
    worker with --commands."""
    loaded, payload = wanted(agent, program, "{}" if given is None and program is None else given)
    assert payload is not None
    signal = (
        None if signal_name is None else new_signal(signal_name, json.loads(json_text(data, "--data")), dedup)
    )

    async def create(client: Client) -> int:
        created = await client.create(
            loaded,
            payload,
            id=run_id,
            priority=priority,
            queue=queue,
            delay=delay,
            tags=parsed(tags),
            signal=signal,
            needs=None if needs is None else labels.of(needs),
        )
        if as_json:
            handle = await client.get(created.run.id)
            print_document(await handle.status())
        else:
            say(created.run.id)
        if created.existed:
            say(f"it was there already, and is {created.run.state}", err=True)
        return Exit.SUCCEEDED

    return on_store(store, create, make=True)
