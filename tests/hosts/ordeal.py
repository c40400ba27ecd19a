"""What is done to a fleet under load: for some seconds by `make test`, for minutes by `make torture STORE=postgres`."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.client import Client
from holdfast.errors import StoreError
from holdfast.store.protocol import Store
from tests.hosts.agents import walk
from tests.hosts.network import Network
from tests.hosts.scene import Fleet, Hosts
from tests.postgres.server import Databases, plain
from tests.processes.harness import wait_until
from tools.postgres import Server

DURABLE = ("fsync=on", "synchronous_commit=on", "max_connections=150")
STEPS = 20
PAUSE_S = 0.03
OPEN = 9
"""Runs that are open at a time: more than the workers hold when one of them is away."""
WORKERS = 4
CAPACITY = 2
PATIENCE_S = 90.0
"""For the last runs to end: the lease of a worker, and their work."""


@contextmanager
def database(folder: Path, network: tuple[str, str] | None = None) -> Iterator[tuple[Server, Hosts]]:
    """A server that loses nothing it acknowledged, with a store on it, which checks that."""
    server = Server(settings=DURABLE, network=network)
    try:
        server.start()
        yield server, Hosts(folder, plain(Databases(server.url).fresh()))
    finally:
        server.remove()


@dataclass
class Load:
    """Runs that are started for as long as it goes on, each as often as it takes to hear that it is there."""

    hosts: Hosts
    runs: list[str] = field(default_factory=list)
    _open: set[str] = field(default_factory=set)

    @property
    def told(self) -> str:
        """What it was."""
        return f"{len(self.runs)} runs of {STEPS} steps ended"

    def top_up(self) -> None:
        """Have OPEN runs that are not over, if the database answers."""

        async def starting(store: Store) -> None:
            client = Client(store)
            self._open -= {run for run in self._open if (await store.get_run(run)).state.final}
            while len(self._open) < OPEN:
                name = f"r{len(self.runs)}"  # the same one again, if nobody answered
                await client.start(walk, str(self.hosts.folder), STEPS, PAUSE_S, id=name)
                self.runs.append(name)
                self._open.add(name)

        with suppress(StoreError):
            self.hosts.ask(starting)

    def strike(self, for_s: float, blow: Callable[[], None], pause_s: Callable[[], float]) -> int:
        """Keep it up for so long, and strike after each pause; returns how often."""
        ends_at, struck = time.monotonic() + for_s, 0
        next_at = time.monotonic() + pause_s()
        while time.monotonic() < ends_at:
            self.top_up()
            if time.monotonic() >= next_at:
                blow()
                struck += 1
                next_at = time.monotonic() + pause_s()
            time.sleep(0.05)
        return struck

    def check(self) -> int:
        """Wait for the end of all: nothing was lost and nothing recorded twice. Returns how much was done again."""
        wait_until(lambda: self.hosts.ended(self.runs), PATIENCE_S)
        return self.hosts.check_walks(self.runs, STEPS)

    def attempts(self) -> tuple[int, Counter[str]]:
        """The most attempts that a run had, and what became of attempts that did not end: `crashed`, `drained`."""

        async def reading(store: Store) -> tuple[int, Counter[str]]:
            most, became = 0, Counter[str]()
            for id in self.runs:
                run = await store.get_run(id)
                most = max(most, run.attempts)
                became["failed"] += run.failures
                notes = [json.loads(event.payload) for event in await store.read_events(id, 0, 10_000)
                         if event.type == "run.running"]  # fmt: skip
                became.update(note["taken_over"] for note in notes if "taken_over" in note)
            return most, +became

        return self.hosts.ask(reading)


def stops_of_the_server(
    folder: Path,
    for_s: float,
    pause_s: Callable[[], float],
    gone_s: Callable[[], float],
    chance: random.Random,
) -> str:
    """The database crashes, is restarted, or stands still, again and again, while four workers are at it."""
    ways = ("crash", "freeze", "restart")
    with database(folder) as (server, hosts), Fleet(folder) as fleet:
        load = Load(hosts)
        for n in range(WORKERS):
            _worker(fleet, hosts, n)
        hosts.wait_for_first_ack(load.top_up)
        struck: dict[str, int] = dict.fromkeys(ways, 0)

        def blow() -> None:
            way = min(ways, key=lambda way: (struck[way], chance.random()))
            struck[way] += 1
            if way == "freeze":
                server.freeze(True)
                time.sleep(gone_s())
                server.freeze(False)
            else:
                server.stop(signal.SIGQUIT if way == "crash" else signal.SIGINT)
                time.sleep(gone_s())
                server.start()

        load.strike(for_s, blow, pause_s)
        repeats = load.check()
        assert all(one.poll() is None for one in fleet.all), "a worker went down with the server"
        assert "createdb" not in "".join(fleet.said(f"host{n}") for n in range(WORKERS))
        assert load.attempts() == (1, {}), "a stop within the lease cost an attempt"
        assert repeats == 0, f"{repeats} steps were done again"
        return f"{struck} in {for_s:.0f} s: {load.told}, each in one attempt, nothing repeated"


def kills_in_turn(hosts: Hosts, kills: int, pause_s: Callable[[], float]) -> str:
    """`kill -9` of each of four workers in turn; another one takes its place."""
    load, repeats = Load(hosts), 0
    with Fleet(hosts.folder) as fleet:
        serving = [_worker(fleet, hosts, n) for n in range(WORKERS)]
        hosts.wait_for_first_ack(load.top_up)
        for number in range(kills):
            load.strike(pause_s(), lambda: None, lambda: PATIENCE_S)
            turn = number % WORKERS
            serving[turn].kill()
            serving[turn].wait()
            serving[turn] = _worker(fleet, hosts, turn)
        repeats = load.check()
        _, became = load.attempts()
    assert repeats <= kills * CAPACITY, f"{repeats} repeats after {kills} kills of {CAPACITY} steps in flight"
    assert became["crashed"] >= kills / 2, f"kills met few runs: {became}"
    return (
        f"{kills} kills of {WORKERS} workers met {became['crashed']} attempts: {load.told}, {repeats} repeats"
    )


def rolling_restarts(hosts: Hosts, restarts: int, pause_s: Callable[[], float]) -> str:
    """A deploy after the other: another worker is started, SIGTERM to the oldest, wait for its end."""
    load = Load(hosts)
    with Fleet(hosts.folder) as fleet:
        serving = [_worker(fleet, hosts, n) for n in range(WORKERS // 2)]
        hosts.wait_for_first_ack(load.top_up)
        for number in range(restarts):
            load.strike(pause_s(), lambda: None, lambda: PATIENCE_S)
            serving.append(_worker(fleet, hosts, number % WORKERS))
            wait_until(lambda: len(_serving(hosts)) > WORKERS // 2)
            oldest = serving.pop(0)
            oldest.send_signal(signal.SIGTERM)
            assert oldest.wait(60) == 128 + signal.SIGTERM
        repeats = load.check()
        most, became = load.attempts()
    assert not became, f"a restart counted: {became}"
    assert repeats == 0, f"{repeats} steps were done again"
    assert most > 1, "no restart met a run"
    return f"{restarts} rolling restarts: {load.told} in {most} attempts at most, no retry burnt, nothing repeated"


def hosts_cut_off(folder: Path, net: Network, cuts: int, lease_s: float, chance: random.Random) -> str:
    """Three hosts, one or two of them cut off for less than a lease, or for more."""
    with database(folder, (net.address, net.addresses)) as (_, near), Fleet(folder) as fleet:
        load = Load(near)
        far = near.url.replace("127.0.0.1", net.address)
        for host in net.hosts:
            fleet.serve(far, host.name, within=host.within, lease=lease_s, capacity=CAPACITY)
        near.wait_for_first_ack(load.top_up)
        wait_until(
            lambda: len(_serving(near)) == len(net.hosts)
        )  # who starts while it is cut off says so, and ends
        for _ in range(cuts):
            away = chance.sample(net.hosts, chance.randint(1, len(net.hosts) - 1))
            for host in away:
                host.cut_off()
            load.strike(chance.uniform(0.2, 2.2) * lease_s, lambda: None, lambda: PATIENCE_S)
            for host in away:
                host.heal()
            load.strike(chance.uniform(0.5, 1.5) * lease_s, lambda: None, lambda: PATIENCE_S)
        repeats = load.check()
        said = [fleet.said(host.name)[-2_000:] for host in net.hosts]
        assert all(one.poll() is None for one in fleet.all), f"a worker did not come back: {said}"
        lost = sum(fleet.said(host.name).count("begins again") for host in net.hosts)
    assert lost, "no host was away for longer than its lease"
    assert repeats <= 2 * lost * CAPACITY, f"{repeats} repeats"
    return f"{cuts} cuts, {lost} leases lost: {load.told}, {repeats} repeats"


def _worker(fleet: Fleet, hosts: Hosts, n: int) -> subprocess.Popen[str]:
    words = ("tests/hosts/agents.py", "--capacity", str(CAPACITY))
    return fleet.worker(hosts.url, f"host{n}", *words)


def _serving(hosts: Hosts) -> list[int]:
    """Which workers there are that claim."""
    found = hosts.ask(lambda store: store.list_workers())
    return [one.key for one in found if one.alive and not one.draining]
