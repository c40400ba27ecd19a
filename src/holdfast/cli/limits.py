"""`limits`: the rates that all workers share, and an operator's word on them."""

from __future__ import annotations

from collections.abc import Mapping

import click

from holdfast.cli import words
from holdfast.cli.exits import Exit
from holdfast.cli.options import common, on_store
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.client import Client
from holdfast.errors import UsageError
from holdfast.model import RateRecord
from holdfast.rules.rate import terms_of, written


@click.command()
@click.argument("name", metavar="[NAME", required=False)
@click.argument("rate", metavar="[RATE]]", required=False)
@click.option("--burst", type=int, default=1, help="How many units may begin at once. [default: 1]")
@click.option("--unpin", is_flag=True, help="Let the code of agents declare the rate again.")
@click.option("--forget", is_flag=True, help="Delete the rate and what is booked in it.")
@common
def limits(
    name: str | None,
    rate: str | None,
    burst: int,
    unpin: bool,
    forget: bool,
    store: str | None,
    as_json: bool,
) -> int:
    """List shared rates; with NAME and RATE, such as 500/m, set one, whatever the code of agents declares."""
    if sum((rate is not None, unpin, forget)) > 1 or ((unpin or forget) and name is None):
        raise UsageError(
            "say one thing of one rate: limits NAME RATE, limits NAME --unpin, limits NAME --forget"
        )
    terms = None if rate is None else terms_of(rate, burst)

    async def steer(client: Client) -> int:
        if name is not None and forget:
            await client.store.forget_rate(name)
        elif name is not None and (unpin or terms is not None):
            await client.store.pin_rate(name, terms)
        rates = [each for each in await client.store.list_rates() if name in (None, each.name)]
        if as_json:
            print_document([_document(each) for each in rates])
        else:
            for each in rates:
                say(_line(each))
            if not rates:
                say("no rates" if name is None else f"no rate {name!r}", err=True)
        return Exit.SUCCEEDED

    return on_store(store, steer)


def _document(rate: RateRecord) -> Mapping[str, object]:
    return {
        "name": rate.name,
        "rate": written(rate.terms),
        "burst": rate.terms.burst,
        "pinned": rate.pinned,
        "wait_s": rate.wait_us / 1e6,
        "held_back_s": rate.held_back_us / 1e6,
    }


def _line(rate: RateRecord) -> str:
    parts = [written(rate.terms)]
    if rate.terms.burst > 1:
        parts.append(f"{rate.terms.burst} at once")
    if rate.pinned:
        parts.append("set by an operator")
    if rate.held_back_us:
        parts.append(f"held back for {words.duration(rate.held_back_us / 1e6)}")
    elif rate.wait_us:
        parts.append(f"the next turn in {words.duration(rate.wait_us / 1e6)}")
    return f"{rate.name}: {', '.join(parts)}"
