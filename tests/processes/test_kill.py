"""`kill -9`, SIGSTOP and SIGTERM of real workers: nothing acknowledged is lost, nothing recorded is done again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from holdfast.model import RunState
from tests.processes import agents
from tests.processes.harness import ROOT, Scene, ended, freeze, lines, serve, stop, wait_until


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("first", range(1, 9))
def test_kill_at_every_commit_point(scene: Scene, first: int, after: bool) -> None:
    scene.start_tally(5)
    killed = serve(scene.url, until_idle=True, kill_at=first, after=after)
    assert ended(killed) == -signal.SIGKILL
    assert stop(serve(scene.url, until_idle=True), 0) == ""
    scene.check_tally(5, kills=1)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("first", [1, 3, 5, 7, 9])
def test_kill_at_commits_inside_a_map_and_a_race(scene: Scene, first: int, after: bool) -> None:
    scene.start_fleet(1, 0.01)
    killed = serve(scene.url, until_idle=True, kill_at=first, after=after)
    assert ended(killed) == -signal.SIGKILL or first > 5  # steps beside each other may share a commit
    assert stop(serve(scene.url, until_idle=True), 0) == ""
    scene.check_fleet(1, kills=1)


@pytest.mark.parametrize("until", ["0-m5", "0-tortoise2", "1-m2", "1-hare2"])
def test_kill_9_while_a_map_or_a_race_is_in_flight(scene: Scene, until: str) -> None:
    """The loser's first step is recorded by the time its second begins."""
    scene.start_fleet(2, 0.03)
    worker = serve(scene.url, until_idle=True)
    wait_until(lambda: any(line.startswith(until) for line in lines(scene.folder, "executed")))
    stop(worker)
    assert not scene.run().state.final
    assert stop(serve(scene.url, until_idle=True), 0) == ""
    scene.check_fleet(2, kills=1)


def test_random_kills_lose_nothing_and_repeat_at_most_the_step_in_flight() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.processes.torture", "--kills", "12", "--quiet"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_worker_stopped_past_its_lease_records_nothing_after_it_wakes(scene: Scene) -> None:
    scene.start_tally(60, 0.03)
    zombie = serve(scene.url, lease=1.5, until_idle=True)
    wait_until(lambda: len(lines(scene.folder, "acked")) > 10)
    freeze(zombie, scene.folder / "holdfast.db")
    second = serve(scene.url, lease=1.5, until_idle=True)
    wait_until(lambda: scene.run().token == 2)
    wait_until(lambda: len(lines(scene.folder, "acked")) > 30)
    zombie.send_signal(signal.SIGCONT)
    stop(second, 0)
    stop(zombie, 0)
    scene.check_tally(
        60, kills=2
    )  # the zombie's step in flight, and at most one that it began before it knew
    assert {entry.token for entry in scene.entries()} == {1, 2}


def test_sigterm_ends_at_a_safe_point_and_counts_nothing(scene: Scene) -> None:
    scene.start_tally(100, 0.02)
    for _ in range(4):
        worker = serve(scene.url)
        seen = len(lines(scene.folder, "acked"))
        wait_until(lambda seen=seen: len(lines(scene.folder, "acked")) > seen + 3)  # type: ignore[misc]
        began = time.monotonic()
        assert "Traceback" not in stop(worker, signal.SIGTERM)
        assert time.monotonic() - began < 5
        run = scene.run()
        assert (run.state, run.failures, run.crashes) == (RunState.QUEUED, 0, 0)
    stop(serve(scene.url, until_idle=True), 0)
    assert scene.check_tally(100, kills=0) == 0


def test_a_drain_releases_what_does_not_reach_a_safe_point(scene: Scene) -> None:
    scene.start_tally(3, 30.0)
    worker = serve(scene.url, drain_timeout=0.3)
    wait_until(lambda: "0" in lines(scene.folder, "executed"))
    began = time.monotonic()
    stop(worker, signal.SIGTERM)
    assert time.monotonic() - began < 5
    run = scene.run()
    assert (run.state, run.failures, run.crashes) == (RunState.QUEUED, 0, 0)


def test_a_run_that_takes_its_worker_down_three_times_alone_is_poison_and_blocks_nobody(scene: Scene) -> None:
    scene.start(agents.crasher, id="bad")
    for _ in range(3):
        assert ended(serve(scene.url, until_idle=True)) == -signal.SIGKILL
    scene.start_tally(3)
    stop(serve(scene.url, until_idle=True), 0)
    run = scene.run("bad")
    assert (run.state, run.reason) == (RunState.WAITING, "poison")
    scene.check_tally(3, kills=0)


def test_a_crash_in_company_blames_nobody_who_got_on(scene: Scene) -> None:
    scene.start_tally(40, 0.02, id="r")
    scene.start(agents.crasher, id="bad")
    for _ in range(8):
        if ended(serve(scene.url, until_idle=True)) == 0:
            break
    assert scene.run("bad").reason == "poison"
    scene.check_tally(40, kills=8)


def test_an_agent_that_blocks_the_loop_keeps_its_lease(scene: Scene) -> None:
    scene.start(agents.blocker, str(scene.folder), 4.0)
    first = serve(scene.url, lease=1.5, until_idle=True)
    wait_until(lambda: lines(scene.folder, "executed"))
    second = serve(scene.url, lease=1.5, until_idle=True)
    stop(first, 0)
    stop(second, 0)
    run = scene.run()
    assert (run.state, run.attempts) == (RunState.SUCCEEDED, 1)
    assert lines(scene.folder, "executed") == ["0"]


def test_a_cancelled_agent_that_swallows_everything_records_nothing_more(scene: Scene) -> None:
    scene.start(agents.stubborn, str(scene.folder))
    worker = serve(scene.url)
    wait_until(lambda: lines(scene.folder, "executed"))
    wait_until(lambda: scene.run().steps >= 1)
    scene.steer("cancel")
    position = scene.run().position
    time.sleep(1.5)
    run = scene.run()
    assert (run.state, run.position) == (RunState.CANCELLED, position)
    stop(worker)


def test_a_sync_step_that_never_returns_replaces_its_worker_and_counts_no_crash(scene: Scene) -> None:
    scene.start(agents.hanging, str(scene.folder))
    worker = serve(scene.url, until_idle=True)
    err = stop(worker, 0)
    assert worker.returncode != 0
    assert "WorkerStuck" in err
    stop(serve(scene.url, until_idle=True), 0)
    run = scene.run()
    assert run.crashes == 0
    assert (run.state, run.result) == (RunState.SUCCEEDED, b'"fine"')
