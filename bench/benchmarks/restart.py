"""A worker with many runs in flight is killed: how long until all of them step again."""

from __future__ import annotations

from bench import killed
from bench.ground import Ground
from bench.report import Findings, at_most

AGENTS = 500
AGENTS_QUICK = 100
TAIL = 20


def measure(ground: Ground) -> Findings:
    """`kill -9`, a new process at once; its stamps count from just before it was started."""
    agents = AGENTS_QUICK if ground.quick else AGENTS
    found = Findings(
        "restart", f"{agents} runs in flight, 1 to {TAIL} entries each, kill -9, a new process at once"
    )
    rounds = []
    with ground.folder() as left:
        ground.say(f"restart: bringing {agents} runs into flight")
        killed.build(left, agents=agents, behind=0, tail=TAIL)
        for repeat in range(ground.repeats):
            stamps = killed.resume(ground, left, agents=agents, behind=0, tail=TAIL)
            rounds.append(stamps)
            ground.say(f"restart {repeat + 1}/{ground.repeats}: {stamps['all_durable'] * 1e3:.0f} ms")
    names = {
        "imported": "holdfast imported",
        "opened": "store open",
        "claimed": "first run claimed",
        "entered": "first agent entered",
        "first_step": "first new step begun",
        "first_durable": "first new step durable",
    }
    for stamp, name in names.items():
        found.add(name, [1e3 * one[stamp] for one in rounds], "ms")
    goal = None if ground.quick else at_most(500)
    found.add(f"all {agents}: a new step durable", [1e3 * one["all_durable"] for one in rounds], "ms", goal)
    return found
