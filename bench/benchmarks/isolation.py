"""What a process of its own costs a run: from the claim to the begin of its first step."""

from __future__ import annotations

from bench.ground import Ground
from bench.report import Findings, ratios

RUNS = 40
RUNS_QUICK = 10


def measure(ground: Ground) -> Findings:
    """The same run in the worker's process, in an interpreter that was kept warm, and in one that had to be started."""
    runs = str(RUNS_QUICK if ground.quick else RUNS)
    answers = []
    for repeat in range(ground.repeats):
        answers.append(ground.contend("bench.contenders.isolation", "--runs", runs))
        told = ", ".join(f"{name} {one:.1f}" for name, one in answers[-1].items())
        ground.say(f"isolation {repeat + 1}/{ground.repeats}: {told}")
    found = Findings("isolation", f"{runs} runs of one step, one after the other: a process for each")
    columns = {name: [one[name] for one in answers] for name in answers[0]}
    found.add("in the worker's process: begins after the claim, p50", columns["inside_ms"], "ms")
    found.add("its own process, kept warm: p50", columns["warm_ms"], "ms")
    found.add("its own process, runs without a pause: p50", columns["cold_ms"], "ms")
    found.add(
        "without a pause over a bare `python -c pass`", ratios(columns["cold_ms"], columns["bare_ms"]), "×"
    )
    found.add("memory of a process that waits, its own alone", columns["waiting_mb"], "MB")
    found.notes.append("warm: half a second between runs, in which the next interpreter is started")
    return found
