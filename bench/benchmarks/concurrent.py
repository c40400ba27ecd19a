"""Many agents in one process, not in lockstep, each step durable before that agent's next."""

from __future__ import annotations

from bench.ground import Ground
from bench.report import Findings, at_least, ratios
from bench.rounds import Rounds

AGENTS = 200
STEPS = 50
STEPS_QUICK = 10
ROWS_A_COMMIT = 64
TOGETHER = "holdfast, 200 results awaited at once"


def measure(ground: Ground) -> Findings:
    """holdfast against bare group commits of 64 rows in the same table, and the better of the peers."""
    steps = STEPS_QUICK if ground.quick else STEPS
    rounds = Rounds(ground)
    size = ("--agents", str(AGENTS), "--steps", str(steps))
    rows = ("--rows", str(AGENTS * steps), "--runs", str(AGENTS), "--batch", str(ROWS_A_COMMIT))
    for repeat in range(ground.repeats):
        ground.say(f"concurrent {repeat + 1}/{ground.repeats}")
        rounds.keep("bare", ground.contend(ground.bare, *rows))
        rounds.keep("holdfast", ground.contend("bench.contenders.steps", *size))
        rounds.keep(TOGETHER, ground.contend("bench.contenders.steps", *size, "--together"))
        for name, module, words in ground.at_once if ground.with_peers else ():
            rounds.keep(name, ground.contend_peer(module, *size, *words))
    found = Findings("concurrent", f"{AGENTS} agents × {steps} steps of 1 KB in one process, not in lockstep")
    _report(rounds, found)
    return found


def _report(rounds: Rounds, found: Findings) -> None:
    for name in rounds.answers:
        rounds.add(found, name, "steps_per_s", "/s")
        rounds.add_server(found, name)
    against_bare = rounds.ratio("holdfast", "bare")
    found.add(f"holdfast / bare group commit of {ROWS_A_COMMIT}", against_bare, "×", at_least(0.25))
    found.add(f"{TOGETHER} / bare", rounds.ratio(TOGETHER, "bare"), "×")
    peers = [rounds.samples(name) for name, _, _ in rounds.ground.at_once if name in rounds.answers]
    if peers:
        best = [max(each) for each in zip(*peers, strict=True)]
        found.add("holdfast / the best peer", ratios(rounds.samples("holdfast"), best), "×", at_least(10))
    rounds.add(found, "holdfast", "cpu_ms_per_step", "ms")
    rounds.add(found, "holdfast", "p50_us", "µs")
    rounds.add(found, "holdfast", "p99_us", "µs")
    found.add("holdfast: first start to last result", rounds.samples("holdfast", "whole_s"), "s")
