"""One agent, the same steps one after the other and by one `ctx.map`: what a map gains by committing together, and by
waiting together."""

from __future__ import annotations

from bench.contenders.mapper import WAIT_S
from bench.ground import Ground
from bench.report import Findings, at_least
from bench.rounds import Rounds

STEPS = 1_000
ROW = "in a row"
MAPS = {f"map, {limit} at a time": limit for limit in (16, 64, 256)}
"""The first limit is the default."""
WAITS = f"bodies of {WAIT_S * 1e3:g} ms, "
DEFAULT = next(iter(MAPS))


def measure(ground: Ground) -> Findings:
    """The two against each other: of bodies that answer at once, with the default limit and wider ones, and of bodies
    that wait, with the default."""
    rounds = Rounds(ground)
    module, size = "bench.contenders.mapper", ("--steps", str(STEPS))
    for repeat in range(ground.repeats):
        ground.say(f"map {repeat + 1}/{ground.repeats}")
        rounds.keep(ROW, ground.contend(module, *size))
        for name, limit in MAPS.items():
            rounds.keep(name, ground.contend(module, *size, "--limit", str(limit)))
        rounds.keep(WAITS + ROW, ground.contend(module, *size, "--waits"))
        limit = str(MAPS[DEFAULT])
        rounds.keep(WAITS + DEFAULT, ground.contend(module, *size, "--waits", "--limit", limit))
    found = Findings(
        "map", f"one agent, {STEPS} steps of 1 KB whose bodies answer at once unless said otherwise"
    )
    for name in rounds.answers:
        rounds.add(found, name, "steps_per_s", "/s")
        rounds.add(found, name, "cpu_ms_per_step", "ms")
    for name in MAPS:
        found.add(f"{name} / {ROW}", rounds.ratio(name, ROW), "×", at_least(5))
    found.add(f"{WAITS}{DEFAULT} / {ROW}", rounds.ratio(WAITS + DEFAULT, WAITS + ROW), "×", at_least(5))
    return found
