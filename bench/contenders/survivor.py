"""Agents that are killed and come back: `build` brings them to the place, `resume` times their return.

python -m bench.contenders.survivor build|resume FOLDER|URL AGENTS BEHIND TAIL [STARTED]

Each agent takes BEHIND steps with a checkpoint saved each 100, then a tail of at most TAIL steps with none,
then hangs in a step. STARTED is the starter's `time.monotonic()` before this process. Only the engine is
imported.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import dataclass

from holdfast import Client, Context, Every, Worker, agent, open_store

CHECKPOINT_EACH = 100
RESULT = {"tool": "search", "ok": True, "text": "lorem ipsum dolor sit amet 0 " * 32}


@dataclass(slots=True)
class Scene:
    """What this process does, and what it has seen."""

    phase: str = ""
    agents: int = 0
    executed: set[int] | None = None
    arrived: int = 0
    first_step_s: float = 0.0
    first_durable_s: float = 0.0
    entered_s: float = 0.0
    over: asyncio.Event | None = None


scene = Scene()


@dataclass
class Done:
    """The state of the agents."""

    steps: int = 0


async def work(number: int, step: int) -> dict[str, object]:
    """One step of 1 KB; says that it was executed, not replayed."""
    assert scene.executed is not None
    scene.executed.add(number)
    scene.first_step_s = scene.first_step_s or time.monotonic()
    return RESULT


async def hang(number: int) -> None:
    """Where the agents are killed; in the resumed process the first step to be executed again."""
    arrive()
    await asyncio.Event().wait()


async def go_on(number: int) -> dict[str, object]:
    """The step in which the kill met the agent, when it is run again."""
    scene.first_step_s = scene.first_step_s or time.monotonic()
    return RESULT


def arrive() -> None:
    """One more agent is where it should be; the last one ends the scene."""
    assert scene.over is not None
    scene.arrived += 1
    if scene.arrived == scene.agents:
        scene.over.set()


@agent(checkpoint=Every(None, steps=CHECKPOINT_EACH))
async def survivor(ctx: Context, number: int, behind: int, tail: int) -> int:
    """Walk to the place of the kill; when resumed, take the step that was open, and one never begun."""
    scene.entered_s = scene.entered_s or time.monotonic()
    assert scene.executed is not None
    done = ctx.restore(Done)
    while done.steps < behind:
        await ctx.step(work, number, done.steps)
        done.steps += 1
        if done.steps % CHECKPOINT_EACH == 0:
            await ctx.checkpoint(done)
    last = behind + (tail if behind else 1 + number % tail)  # many agents: tails of differing length
    for step in range(behind, last):
        await ctx.step(work, number, step)
    if number in scene.executed and scene.phase == "resume":
        raise RuntimeError(f"agent {number} executed a step again that was recorded")
    await ctx.step(hang if scene.phase == "build" else go_on, number, name="open")
    scene.first_durable_s = scene.first_durable_s or time.monotonic()
    arrive()
    await asyncio.Event().wait()
    return done.steps


async def main(phase: str, place: str, agents: int, behind: int, tail: int, started_s: float) -> None:
    """Build: start them and say when all hang. Resume: wait for all to step again and answer the times."""
    scene.phase, scene.agents, scene.executed, scene.over = phase, agents, set(), asyncio.Event()
    imported_s = time.monotonic()
    async with open_store(place if "://" in place else f"sqlite:///{place}/holdfast.db") as store:
        opened_s = time.monotonic()
        if phase == "build":
            client = Client(store)
            for number in range(agents):
                await client.start(survivor, number, behind, tail, id=f"agent-{number}")
        async with Worker(store, agents=[survivor], capacity=agents):
            await scene.over.wait()
            if phase == "build":
                print('"there"', flush=True)
                await asyncio.Event().wait()
            ended_s = time.monotonic()
            stamps = {
                "imported": imported_s,
                "opened": opened_s,
                "entered": scene.entered_s,
                "first_step": scene.first_step_s,
                "first_durable": scene.first_durable_s,
                "all_durable": ended_s,
            }
            pairs = ", ".join(f'"{name}": {at_s - started_s:.6f}' for name, at_s in stamps.items())
            print(f'{{{pairs}, "ended_at_us": {time.time_ns() // 1000}}}', flush=True)
            os._exit(0)


if __name__ == "__main__":
    _, which, where, *numbers = sys.argv
    started = float(numbers[3]) if len(numbers) > 3 else time.monotonic()
    asyncio.run(main(which, where, int(numbers[0]), int(numbers[1]), int(numbers[2]), started))
