"""`worker`: serve the agents of files until told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence

import click

from holdfast.agents import AnyAgent, Isolation
from holdfast.attempt import current_run
from holdfast.cli.exits import Exit
from holdfast.cli.options import DURATION, common, on_store, retention_option
from holdfast.cli.process import leave_now, replace_process
from holdfast.cli.programs import LimitType, limits_typed
from holdfast.cli.saying import say, visible
from holdfast.cli.views import print_line
from holdfast.client import Client
from holdfast.commands.agent import command
from holdfast.embedded import Stopping, execute
from holdfast.errors import WorkerStuck
from holdfast.references import load_agents
from holdfast.rules import labels as label_rules
from holdfast.store import shown
from holdfast.worker import Worker


@click.command()
@click.argument("files", metavar="FILE.py...", nargs=-1)
@click.option(
    "--capacity", type=click.IntRange(1, 100_000), default=10, show_default=True, help="Runs at a time."
)
@click.option("--until-idle", is_flag=True, help="Leave when nothing is left that it could do.")
@click.option(
    "--drain-timeout",
    type=DURATION,
    default=30.0,
    help="How long runs may take to their next safe point. [default: 30s]",
)
@click.option(
    "--isolation",
    type=click.Choice(["task", "process"]),
    help="Where the code of runs is, for agents that do not say it. [default: task]",
)
@click.option(
    "--limit",
    "limits",
    type=LimitType(),
    metavar="NAME=VALUE",
    multiple=True,
    help="What runs in processes of their own may use, for agents that do not say it: memory=200MB; repeatable.",
)
@click.option(
    "--labels", metavar="NAME,...", default="", help="What it has for runs that ask for it: gpu,eu."
)
@retention_option
@click.option("--name", metavar="NAME", help="Shown to people. [default: host and pid]")
@click.option(
    "--commands",
    is_flag=True,
    help="Serve `command`, too: execute whatever programs are queued, with the rights of this worker.",
)
@common
def worker(
    files: tuple[str, ...],
    capacity: int,
    until_idle: bool,
    drain_timeout: float,
    labels: str,
    retention: float | None,
    name: str | None,
    isolation: Isolation | None,
    limits: tuple[tuple[str, str], ...],
    commands: bool,
    store: str | None,
    as_json: bool,
) -> int:
    """Serve the agents of files or modules: claim their runs and execute them.

    SIGTERM or Ctrl-C: claim nothing more, let runs end at their next safe point, release what is left after
    --drain-timeout; no retry is counted. A second signal stops now.
    """
    if not files and not commands:
        raise click.UsageError(
            "Missing argument: name files with agents, FILE.py, or serve programs with --commands"
        )
    bounds = limits_typed(limits)
    agents = [*_agents(files), *([command] if commands else [])]
    log_to_stderr()

    async def serve(client: Client) -> int:
        serving = Worker(
            client.store,
            agents,
            capacity=capacity,
            name=name,
            until_idle=until_idle,
            drain_timeout=drain_timeout,
            isolation=isolation,
            limits=bounds,
            labels=label_rules.of(labels),
        )
        with Stopping(serving, _tell, parks=False) as stopping:
            _ready(serving, agents, shown(client.store.url), as_json)
            try:
                await execute(client, serving, retention)
            except WorkerStuck as error:
                say(str(error), err=True)
                await client.store.close()
                if stopping.signal is None:
                    replace_process(sys.argv[1:])
                leave_now(_code(stopping.signal))
        say(f"worker {serving.name} ended", err=True)
        return _code(stopping.signal)

    return on_store(store, serve, make=True)


def _agents(files: Sequence[str]) -> list[AnyAgent]:
    """The agents of all files, each once."""
    found: dict[tuple[str, str], AnyAgent] = {}
    for file in files:
        for agent in load_agents(file):
            found.setdefault((agent.name, agent.version), agent)
    return list(found.values())


class RunFormatter(logging.Formatter):
    """A line a record, which names the run whose code wrote it."""

    def format(self, record: logging.LogRecord) -> str:
        run = current_run.get()
        record.run = f"[{run}] " if run else ""
        return visible(super().format(record))


def log_to_stderr() -> None:
    """INFO and above of everything, a line each."""
    handler = logging.StreamHandler()
    formatter = RunFormatter("%(asctime)s  %(levelname)-8s %(run)s%(name)s: %(message)s", "%H:%M:%S")
    formatter.converter = time.gmtime  # as everything here: UTC
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def _ready(serving: Worker, agents: Sequence[AnyAgent], url: str, as_json: bool) -> None:
    if as_json:
        serves = [{"agent": agent.name, "version": agent.version} for agent in agents]
        print_line(
            {"type": "ready", "worker": serving.name, "pid": os.getpid(), "store": url, "serves": serves}
        )
        return
    names = ", ".join(f"{agent.name} (version {agent.version})" for agent in agents)
    say(f"worker {serving.name} serves {names} from {url}", err=True)


def _tell(number: int, count: int) -> None:
    if count == 1:
        say("draining: claiming nothing more; a second signal stops now", err=True)
    else:
        say("stopping now", err=True)


def _code(number: int | None) -> Exit:
    if number is None:
        return Exit.SUCCEEDED
    return Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED
