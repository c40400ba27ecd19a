"""One agent, one step after the other, each durable before the next."""

from __future__ import annotations

from bench.ground import Ground
from bench.report import Findings, at_least, at_most
from bench.rounds import Rounds

STEPS = 2_000
STEPS_QUICK = 500
STEPS_PEER = 1_000


def measure(ground: Ground) -> Findings:
    """holdfast against bare commits of one row in the same table, and the peers on the same work."""
    steps = STEPS_QUICK if ground.quick else STEPS
    rounds = Rounds(ground)
    rows = ("--rows", str(steps), "--runs", "1", "--batch", "1")
    size = ("--agents", "1", "--steps", str(min(steps, STEPS_PEER)))
    for repeat in range(ground.repeats):
        ground.say(f"sequential {repeat + 1}/{ground.repeats}")
        rounds.keep("bare", ground.contend(ground.bare, *rows))
        rounds.keep(
            "holdfast", ground.contend("bench.contenders.steps", "--agents", "1", "--steps", str(steps))
        )
        for name, module, words in ground.in_a_row if ground.with_peers else ():
            rounds.keep(name, ground.contend_peer(module, *size, *words))
    found = Findings("sequential", f"one agent, {steps} steps of 1 KB, a checkpoint call each 100")
    _report(rounds, found)
    return found


def _report(rounds: Rounds, found: Findings) -> None:
    goals = {"holdfast": at_least(0.6)}
    cpu_goals = {} if rounds.of_a_server else {"holdfast": at_most(0.3)}
    for name in rounds.answers:
        rounds.add(found, name, "steps_per_s", "/s")
        if name != "bare":
            found.add(f"{name} / bare", rounds.ratio(name, "bare"), "×", goals.get(name))
            rounds.add(found, name, "cpu_ms_per_step", "ms", cpu_goals.get(name))
        rounds.add_server(found, name)
    rounds.add(found, "holdfast", "p50_us", "µs")
    rounds.add(found, "holdfast", "p99_us", "µs")
    if not rounds.of_a_server:
        found.add("holdfast: bytes stored a step", rounds.samples("holdfast", "bytes_per_step"), "B")
        found.add("bare: bytes stored a row", rounds.samples("bare", "bytes_per_step"), "B")
