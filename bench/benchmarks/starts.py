"""How soon an idle worker begins a run that another process queued."""

from __future__ import annotations

from bench.ground import Ground
from bench.report import Findings, at_most

STARTS = 200
STARTS_QUICK = 50


def measure(ground: Ground) -> Findings:
    """From the store's stamp of the creation to that of the claim."""
    starts = STARTS_QUICK if ground.quick else STARTS
    answers = []
    for repeat in range(ground.repeats):
        answers.append(ground.contend("bench.contenders.starts", "--starts", str(starts)))
        ground.say(f"starts {repeat + 1}/{ground.repeats}: p50 {answers[-1]['p50_ms']:.1f} ms")
    found = Findings("starts", f"{starts} runs queued now and then by another process than the idle worker's")
    found.add("begins after it was queued: p50", [one["p50_ms"] for one in answers], "ms", at_most(10))
    found.add("begins after it was queued: p99", [one["p99_ms"] for one in answers], "ms")
    found.notes.append(f"hint: {ground.hint}")
    return found
