"""How long a claim takes, of one run and of a hundred, from short and long queues."""

from __future__ import annotations

from bench.ground import Ground
from bench.report import Findings, at_most, ratios
from bench.rounds import Rounds

QUEUED = (1_000, 1_000_000)
QUEUED_QUICK = (1_000, 100_000)
LIMITS = (1, 100)
GOAL_MS = 15.0


def measure(ground: Ground) -> Findings:
    """holdfast against itself: the longest queue over the shortest."""
    lengths = QUEUED_QUICK if ground.quick else QUEUED
    rounds = Rounds(ground)
    for repeat in range(ground.repeats):
        ground.say(f"claims {repeat + 1}/{ground.repeats}")
        for queued in lengths:
            for limit in LIMITS:
                rounds.keep(
                    _name(limit, queued),
                    ground.contend(
                        "bench.contenders.claims_postgres", "--queued", str(queued), "--limit", str(limit)
                    ),
                )
    found = Findings("claims", "a claim from a queue, its limit and the length of the queue")
    for name in rounds.answers:
        goal = at_most(GOAL_MS) if name.startswith(_name(100, lengths[0])) else None
        found.add(name, rounds.samples(name, "claim_ms"), "ms", goal)
    for limit in LIMITS:
        long, short = (rounds.samples(_name(limit, queued), "claim_ms") for queued in reversed(lengths))
        found.add(f"{limit} at a time: longest / shortest", ratios(long, short), "×", at_most(1.5))
    return found


def _name(limit: int, queued: int) -> str:
    return f"a claim of {limit} of {queued:,} runs"
