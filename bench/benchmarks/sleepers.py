"""Many runs that wait: what they cost, and how soon one goes on after its signal."""

from __future__ import annotations

from bench.ground import Ground
from bench.report import Findings, at_most

RUNS = 10_000
RUNS_QUICK = 1_000
WAKES = 300
WAKES_QUICK = 100


def measure(ground: Ground) -> Findings:
    """Half is put to sleep, then the other half: how much larger the worker is for it. Then some are woken, by signals
    from the worker's process and from another."""
    runs, wakes = (RUNS_QUICK, WAKES_QUICK) if ground.quick else (RUNS, WAKES)
    size = ("--runs", str(runs), "--wakes", str(wakes))
    here, apart = [], []
    for repeat in range(ground.repeats):
        ground.say(f"sleepers {repeat + 1}/{ground.repeats}")
        here.append(ground.contend("bench.contenders.sleepers", *size))
        apart.append(ground.contend("bench.contenders.sleepers", *size, "--apart"))
    found = Findings("sleepers", f"{runs} runs wait for a signal; {wakes} are woken, one at a time")
    found.add("put to sleep a second", [one["asleep_per_s"] for one in here], "/s")
    found.add(
        "memory of each that sleeps beside that cache",
        [one["bytes_a_run"] for one in here],
        "B",
        at_most(1_000),
    )
    found.add("SQLite's page cache, which has a limit: grown by", [one["cached_mib"] for one in here], "MiB")
    found.add("threads of the worker", [one["threads"] for one in here], "", at_most(12))
    for name, answers, goal in (("here", here, at_most(10)), ("from another process", apart, None)):
        found.add(f"goes on after a signal {name}: p50", [one["wake_p50_ms"] for one in answers], "ms")
        found.add(f"goes on after a signal {name}: p99", [one["wake_p99_ms"] for one in answers], "ms", goal)
    return found
