"""A queue of runs that do nothing on PostgreSQL: how fast it is filled, and drained by one process."""

from __future__ import annotations

from bench.ground import Ground
from bench.report import Findings, at_least, ratios
from bench.rounds import Rounds

RUNS = 10_000
RUNS_QUICK = 2_000
SLOW = 1_000  # of peers: they would take a minute a repeat
PEERS = ("DBOS", "procrastinate", "absurd")


def measure(ground: Ground) -> Findings:
    """holdfast beside its peers, each with one process that may execute a hundred or more at a time."""
    runs = RUNS_QUICK if ground.quick else RUNS
    rounds = Rounds(ground)
    for repeat in range(ground.repeats):
        ground.say(f"queue {repeat + 1}/{ground.repeats}")
        rounds.keep("holdfast", ground.contend("bench.contenders.queue", "--runs", str(runs), "--by-itself"))
        for name in PEERS if ground.with_peers else ():
            module = f"bench.peers.{name.lower()}_queue"
            rounds.keep(name, ground.contend_peer(module, "--runs", str(min(runs, SLOW))))
    found = Findings("queue", f"{runs} runs that do nothing, queued and drained in one process")
    for name in rounds.answers:
        found.add(f"{name}: queued a second", rounds.samples(name, "queued_per_s"), "/s")
        found.add(f"{name}: drained a second", rounds.samples(name, "drained_per_s"), "/s")
        rounds.add_server(found, name)
    if ground.with_peers:
        ours = rounds.samples("holdfast", "drained_per_s")
        theirs = {name: rounds.samples(name, "drained_per_s") for name in PEERS}
        for name in PEERS:
            found.add(f"holdfast / {name}, drained", ratios(ours, theirs[name]), "×")
        best = [max(each) for each in zip(*theirs.values(), strict=True)]
        found.add("holdfast / the best of them, drained", ratios(ours, best), "×", at_least(3))
    return found
