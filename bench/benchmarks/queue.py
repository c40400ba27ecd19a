"""A queue of runs that do nothing: how fast they are queued, each durable, and drained by one worker."""

from __future__ import annotations

import statistics

from bench.ground import Ground
from bench.report import Findings, at_least, at_most, ratios
from bench.rounds import Rounds
from bench.taken import lost

RUNS = 10_000
RUNS_QUICK = 2_000
RUNS_OF_SLOW_PEERS = 1_000  # a tenth: they would take minutes a repeat
PEERS = ("DBOS", "huey", "celery")
ONE_BY_ONE = "holdfast, a transaction for each start"
GOAL = at_least(3)


def measure(ground: Ground) -> Findings:
    """holdfast beside its peers on SQLite; what counts is the whole, from the first start to the last result, beside
    the quickest peer that loses nothing when its process is killed."""
    runs = RUNS_QUICK if ground.quick else RUNS
    rounds = Rounds(ground)
    for repeat in range(ground.repeats):
        ground.say(f"queue {repeat + 1}/{ground.repeats}")
        rounds.keep("holdfast", ground.contend("bench.contenders.queue", "--runs", str(runs)))
        rounds.keep(ONE_BY_ONE, ground.contend("bench.contenders.queue", "--runs", str(runs), "--one-by-one"))
        if ground.with_peers:
            rounds.keep(
                "DBOS", ground.contend_peer("bench.peers.dbos_queue", "--runs", str(RUNS_OF_SLOW_PEERS))
            )
            rounds.keep("huey", ground.contend_peer("bench.peers.huey_queue", "--runs", str(runs)))
            rounds.keep(
                "celery", ground.contend_peer("bench.peers.celery_queue", "--runs", str(RUNS_OF_SLOW_PEERS))
            )
    found = Findings(
        "queue", f"{runs} runs that do nothing, at 4 priorities, queued and drained in one process"
    )
    for name in rounds.answers:
        found.add(f"{name}: runs a second in all", rounds.samples(name), "/s")
        found.add(f"{name}: queued a second", rounds.samples(name, "queued_per_s"), "/s")
        found.add(f"{name}: drained a second", rounds.samples(name, "drained_per_s"), "/s")
    if ground.with_peers:
        _compare(ground, rounds, found)
    return found


def _compare(ground: Ground, rounds: Rounds, found: Findings) -> None:
    """Add what a kill costs each contender, and the ratios; only a peer that lost nothing may carry the goal."""
    ground.say("queue: each is killed while it executes a task, and started again")
    lost_by = lost(ground, ["holdfast", *PEERS])
    for name, tasks in lost_by.items():
        goal = at_most(0) if name == "holdfast" else None
        found.add(f"{name}: taken tasks lost by a kill -9", [tasks], "", goal)
    durable = [peer for peer in PEERS if lost_by[peer] == 0]
    best = max(durable, key=lambda peer: statistics.median(rounds.samples(peer)), default=None)
    for peer in PEERS:
        found.add(f"holdfast / {peer}", rounds.ratio("holdfast", peer), "×", GOAL if peer == best else None)
        drained = ratios(rounds.samples("holdfast", "drained_per_s"), rounds.samples(peer, "drained_per_s"))
        found.add(f"holdfast / {peer}, drained alone", drained, "×")
    if losers := [peer for peer in PEERS if peer not in durable]:
        found.notes.append(
            f"{' and '.join(losers)} promise less: a task that was taken is lost when its process dies. The goal"
            f" is held against the quickest peer that lost nothing: {best or 'none did'}."
        )
