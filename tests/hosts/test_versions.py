"""Two versions of an agent side by side, as in a rolling deploy: a run stays with the version that it began with."""

from __future__ import annotations

from pathlib import Path

from holdfast.client import Client
from holdfast.model import Reason, RunState
from holdfast.references import load_agents
from holdfast.store.protocol import Store
from tests.hosts.scene import Fleet, Hosts
from tests.processes.harness import wait_until

CODE = """
import asyncio
import holdfast
from dataclasses import dataclass
from tests.hosts.agents import Walked, write

async def pace(folder: str, run: str, n: int) -> str:
    write(folder, "executed", f"{{run}} {{n}} 0 {version}")
    await asyncio.sleep(0.05)
    return "{version}"

@holdfast.agent(version="{version}")
async def walk(ctx: holdfast.Context, folder: str, steps: int) -> str:
    state = ctx.restore(Walked)
    while state.steps < steps:
        await ctx.step(pace, folder, ctx.run_id, state.steps)
        write(folder, "acked", f"{{ctx.run_id}} {{state.steps}}")
        state.steps += 1
        await ctx.checkpoint(state)
    return "{version}"
"""


def code(folder: Path, version: str) -> Path:
    """The agent in this version."""
    file = folder / f"walk{version}.py"
    file.write_text(CODE.format(version=version))
    return file


def started(hosts: Hosts, file: Path, id: str, steps: int) -> None:
    """Queue a run of the version in the file."""
    (agent,) = load_agents(str(file))

    async def starting(store: Store) -> None:
        await Client(store).start(agent, str(hosts.folder), steps, id=id)

    hosts.ask(starting)


def state(hosts: Hosts, id: str) -> tuple[RunState, Reason | None]:
    """Where the run is."""
    run = hosts.walked(id).run
    return run.state, run.reason


def unserved(hosts: Hosts, id: str) -> bool:
    """Whether people are told that nobody can go on with it."""

    async def asking(store: Store) -> bool:
        return (await (await Client(store).get(id)).detail()).unserved

    return hosts.ask(asking)


def test_a_run_stays_with_its_version_and_waits_while_no_worker_has_it(hosts: Hosts) -> None:
    old, new = code(hosts.folder, "1"), code(hosts.folder, "2")
    with Fleet(hosts.folder) as fleet:
        first = fleet.worker(hosts.url, "old", str(old), "--capacity", "1")
        fleet.worker(hosts.url, "new", str(new))
        started(hosts, old, "begun", 40)
        hosts.wait_for_acks(5)
        started(hosts, old, "queued", 5)
        started(hosts, new, "fresh", 5)
        wait_until(lambda: hosts.ended(["fresh"]))
        assert not unserved(hosts, "begun")
        first.kill()
        wait_until(
            lambda: state(hosts, "queued") == (RunState.WAITING, Reason.NEEDS_CODE)
        )  # the new one has room
        # What was under way stands still, under its dead worker, and says so.
        assert state(hosts, "begun") == (RunState.RUNNING, None)
        assert unserved(hosts, "begun")
        fleet.worker(hosts.url, "again", str(old))
        wait_until(lambda: hosts.ended(["begun", "queued"]))
        walks = hosts.all_walked(["begun", "queued", "fresh"])
        assert [walk.run.result for walk in walks] == [b'"1"', b'"1"', b'"2"']
        assert [{host for _, host, _ in walk.paces} for walk in walks] == [{"1"}, {"1"}, {"2"}]
        assert [len(walk.paces) for walk in walks] == [40, 5, 5]
