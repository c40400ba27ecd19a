"""Short versions of what `make torture STORE=postgres` does for minutes."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from tests.hosts import ordeal
from tests.hosts.scene import Fleet, Hosts
from tests.processes.harness import wait_until


@pytest.mark.timeout(120)
def test_a_database_that_crashes_restarts_and_stands_still_loses_nothing_and_costs_no_attempt(
    tmp_path: Path,
) -> None:
    chance = random.Random(5)
    print(
        ordeal.stops_of_the_server(
            tmp_path, 5, lambda: chance.uniform(0.2, 0.7), lambda: chance.uniform(0, 1), chance
        )
    )


def test_a_database_away_for_longer_than_a_lease_loses_nothing_and_its_workers_come_back(
    tmp_path: Path,
) -> None:
    with ordeal.database(tmp_path) as (server, hosts), Fleet(tmp_path) as fleet:
        runs = hosts.start_walks(3, 20, 0.03)
        worker = fleet.serve(hosts.url, "here", lease=2)
        hosts.wait_for_acks(10)
        server.stop(signal.SIGQUIT)
        wait_until(lambda: "cannot begin again yet" in fleet.said("here"))
        server.start()
        wait_until(lambda: hosts.ended(runs))
        assert hosts.check_walks(runs, 20) <= 2 * len(runs)
        assert {walk.run.token for walk in hosts.all_walked(runs)} == {2}
        assert worker.poll() is None


@pytest.mark.timeout(120)
def test_each_of_four_workers_killed_in_turn_under_load_ends_every_run_with_each_outcome_once(
    hosts: Hosts,
) -> None:
    chance = random.Random(6)
    print(ordeal.kills_in_turn(hosts, 4, lambda: chance.uniform(0.2, 0.5)))


@pytest.mark.timeout(120)
def test_rolling_restarts_burn_no_retry_and_repeat_nothing(hosts: Hosts) -> None:
    chance = random.Random(7)
    print(ordeal.rolling_restarts(hosts, 6, lambda: chance.uniform(0, 0.2)))
