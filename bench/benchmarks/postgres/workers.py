"""Worker processes on one machine: what more of them gain, and what limits it."""

from __future__ import annotations

import os

from bench.ground import Ground
from bench.report import Findings
from bench.rounds import Rounds

RUNS, STEPS = 400, 25
RUNS_QUICK = 100
CREWS = (1, 2, 4)


def measure(ground: Ground) -> Findings:
    """The same runs by one, two and four processes, with the cores that they and the server keep busy."""
    runs = RUNS_QUICK if ground.quick else RUNS
    rounds = Rounds(ground)
    names = {f"{crew} worker{'s' if crew > 1 else ''}": crew for crew in CREWS}
    for repeat in range(ground.repeats):
        ground.say(f"workers {repeat + 1}/{ground.repeats}")
        for name, crew in names.items():
            size = ("--workers", str(crew), "--runs", str(runs), "--steps", str(STEPS))
            rounds.keep(name, ground.contend("bench.contenders.fleet", *size))
    found = Findings("workers", f"{runs} runs of {STEPS} steps of 1 KB, by worker processes on one machine")
    first = next(iter(names))
    for name in names:
        rounds.add(found, name, "steps_per_s", "/s")
        if name != first:
            found.add(f"{name} / {first}", rounds.ratio(name, first), "×")
        for who, what in (("the workers", "cpu_ms_per_step"), ("the server", "server_cpu_ms_per_step")):
            rates = zip(rounds.samples(name, what), rounds.samples(name), strict=True)
            found.add(f"{name}: cores that {who} kept busy", [cpu * rate / 1e3 for cpu, rate in rates])
    found.notes.append(
        f"this machine has {os.cpu_count()} cores for the workers, the server and the process that queues: where"
        " both lines of a crew add up to them, they are the limit, else commits to the disk and the locks are"
    )
    return found
