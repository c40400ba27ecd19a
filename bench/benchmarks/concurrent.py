"""Many agents in one process, not in lockstep, each step durable before that agent's next."""

from __future__ import annotations

from typing import Any

from bench.ground import Ground
from bench.report import Findings, at_least, ratios

AGENTS = 200
STEPS = 50
STEPS_QUICK = 10
ROWS_A_COMMIT = 64


def measure(ground: Ground) -> Findings:
    """holdfast against bare group commits of 64 rows in the same table, and the better of the peers."""
    steps = STEPS_QUICK if ground.quick else STEPS
    found = Findings("concurrent", f"{AGENTS} agents × {steps} steps of 1 KB in one process, not in lockstep")
    rounds: dict[str, list[dict[str, Any]]] = {}

    def run(name: str, figures: dict[str, Any]) -> None:
        rounds.setdefault(name, []).append(figures)
        ground.say(
            f"  {name}: {figures['steps_per_s']:,.0f} steps/s, {figures['cpu_ms_per_step']:.3f} ms CPU a step"
        )

    size = ("--agents", str(AGENTS), "--steps", str(steps))
    for repeat in range(ground.repeats):
        ground.say(f"concurrent {repeat + 1}/{ground.repeats}")
        run(
            "bare",
            ground.contend(
                "bench.contenders.bare", "--rows", str(AGENTS * steps), "--batch", str(ROWS_A_COMMIT)
            ),
        )
        run("holdfast", ground.contend("bench.contenders.steps", *size))
        if ground.with_peers:
            run("LangGraph", ground.contend_peer("bench.peers.langgraph_sqlite", *size))
            run("DBOS", ground.contend_peer("bench.peers.dbos_sqlite", *size))

    rates = {name: [one["steps_per_s"] for one in figures] for name, figures in rounds.items()}
    for name, rate in rates.items():
        found.add(f"{name}: steps a second", rate, "/s")
    found.add(
        f"holdfast / bare group commit of {ROWS_A_COMMIT}",
        ratios(rates["holdfast"], rates["bare"]),
        "",
        at_least(0.25),
    )
    peers = [rates[name] for name in ("LangGraph", "DBOS") if name in rates]
    if peers:
        better = [max(each) for each in zip(*peers, strict=True)]
        found.add("holdfast / the better peer", ratios(rates["holdfast"], better), "×", at_least(10))
    ours = rounds["holdfast"]
    found.add("holdfast: CPU a step", [one["cpu_ms_per_step"] for one in ours], "ms")
    found.add("holdfast: p50 of a step", [one["p50_us"] for one in ours], "µs")
    found.add("holdfast: p99 of a step", [one["p99_us"] for one in ours], "µs")
    found.add("holdfast: from the first start to the last result", [one["whole_s"] for one in ours], "s")
    return found
