"""`check`: do these files hold agents, and would their code fit stored runs? Nothing of a run is executed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

import click

from holdfast.agents import AnyAgent
from holdfast.cli.exits import Exit
from holdfast.cli.options import common, find, ids_for_completion, on_store
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.client import Client
from holdfast.errors import AgentNotFound
from holdfast.model import Run, RunFilter, RunState
from holdfast.references import load_agents
from holdfast.testing.rehearsal import Replay, rehearse

_UNFINISHED = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.WAITING})
_MOST = 10_000


@click.command()
@click.argument("files", metavar="FILE.py...", nargs=-1, required=True)
@click.option(
    "--replay",
    "runs",
    metavar="RUN",
    multiple=True,
    shell_complete=ids_for_completion,
    help="Try the code on this stored run; repeatable.",
)
@click.option("--unfinished", is_flag=True, help="Try it on every unfinished run of these agents.")
@click.option("--whole", is_flag=True, help="From the run's beginning, not from its newest checkpoint.")
@common
def check(
    files: tuple[str, ...],
    runs: tuple[str, ...],
    unfinished: bool,
    whole: bool,
    store: str | None,
    as_json: bool,
) -> int:
    """Check the agents of files, and whether their code fits stored runs, without executing a step."""
    agents = [agent for file in files for agent in load_agents(file)]
    if not runs and not unfinished:
        _list_agents(agents, as_json)
        return Exit.SUCCEEDED

    async def try_them(client: Client) -> int:
        wanted = [await client.store.get_run((await find(client, run)).id) for run in runs]
        if unfinished:
            wanted += await _unfinished(client, agents)
        found: list[Replay] = []
        with redirect_stdout(sys.stderr):  # what the code prints is talk
            for run in {run.id: run for run in wanted}.values():
                found.append(await rehearse(client.store, run.id, _code_for(run, agents), whole=whole))
        if as_json:
            print_document(found)
        else:
            _tell(found)
        return Exit.SUCCEEDED if all(found) else Exit.FAILED

    return on_store(store, try_them)


def _list_agents(agents: Sequence[AnyAgent], as_json: bool) -> None:
    if as_json:
        print_document(
            [
                {"agent": agent.name, "version": agent.version, "source_hash": agent.source_hash}
                for agent in agents
            ]
        )
        return
    for agent in agents:
        say(f"{agent.name}  version {agent.version}  source {agent.source_hash}")


async def _unfinished(client: Client, agents: Sequence[AnyAgent]) -> list[Run]:
    found: list[Run] = []
    for agent in agents:
        chosen = RunFilter(agent=agent.name, states=_UNFINISHED, limit=_MOST)
        found += [run for run in await client.store.list_runs(chosen) if run.version == agent.version]
    return found


def _code_for(run: Run, agents: Sequence[AnyAgent]) -> AnyAgent:
    """The agent of the run's name: of its version, if that is there."""
    named = [agent for agent in agents if agent.name == run.agent]
    if not named:
        raise AgentNotFound(
            f"run {run.id} is of agent {run.agent!r}, and the files have {', '.join(agent.name for agent in agents)}"
        )
    return next((agent for agent in named if agent.version == run.version), named[0])


def _tell(found: Sequence[Replay]) -> None:
    for one in found:
        say(f"{'fits' if one.fits else 'DOES NOT FIT'}  {one.run}: {one.message}")
        if one.code is not None and not one.fits:
            say(f"    the code: {one.code}")
        if one.stored is not None and not one.fits:
            say(f"    recorded: {one.stored}")
    if not found:
        say("no run to try", err=True)
