"""`gc`: delete finished runs that nobody needs any more."""

from __future__ import annotations

import sys

import click

from holdfast import workspace
from holdfast.cli.exits import Exit
from holdfast.cli.options import DURATION, common, on_store
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.client import Client
from holdfast.controller import BATCH, CHUNKS, RETENTION
from holdfast.duration import micros, seconds
from holdfast.errors import Refused


@click.command()
@click.option(
    "--older-than",
    type=DURATION,
    default=seconds(RETENTION),
    help=f"Runs that ended longer ago than this. [default: {RETENTION}]",
)
@click.option("--dry-run", is_flag=True, help="Only say how many they are.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@common
def gc(older_than: float, dry_run: bool, yes: bool, store: str | None, as_json: bool) -> int:
    """Delete finished runs that ended long ago, with all that belongs to them; and what deleted ones have left."""

    async def collect(client: Client) -> int:
        before_us = await client.store.now() - micros(older_than)
        found = await client.store.prunable(before_us)
        total = sum(found.values())
        if not as_json:
            for agent, count in found.items():
                say(f"{count:>8,}  {agent}")
        deleted = folders = 0
        if total and not dry_run:
            _confirm(total, yes)
            deleted = await _prune(client, before_us, total)
        if not dry_run:
            while await client.store.sweep_artifacts(CHUNKS):
                pass
            folders = await workspace.sweep(client.store)
        if as_json:
            print_document({"found": found, "deleted": deleted, "workspaces": folders})
        else:
            what = "1 run" if total == 1 else f"{total:,} runs"
            say(f"{what} would be deleted" if dry_run else f"{deleted:,} of {what} deleted", err=True)
        return Exit.SUCCEEDED

    return on_store(store, collect)


def _confirm(total: int, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"gc is about {total:,} runs: say --yes, or look with --dry-run")
    click.confirm(f"delete {total:,} finished runs?", abort=True, err=True)


async def _prune(client: Client, before_us: int, total: int) -> int:
    """Delete them, a batch in a transaction, so that workers never wait long; with a bar where it takes a while."""
    from rich.progress import Progress

    from holdfast.cli.console import console

    deleted = 0
    with Progress(console=console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("delete", total=total)
        while count := await client.store.prune(before_us, BATCH):
            deleted += count
            bar.update(task, completed=deleted)
    return deleted
