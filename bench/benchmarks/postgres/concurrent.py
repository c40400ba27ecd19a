"""Many agents in one process, not in lockstep, each step durable before that agent's next, on a server."""

from __future__ import annotations

from bench.benchmarks.concurrent import AGENTS, ROWS_A_COMMIT, STEPS, STEPS_QUICK
from bench.ground import Ground
from bench.report import Findings, at_least
from bench.rounds import Rounds


def measure(ground: Ground) -> Findings:
    """holdfast against bare group commits of 64 rows in the same table of the same server."""
    steps = STEPS_QUICK if ground.quick else STEPS
    rounds = Rounds(ground)
    size = ("--agents", str(AGENTS), "--steps", str(steps))
    rows = ("--rows", str(AGENTS * steps), "--runs", str(AGENTS), "--batch", str(ROWS_A_COMMIT))
    for repeat in range(ground.repeats):
        ground.say(f"concurrent on PostgreSQL {repeat + 1}/{ground.repeats}")
        rounds.keep("bare", ground.contend_on_server("bench.contenders.bare_postgres", *rows))
        rounds.keep("holdfast", ground.contend_on_server("bench.contenders.steps", *size, "--together"))
    found = Findings("concurrent", f"PostgreSQL: {AGENTS} agents × {steps} steps of 1 KB in one process")
    for name in rounds.answers:
        rounds.add(found, name, "steps_per_s", "/s")
        rounds.add(found, name, "cpu_ms_per_step", "ms")
    against = rounds.ratio("holdfast", "bare")
    found.add(f"holdfast / bare commit of {ROWS_A_COMMIT} rows", against, "×", at_least(0.25))
    return found
