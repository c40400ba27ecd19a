"""Hosts whose clocks are hours apart: timers, leases and schedules follow the clock of the database."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.client import Client, Schedule
from holdfast.store.protocol import Store
from tests.hosts.agents import nap, tick
from tests.hosts.scene import Fleet, Hosts
from tests.processes.harness import lines, wait_until

HOUR_S = 3_600
LEASE_S = 3
NAP_S = 1.4  # longer than what stays in memory: the run is unloaded, and may go on anywhere


@pytest.fixture
def fleet(hosts: Hosts) -> Iterator[Fleet]:
    """Two workers, two hours apart, that know nothing of each other but what the database says. One has its runs in
    processes of their own."""
    with Fleet(hosts.folder) as fleet:
        for name, ahead_s in (("ahead", HOUR_S), ("behind", -HOUR_S)):
            runtime = hosts.folder / name
            runtime.mkdir(0o700)
            place = "process" if name == "ahead" else "task"
            fleet.serve(
                hosts.url, name, environ={"XDG_RUNTIME_DIR": str(runtime)}, ahead_s=ahead_s,
                lease=LEASE_S, isolation=place,
            )  # fmt: skip
        wait_until(lambda: len(hosts.ask(lambda store: store.list_workers())) == 2)
        yield fleet


def looked(folder: Path, run: str) -> list[tuple[str, float]]:
    """On which host each look was, and when."""
    split = [line.split() for line in lines(folder, "looked")]
    return [(host, float(at)) for id, _, host, at in split if id.startswith(run)]


def test_timers_and_timeouts_take_their_time_on_whatever_host_and_schedules_fire_in_time(
    hosts: Hosts, fleet: Fleet
) -> None:
    async def starting(store: Store) -> list[str]:
        client, folder = Client(store), [str(hosts.folder)]
        every = Schedule("tick", tick, folder, every="1s", catch_up="all", overlap="allow")
        await client.schedules.add(every)
        return [(await client.start(nap, str(hosts.folder), 4, NAP_S, id=f"nap{n}")).id for n in range(3)]

    began = time.monotonic()
    naps = hosts.ask(starting)
    wait_until(lambda: hosts.ended(naps))
    seen = [looked(hosts.folder, nap) for nap in naps]
    for each in seen:
        assert len(each) == 5
        slept = [later[1] - sooner[1] for sooner, later in itertools.pairwise(each)]
        assert all(NAP_S - 0.05 <= took < NAP_S + 3 for took in slept), (slept, each)
    crossed = [one for each in seen for one in itertools.pairwise(each) if one[0][0] != one[1][0]]
    assert crossed, "no timer of one host ended on the other"
    took, fired = time.monotonic() - began, len(looked(hosts.folder, "tick"))
    assert took / 2 - 2 < fired < took + 2, "a fire for each second, not for those of two hours"


def test_leases_hold_and_end_by_the_clock_of_the_database(hosts: Hosts, fleet: Fleet) -> None:
    (run,) = hosts.start_walks(1, 200, 0.05)
    hosts.wait_for_acks(4 * LEASE_S * 10 // 3)  # two leases long
    walk = hosts.walked(run)
    assert walk.run.token == 1
    holder = walk.paces[0][1]
    fleet.all[["ahead", "behind"].index(holder)].kill()
    seen, began = len(lines(hosts.folder, "acked")), time.monotonic()
    wait_until(lambda: len(lines(hosts.folder, "acked")) > seen)
    assert LEASE_S * 2 / 3 - 0.5 < time.monotonic() - began < LEASE_S + 3
    assert hosts.walked(run).run.token == 2
