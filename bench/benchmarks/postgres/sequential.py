"""One agent, one step after the other, each durable before the next, on a server with `fsync` on."""

from __future__ import annotations

from bench.ground import Ground
from bench.report import Findings, at_least
from bench.rounds import Rounds

STEPS = 2_000
STEPS_QUICK = 500


def measure(ground: Ground) -> Findings:
    """holdfast against bare commits of one row in the same table of the same server."""
    steps = STEPS_QUICK if ground.quick else STEPS
    rounds = Rounds(ground)
    rows = ("--rows", str(steps), "--runs", "1", "--batch", "1")
    for repeat in range(ground.repeats):
        ground.say(f"sequential on PostgreSQL {repeat + 1}/{ground.repeats}")
        rounds.keep("bare", ground.contend_on_server("bench.contenders.bare_postgres", *rows))
        rounds.keep(
            "holdfast",
            ground.contend_on_server("bench.contenders.steps", "--agents", "1", "--steps", str(steps)),
        )
    found = Findings(
        "sequential", f"PostgreSQL: one agent, {steps} steps of 1 KB, a checkpoint call each 100"
    )
    for name in rounds.answers:
        rounds.add(found, name, "steps_per_s", "/s")
        rounds.add(found, name, "cpu_ms_per_step", "ms")
        rounds.add(found, name, "p50_us", "µs")
        rounds.add(found, name, "p99_us", "µs")
    found.add("holdfast / bare", rounds.ratio("holdfast", "bare"), "×", at_least(0.6))
    return found
