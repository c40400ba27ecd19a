"""`migrate`: the schema of the store, brought up to date or looked at."""

from __future__ import annotations

import click

from holdfast.cli.exits import Exit
from holdfast.cli.options import common, on_store
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.client import Client
from holdfast.settings import find_store
from holdfast.store import shown, standing


@click.command()
@click.option("--check", is_flag=True, help="Only say how far it is: 0 when nothing is left to do, else 6.")
@common
def migrate(check: bool, store: str | None, as_json: bool) -> int:
    """Bring the schema of the store up to date. Whatever opens a store does so, too; this is for who wants to choose
    the moment."""
    url = find_store(store, make=False).url
    before = standing(url)

    async def nothing(_: Client) -> None:
        """Opening it was all."""

    if not check:
        on_store(url, nothing)
    after = standing(url)
    if as_json:
        print_document({"store": shown(url), "version": after.version, "newest": after.newest})
    else:
        done = "" if before == after else f", was {before.version}"
        left = "" if after.is_newest else f"; {after.newest} is the newest: holdfast migrate"
        say(f"{shown(url)}: schema {after.version}{done}{left}")
    return Exit.SUCCEEDED if after.is_newest else Exit.REFUSED
