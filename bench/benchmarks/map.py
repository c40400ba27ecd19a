"""One agent, the same steps one after the other and by one `ctx.map`: what a map gains by committing together."""

from __future__ import annotations

from bench.ground import Ground
from bench.report import Findings, at_least
from bench.rounds import Rounds

STEPS = 1_000
DEFAULT_LIMIT = 16
WIDE_LIMIT = 64
ROW, MAP, WIDE = "in a row", f"map, {DEFAULT_LIMIT} at a time", f"map, {WIDE_LIMIT} at a time"


def measure(ground: Ground) -> Findings:
    """The two against each other, with the default limit and a wider one. Bodies answer at once."""
    rounds = Rounds(ground)
    module, size = "bench.contenders.mapper", ("--steps", str(STEPS))
    for repeat in range(ground.repeats):
        ground.say(f"map {repeat + 1}/{ground.repeats}")
        rounds.keep(ROW, ground.contend(module, *size))
        rounds.keep(MAP, ground.contend(module, *size, "--limit", str(DEFAULT_LIMIT)))
        rounds.keep(WIDE, ground.contend(module, *size, "--limit", str(WIDE_LIMIT)))
    found = Findings("map", f"one agent, {STEPS} steps of 1 KB whose bodies answer at once")
    for name in rounds.answers:
        rounds.add(found, name, "steps_per_s", "/s")
        rounds.add(found, name, "cpu_ms_per_step", "ms")
    found.add(f"{MAP} / {ROW}", rounds.ratio(MAP, ROW), "×", at_least(5))
    found.add(f"{WIDE} / {ROW}", rounds.ratio(WIDE, ROW), "×", at_least(5))
    return found
