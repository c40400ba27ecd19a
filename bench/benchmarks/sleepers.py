"""Many runs that wait: what they cost, and how soon one goes on after its signal."""

from __future__ import annotations

from bench.ground import Ground
from bench.report import Findings, at_most

RUNS = 10_000
RUNS_QUICK = 1_000
WAKES = 300
WAKES_QUICK = 100


def measure(ground: Ground) -> Findings:
    """All are unloaded before the first is woken; signals come from the worker's process, then from another."""
    runs, wakes = (RUNS_QUICK, WAKES_QUICK) if ground.quick else (RUNS, WAKES)
    size = ("--runs", str(runs), "--wakes", str(wakes))
    here, apart = [], []
    for repeat in range(ground.repeats):
        ground.say(f"sleepers {repeat + 1}/{ground.repeats}")
        here.append(ground.contend("bench.contenders.sleepers", *size))
        apart.append(ground.contend("bench.contenders.sleepers", *size, "--apart"))
    found = Findings("sleepers", f"{runs} runs wait for a signal; {wakes} are woken, one at a time")
    found.add("put to sleep a second", [one["asleep_per_s"] for one in here], "/s")
    found.add("memory left in the worker, a run", [one["bytes_a_run"] for one in here], "B", at_most(1_000))
    found.add("threads of the worker", [one["threads"] for one in here], "", at_most(12))
    for name, answers, goal in (("here", here, at_most(10)), ("from another process", apart, None)):
        found.add(f"goes on after a signal {name}: p50", [one["wake_p50_ms"] for one in answers], "ms")
        found.add(f"goes on after a signal {name}: p99", [one["wake_p99_ms"] for one in answers], "ms", goal)
    return found
