"""`queue`: how many runs of a queue may be executed at once, over all workers."""

from __future__ import annotations

import click

from holdfast.cli.exits import Exit
from holdfast.cli.options import common, on_store
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.client import Client
from holdfast.errors import UsageError
from holdfast.model import QueueRecord

ALL = "*"


@click.command()
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(min=0), help="Execute at most so many of its runs at once.")
@click.option("--unlimited", is_flag=True, help="Execute as many as the workers can hold.")
@common
def queue(name: str | None, limit: int | None, unlimited: bool, store: str | None, as_json: bool) -> int:
    """List queues, what is in them and their limits; with NAME and --limit, limit one for all workers together.

    The name '*' stands for all queues together. A limit of 0 lets nothing new begin.
    """
    if limit is not None and unlimited:
        raise UsageError("--limit and --unlimited exclude each other")
    if name is None and (limit is not None or unlimited):
        raise UsageError(
            "name the queue that is meant, or '*' for all of them together: queue NAME --limit N"
        )

    async def steer(client: Client) -> int:
        if name is not None and (limit is not None or unlimited):
            await client.store.limit_queue(name, limit)
        found = [each for each in await client.store.list_queues() if name in (None, each.name)]
        if as_json:
            print_document([_document(each) for each in found])
        else:
            for each in found:
                say(_line(each))
                if limit is not None and not each.queued and not each.running:
                    say(f"nothing is in {each.name!r} now: is it the queue that is meant?", err=True)
            if not found:
                say("no queues" if name is None else f"nothing is in the queue {name!r}", err=True)
        return Exit.SUCCEEDED

    return on_store(store, steer)


def _document(record: QueueRecord) -> dict[str, object]:
    return {
        "name": record.name,
        "limit": record.limit,
        "queued": record.queued,
        "running": record.running,
    }


def _line(record: QueueRecord) -> str:
    limit = "no limit" if record.limit is None else f"at most {record.limit} at once"
    name = "all queues together" if record.name == ALL else record.name
    return f"{name}: {record.queued} queued, {record.running} running, {limit}"
