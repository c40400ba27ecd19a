"""Children in workers that are really killed: each is started once, its work done once, its end told and taken once."""

from __future__ import annotations

import random
import signal

import pytest

from tests.processes import agents
from tests.processes.harness import Scene, killed_at, lines, serve, stop, wait_until

POINTS = ("3-", "10+", "17-", "24+", "31-", "39+")  # the last one between a winner and the end of its loser


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "fails"])
def test_a_worker_killed_at_a_commit_starts_no_child_twice_and_loses_no_end(
    scene: Scene, fails: bool
) -> None:
    scene.start(agents.household, ".", 1, 0.002, fails)
    for killed in killed_at(scene, POINTS[1::2] if fails else POINTS, seen=_not_over):
        killed.check_household(1, kills=1, fails=fails)


def _not_over(killed: Scene) -> None:
    assert not killed.run().state.final


def test_workers_killed_at_random_instants_lose_nothing_of_a_family(scene: Scene) -> None:
    """Two at a time: what the one that is killed had in hand, the other one or the next takes over."""
    chance = random.Random(7)
    scene.start(agents.household, str(scene.folder), 2, 0.04, False)
    workers = [serve(scene.url, capacity=4) for _ in range(2)]
    try:
        for _ in range(4):
            _executed(scene, chance.randint(2, 6))
            stop(workers.pop(0), signal.SIGKILL)
            workers.append(serve(scene.url, capacity=4))
        wait_until(lambda: _settled(scene), 50)
    finally:
        for worker in workers:
            stop(worker, signal.SIGKILL)
    scene.check_household(2, kills=4)


def _executed(scene: Scene, more: int) -> None:
    seen = len(lines(scene.folder, "executed"))
    wait_until(lambda: len(lines(scene.folder, "executed")) >= seen + more or scene.run().state.final)


def _settled(scene: Scene) -> bool:
    family = [scene.run(), *scene.children()]
    for run in family:
        if run.reason == "poison":  # three kills in a row between a claim and the first entry
            scene.steer("retry", run.id)
    return all(run.state.final for run in family)
