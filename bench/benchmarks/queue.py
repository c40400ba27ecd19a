"""A queue of runs that do nothing: how fast they are queued, each durable, and drained by one worker."""

from __future__ import annotations

from bench.ground import Ground
from bench.report import Findings, at_least, ratios
from bench.rounds import Rounds

RUNS = 10_000
RUNS_QUICK = 2_000
RUNS_OF_DBOS = 1_000  # a tenth: it would take minutes a repeat
ONE_BY_ONE = "holdfast, a transaction for each start"


def measure(ground: Ground) -> Findings:
    """holdfast beside DBOS and huey on SQLite; what counts is the whole, from the first start to the last result."""
    runs = RUNS_QUICK if ground.quick else RUNS
    rounds = Rounds(ground)
    for repeat in range(ground.repeats):
        ground.say(f"queue {repeat + 1}/{ground.repeats}")
        rounds.keep("holdfast", ground.contend("bench.contenders.queue", "--runs", str(runs)))
        rounds.keep(ONE_BY_ONE, ground.contend("bench.contenders.queue", "--runs", str(runs), "--one-by-one"))
        if ground.with_peers:
            rounds.keep("DBOS", ground.contend_peer("bench.peers.dbos_queue", "--runs", str(RUNS_OF_DBOS)))
            rounds.keep("huey", ground.contend_peer("bench.peers.huey_queue", "--runs", str(runs)))
    found = Findings(
        "queue", f"{runs} runs that do nothing, at 4 priorities, queued and drained in one process"
    )
    for name in rounds.answers:
        found.add(f"{name}: runs a second in all", rounds.samples(name), "/s")
        found.add(f"{name}: queued a second", rounds.samples(name, "queued_per_s"), "/s")
        found.add(f"{name}: drained a second", rounds.samples(name, "drained_per_s"), "/s")
    if ground.with_peers:
        for peer in ("DBOS", "huey"):
            found.add(f"holdfast / {peer}", rounds.ratio("holdfast", peer), "×", at_least(3))
            drained = ratios(
                rounds.samples("holdfast", "drained_per_s"), rounds.samples(peer, "drained_per_s")
            )
            found.add(f"holdfast / {peer}, drained alone", drained, "×")
        found.notes.append(
            "huey promises less: a task that was taken is lost when its process dies. DBOS promises the same."
        )
    return found
