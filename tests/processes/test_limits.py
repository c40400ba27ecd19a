"""Limits that several real processes share: never exceeded, used to the full, and not lost when one is killed."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator

import pytest

from holdfast.rules.rate import LATE_US, interval_us
from holdfast.store import open_store
from tests.processes import agents
from tests.processes.harness import Scene, ended, lines, serve, stop, wait_until

PROCESSES = 8
Workers = list["subprocess.Popen[str]"]


@pytest.fixture
def workers(scene: Scene) -> Iterator[Workers]:
    """So many worker processes, all of them serving."""
    scene.start_tally(0, id="first")
    started = [serve(scene.url, name=f"w{n}", lease=2, capacity=4) for n in range(PROCESSES)]
    try:
        wait_until(lambda: _alive(scene) == PROCESSES, 50)
        yield started
    finally:
        for process in started:
            stop(process)


def _alive(scene: Scene) -> int:
    async def counting() -> int:
        async with open_store(scene.url) as store:
            return sum(worker.alive for worker in await store.list_workers())

    return asyncio.run(counting())


def _begun(scene: Scene) -> list[int]:
    return sorted(int(line) for line in lines(scene.folder, "begun"))


def _on_the_brink(scene: Scene, number: int) -> bool:
    run = scene.run(f"r{number}")
    return not run.state.final and run.crashes >= 2 and run.position == run.claimed_position


def _assert_never_above(times: list[int]) -> None:
    """No window has more starts than the rate and the time in which a turn may be used."""
    terms = agents.PACED.terms
    for first in range(len(times)):
        for last in range(first + 1, len(times)):
            window_us = times[last] - times[first] + LATE_US
            allowed = terms.burst + window_us / interval_us(terms, 1)
            assert last - first + 1 <= allowed, f"{last - first + 1} within {window_us / 1e6:.2f} s"


def test_eight_processes_share_one_rate_and_use_it_to_the_full(scene: Scene, workers: Workers) -> None:
    for number in range(PROCESSES):
        scene.start(agents.paced, str(scene.folder), number * 20, 20, id=f"r{number}")
    wait_until(lambda: len(_begun(scene)) == 20 * PROCESSES, 50)
    times = _begun(scene)
    _assert_never_above(times)
    # By the turns, not by the moments at which a busy machine used them: half of all lie between the quartiles.
    middle = times[40:120]
    rate = (len(middle) - 1) / ((middle[-1] - middle[0]) / 1e6)
    assert rate >= 0.95 * 40, f"{rate:.1f} a second"
    assert rate <= 40 * (1 + LATE_US / (middle[-1] - middle[0]))


def test_a_process_that_is_killed_while_its_runs_wait_lets_the_rate_be_exceeded_by_nobody(
    scene: Scene, workers: Workers
) -> None:
    for number in range(4):
        scene.start(agents.paced, str(scene.folder), number * 20, 20, id=f"r{number}")
    for number, process in enumerate(workers[:5]):
        wait_until(lambda least=5 + 8 * number: len(_begun(scene)) >= least, 50)  # type: ignore[misc]
        # Who goes down three times in a row, alone and before its turn came, is held as poison, and rightly so.
        wait_until(lambda: not any(_on_the_brink(scene, number) for number in range(4)), 50)
        stop(process)
    wait_until(lambda: all(scene.run(f"r{number}").state.final for number in range(4)), 50)
    times = _begun(scene)
    assert len(times) >= 80
    _assert_never_above(times)


def test_a_concurrency_key_holds_across_processes_and_kills(scene: Scene, workers: Workers) -> None:
    for number in range(12):
        scene.start(agents.narrow, str(scene.folder), number, 0.05, id=f"r{number}")
    wait_until(lambda: len(lines(scene.folder, "narrow")) >= 6, 50)
    killed = {str(process.pid) for process in workers[:3]}
    for process in workers[:3]:
        stop(process)
    wait_until(lambda: all(scene.run(f"r{number}").state.final for number in range(12)), 50)
    inside: dict[str, str] = {}
    for line in lines(scene.folder, "narrow"):
        what, number, process = line.split()
        if what == "in":
            inside[number] = process  # again, where the one before was killed
        else:
            inside.pop(number, None)
        # Nobody can say when a killed one left: it counts as out once its run is inside again.
        assert len([1 for each in inside.values() if each not in killed]) <= 2
    assert len({line.split()[1] for line in lines(scene.folder, "narrow") if line.startswith("out")}) == 12


def test_a_worker_until_idle_waits_for_turns_that_lie_ahead(scene: Scene) -> None:
    scene.start(agents.paced, str(scene.folder), 0, 10)
    assert ended(serve(scene.url, until_idle=True)) == 0
    assert len(_begun(scene)) == 10
