"""`schedule add | ls | show | pause | resume | remove | run-now | backfill`: runs that start by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import click

from holdfast import codec
from holdfast.cli import words
from holdfast.cli.app import CommandGroup, did_you_mean
from holdfast.cli.arguments import json_text
from holdfast.cli.exits import Exit
from holdfast.cli.options import COMPLETION_S, DURATION, common, on_store, opened
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.client import Client, Schedule, ScheduleView
from holdfast.client.schedules import FIRES_SHOWN
from holdfast.errors import HoldfastError, ScheduleNotFound, UsageError
from holdfast.references import load_agent
from holdfast.store import shown
from holdfast.zones import zone as zone_of

CATCH_UPS = ("skip", "last", "all")
OVERLAPS = ("skip", "queue", "cancel", "allow")


@click.group(cls=CommandGroup)
def schedule() -> None:
    """Start runs by themselves: by cron, by intervals, after other runs."""


def names_for_completion(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of schedules that begin so; nothing when the store does not answer within a moment."""

    async def soon() -> list[str]:
        async with asyncio.timeout(COMPLETION_S), opened(ctx.params.get("store")) as client:
            return [one.name for one in await client.store.list_schedules()]

    try:
        return [name for name in asyncio.run(soon()) if name.startswith(incomplete)]
    except (HoldfastError, TimeoutError):
        return []


name_argument = click.argument("name", metavar="NAME", shell_complete=names_for_completion)


def _on_schedule(store: str | None, name: str, work: Callable[[Client], Awaitable[int]]) -> int:
    """Do it; a name that is not there is answered with the nearest one."""

    async def hinted(client: Client) -> int:
        try:
            return await work(client)
        except ScheduleNotFound:
            known = [one.name for one in await client.store.list_schedules()]
            hint = did_you_mean(name, known) or (
                ": `holdfast schedule ls` lists them" if known else ": the store holds no schedules"
            )
            raise ScheduleNotFound(f"no schedule {name!r} in {shown(client.store.url)}{hint}") from None

    return on_store(store, hinted)


def _say(view: ScheduleView, as_json: bool) -> int:
    if as_json:
        print_document(view)
    else:
        say(f"{view.name}: {when(view)}; {_next(view)}")
    return Exit.SUCCEEDED


def when(view: ScheduleView) -> str:
    """`cron 30 2 * * * (Europe/Berlin)`, `every 15m 00s`, `after collect`."""
    if view.cron is not None:
        return f"cron {view.cron} ({view.zone})"
    if view.every_s is not None:
        return f"every {words.duration(view.every_s)}"
    return f"after {view.after}"


def _next(view: ScheduleView) -> str:
    if view.held is not None:
        return f"held: {view.held}"
    if view.paused:
        return f"paused; holdfast schedule resume {view.name}"
    if view.next_at is not None:
        return f"next {_local(view.next_at, view)}"
    return "next when one succeeds" if view.after is not None else "never due again"


def _local(moment: datetime, view: ScheduleView) -> str:
    """As clocks in the schedule's zone show it."""
    if view.zone in (None, "UTC"):
        return words.clock(moment)
    try:
        return moment.astimezone(zone_of(view.zone or "UTC")).strftime("%Y-%m-%d %H:%M:%S %Z")
    except UsageError:  # this machine does not know the zone
        return words.clock(moment)


@schedule.command()
@click.argument("name", metavar="NAME")
@click.argument("agent", metavar="FILE.py:NAME")
@click.option("--cron", metavar="EXPRESSION", help="When, as in '30 2 * * MON-FRI'.")
@click.option("--zone", default="UTC", show_default=True, help="Whose clocks show the times of --cron.")
@click.option("--every", type=DURATION, help="When: each time so long has passed: 90s, 15m, 4h.")
@click.option("--after", metavar="NAME", help="When: after each success of this schedule or agent.")
@click.option(
    "--input", "given", metavar="JSON|@FILE", default="{}", help="An object: its keys are the parameters."
)
@click.option(
    "--catch-up",
    type=click.Choice(CATCH_UPS),
    default="last",
    show_default=True,
    help="Of times nobody was there for, make up for none, the newest, or all.",
)
@click.option(
    "--most", type=click.IntRange(1, 1000), default=100, show_default=True, help="So many of --catch-up all."
)
@click.option("--window", type=DURATION, default=86_400.0, help="So old at most, of all. [default: 1d]")
@click.option(
    "--overlap",
    type=click.Choice(OVERLAPS),
    default="skip",
    show_default=True,
    help="While a run of it is unfinished: skip the fire, queue it, cancel the run, or allow both.",
)
@click.option("--jitter", type=DURATION, default=0.0, help="Delay each fire by less than this. [default: 0]")
@click.option("--queue", metavar="NAME", help="[default: the agent's]")
@click.option(
    "--priority", type=click.IntRange(-1000, 1000), default=0, help="Smaller goes first. [default: 0]"
)
@common
def add(
    name: str,
    agent: str,
    cron: str | None,
    zone: str,
    every: float | None,
    after: str | None,
    given: str,
    catch_up: str,
    most: int,
    window: float,
    overlap: str,
    jitter: float,
    queue: str | None,
    priority: int,
    store: str | None,
    as_json: bool,
) -> int:
    """Add a schedule, or change the one of this name: exactly one of --cron, --every and --after says when.

    Its runs are of the agent's version at hand; add it again after a new one. With the time unchanged it goes on
    where it was.
    """
    loaded = load_agent(agent)
    wanted = Schedule(
        name,
        loaded,
        codec.decode_input(loaded.fn, json_text(given, "--input")),
        cron=cron,
        zone=zone,
        every=every,
        after=after,
        catch_up=catch_up,  # type: ignore[arg-type]  # click offers these words and no others
        catch_up_most=most,
        catch_up_window=window,
        overlap=overlap,  # type: ignore[arg-type]
        jitter=jitter,
        queue=queue,
        priority=priority,
    )

    async def put(client: Client) -> int:
        return _say(await client.schedules.add(wanted), as_json)

    return on_store(store, put, make=True)


@schedule.command()
@common
def ls(store: str | None, as_json: bool) -> int:
    """List schedules: when, what comes next, what became of the last fire, and how many were missed."""

    async def tell(client: Client) -> int:
        views = await client.schedules.all()
        if as_json:
            print_document(views)
        elif not views:
            say("no schedules here yet", err=True)
        else:
            from holdfast.cli.console import console
            from holdfast.cli.render import schedules_table

            rows = [(view, when(view), _next(view)) for view in views]
            console().print(schedules_table(rows))
        return Exit.SUCCEEDED

    return on_store(store, tell)


@schedule.command()
@name_argument
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, 1000),
    default=FIRES_SHOWN,
    show_default=True,
    help="At most so many fires.",
)
@common
def show(name: str, limit: int, store: str | None, as_json: bool) -> int:
    """A schedule with its newest fires: which runs they became, and why some became none."""

    async def tell(client: Client) -> int:
        view = await client.schedules.get(name)
        fires = await client.schedules.fires(name, limit=limit)
        if as_json:
            print_document({"schedule": view, "fires": fires})
            return Exit.SUCCEEDED
        from holdfast.cli.console import console
        from holdfast.cli.render import fires_table, schedule_page

        console().print(schedule_page(view, when(view), _next(view)))
        if fires:
            console().print(fires_table(fires))
        return Exit.SUCCEEDED

    return _on_schedule(store, name, tell)


@schedule.command()
@name_argument
@common
def pause(name: str, store: str | None, as_json: bool) -> int:
    """Fire nothing until it is resumed. Runs that are there go on."""

    async def acted(client: Client) -> int:
        return _say(await client.schedules.pause(name), as_json)

    return _on_schedule(store, name, acted)


@schedule.command()
@name_argument
@common
def resume(name: str, store: str | None, as_json: bool) -> int:
    """Go on; times that passed meanwhile are made up for as --catch-up says."""

    async def acted(client: Client) -> int:
        return _say(await client.schedules.resume(name), as_json)

    return _on_schedule(store, name, acted)


@schedule.command()
@name_argument
@common
def remove(name: str, store: str | None, as_json: bool) -> int:
    """Forget a schedule, with its fires and what waits for its turn. Its runs stay."""

    async def gone(client: Client) -> int:
        await client.schedules.remove(name)
        if as_json:
            print_document({"name": name, "removed": True})
        else:
            say(f"{name}: removed; its runs stay")
        return Exit.SUCCEEDED

    return _on_schedule(store, name, gone)


@schedule.command(name="run-now")
@name_argument
@common
def run_now(name: str, store: str | None, as_json: bool) -> int:
    """Start a run of it at once, whatever runs, and print its id."""

    async def started(client: Client) -> int:
        fire = await client.schedules.run_now(name)
        if as_json:
            print_document(fire)
        else:
            say(fire.run or "")
        return Exit.SUCCEEDED

    return _on_schedule(store, name, started)


@schedule.command()
@name_argument
@click.option(
    "--since", metavar="TIME", required=True, help="2026-11-01, or 2026-11-01T02:00, in the schedule's zone."
)
@click.option("--until", metavar="TIME", help="The same. [default: now]")
@common
def backfill(name: str, since: str, until: str | None, store: str | None, as_json: bool) -> int:
    """Queue a run for each due time of a past window that has none. Asked again, it adds nothing."""

    async def filled(client: Client) -> int:
        view = await client.schedules.get(name)
        begins = _moment(since, "--since", view)
        ends = None if until is None else _moment(until, "--until", view)
        fires = await client.schedules.backfill(name, begins, ends)
        if as_json:
            print_document(fires)
        else:
            for fire in fires:
                say(fire.run or "")
            say(f"{name}: {words.number(len(fires), 'fire')} to fill in", err=True)
        return Exit.SUCCEEDED

    return _on_schedule(store, name, filled)


def _moment(given: str, option: str, view: ScheduleView) -> datetime:
    try:
        moment = datetime.fromisoformat(given)
    except ValueError as error:
        raise UsageError(
            f"{option} {given!r} is no time: write 2026-11-01, 2026-11-01T02:00 or 2026-11-01T02:00+01:00"
        ) from error
    if moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC if view.zone is None else zone_of(view.zone))
