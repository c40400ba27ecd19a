"""How the way back depends on the length of the history: it must not."""

from __future__ import annotations

import contextlib
import statistics
from typing import Any

from bench import killed
from bench.ground import Ground
from bench.report import Findings, at_most

BEHIND = (200, 2_000, 20_000, 50_000)
BEHIND_QUICK = (200, 2_000, 5_000)
TAIL = 50
REPEATS_AT_LEAST = 15  # each takes a third of a second; what is compared are 10 ms


def measure(ground: Ground) -> Findings:
    """One run with N recorded steps and a save each 100, killed 50 steps later, resumed by a new process."""
    repeats = ground.repeats if ground.quick else max(REPEATS_AT_LEAST, ground.repeats)
    lengths = BEHIND_QUICK if ground.quick else BEHIND
    found = Findings(
        "resume",
        f"kill -9 after N steps (a save each 100) and {TAIL} more; until the next new step is durable",
    )
    rounds: dict[int, list[dict[str, Any]]] = {behind: [] for behind in lengths}
    with contextlib.ExitStack() as stack:
        left = {}
        for behind in lengths:
            ground.say(f"resume: building {behind:,} steps")
            left[behind] = stack.enter_context(ground.folder())
            killed.build(left[behind], agents=1, behind=behind, tail=TAIL)
        for repeat in range(repeats):
            for behind in lengths:
                stamps = killed.resume(ground, left[behind], agents=1, behind=behind, tail=TAIL)
                rounds[behind].append(stamps)
                took = f"{stamps['first_durable'] * 1e3:.0f} ms"
                ground.say(f"resume {repeat + 1}/{repeats}: {behind:,} steps behind: {took}")
    since_start = {n: [1e3 * one["first_durable"] for one in all_of] for n, all_of in rounds.items()}
    since_claim = {
        n: [1e3 * (one["first_durable"] - one["claimed"]) for one in all_of] for n, all_of in rounds.items()
    }
    for window, samples in (("process start", since_start), ("the claim", since_claim)):
        for behind, lengths_ms in samples.items():
            found.add(f"{behind:,} behind: from {window}", lengths_ms, "ms")
        medians = [statistics.median(lengths_ms) for lengths_ms in samples.values()]
        found.add(
            f"largest / smallest median, from {window}", [max(medians) / min(medians)], "×", at_most(1.5)
        )
    return found
