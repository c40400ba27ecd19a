"""Hosts that cannot reach the database, or only slowly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.model import RunState
from tests.hosts.network import Network, network
from tests.hosts.scene import Fleet, Hosts
from tests.postgres.proxy import Slow
from tests.postgres.server import Databases
from tests.processes.harness import wait_until
from tools.postgres import Server

LEASE_S = 3


@pytest.fixture
def net() -> Iterator[Network]:
    """Two hosts."""
    with network(2) as made:
        yield made


@pytest.fixture
def far(net: Network, tmp_path: Path) -> Iterator[Hosts]:
    """A database that is a host away."""
    server = Server(network=(net.address, net.addresses))
    try:
        server.start()
        here = Databases(server.url).fresh()
        yield Hosts(tmp_path, here.replace("127.0.0.1", net.address))
    finally:
        server.remove()


def test_a_host_cut_off_past_its_lease_and_healed_records_nothing_and_serves_again(
    net: Network, far: Hosts
) -> None:
    (run,) = far.start_walks(1, 80, 0.05)
    first, second = net.hosts
    with Fleet(far.folder) as fleet:
        zombie = fleet.serve(far.url, "first", within=first.within, lease=LEASE_S)
        far.wait_for_acks(10)
        fleet.serve(far.url, "second", within=second.within, lease=LEASE_S, capacity=1)
        first.cut_off()
        wait_until(lambda: far.walked(run).run.token == 2)
        far.wait_for_acks(5)
        first.heal()  # what it had said when it was cut off arrives now
        wait_until(lambda: far.ended([run]))
        assert far.check_walks([run], 80) <= 2
        paces = far.walked(run).paces
        taken_over = next(n for n, pace in enumerate(paces) if pace[1] == "second")
        assert {pace[1:] for pace in paces[:taken_over]} == {("first", 1)}
        assert {pace[1:] for pace in paces[taken_over:]} == {("second", 2)}
        assert 10 <= taken_over < 70
        second.cut_off()  # who else could go on
        (later,) = far.start_walks(1, 5, 0.01, named="later")
        wait_until(lambda: far.ended([later]))
        assert zombie.poll() is None
        assert {pace[1] for pace in far.walked(later).paces} == {"first"}
        assert "begins again" in fleet.said("first")


def test_a_slow_link_holds_its_leases_and_ends_its_runs(net: Network, far: Hosts) -> None:
    """A tenth of a second from a word to its answer, as across an ocean; by a relay, for few kernels have `netem`."""
    slow = Slow(far.url, net.address, 0.05)
    link = Hosts(far.folder, slow.url)
    try:
        runs = far.start_walks(2, 8, 0.1)
        with Fleet(far.folder) as fleet:
            for host in net.hosts:
                fleet.serve(link.url, host.name, within=host.within, lease=2 * LEASE_S, capacity=1)
            wait_until(lambda: far.ended(runs), 50)
            assert far.check_walks(runs, 8) == 0
            walks = [far.walked(run).run for run in runs]
            assert {(run.state, run.token, run.crashes) for run in walks} == {(RunState.SUCCEEDED, 1, 0)}
            assert all("lost its lease" not in fleet.said(host.name) for host in net.hosts)
    finally:
        slow.close()
