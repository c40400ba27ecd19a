"""One agent, one step after the other, each durable before the next."""

from __future__ import annotations

from typing import Any

from bench.ground import Ground
from bench.report import Findings, at_least, at_most, ratios

STEPS = 2_000
STEPS_QUICK = 500
STEPS_PEER = 1_000


def measure(ground: Ground) -> Findings:
    """holdfast against bare commits of one row in the same table, and the peers on the same work."""
    steps = STEPS_QUICK if ground.quick else STEPS
    found = Findings("sequential", f"one agent, {steps} steps of 1 KB, a checkpoint call each 100")
    rounds: dict[str, list[dict[str, Any]]] = {}

    def run(name: str, figures: dict[str, Any]) -> None:
        rounds.setdefault(name, []).append(figures)
        ground.say(
            f"  {name}: {figures['steps_per_s']:,.0f} steps/s, {figures['cpu_ms_per_step']:.3f} ms CPU a step"
        )

    for repeat in range(ground.repeats):
        ground.say(f"sequential {repeat + 1}/{ground.repeats}")
        run("bare", ground.contend("bench.contenders.bare", "--rows", str(steps), "--batch", "1"))
        run("holdfast", ground.contend("bench.contenders.steps", "--agents", "1", "--steps", str(steps)))
        if ground.with_peers:
            size = ("--agents", "1", "--steps", str(min(steps, STEPS_PEER)))
            run(
                "LangGraph, sync saver",
                ground.contend_peer("bench.peers.langgraph_sqlite", *size, "--saver", "sync"),
            )
            run("LangGraph, async saver", ground.contend_peer("bench.peers.langgraph_sqlite", *size))
            run("DBOS", ground.contend_peer("bench.peers.dbos_sqlite", *size))

    bare = [one["steps_per_s"] for one in rounds["bare"]]
    for name, figures in rounds.items():
        rate = [one["steps_per_s"] for one in figures]
        found.add(f"{name}: steps a second", rate, "/s")
        if name != "bare":
            found.add(f"{name} / bare", ratios(rate, bare), "", at_least(0.6) if name == "holdfast" else None)
            cpu = [one["cpu_ms_per_step"] for one in figures]
            found.add(f"{name}: CPU a step", cpu, "ms", at_most(0.3) if name == "holdfast" else None)
    ours = rounds["holdfast"]
    found.add("holdfast: p50 of a step", [one["p50_us"] for one in ours], "µs")
    found.add("holdfast: p99 of a step", [one["p99_us"] for one in ours], "µs")
    found.add("holdfast: bytes stored a step", [one["bytes_per_step"] for one in ours], "B")
    found.add("bare: bytes stored a row", [one["bytes_per_step"] for one in rounds["bare"]], "B")
    return found
