"""The ground of `make bench STORE=postgres`: one server of the project's own, and what it spends on each contender."""

from __future__ import annotations

import bisect
import contextlib
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import psutil
import psycopg

from bench.ground import Ground, Peer
from tools.postgres import Server

SETTINGS = ("shared_buffers=512MB", "max_wal_size=4GB")
"""Beside what PostgreSQL is by default, durability first of all: no checkpoint falls into the window of one contender
only, and nobody's rows are read from a disk."""
LOOK_S = 0.02


@dataclass(slots=True)
class Meter:
    """CPU of the server's processes and bytes of its log, all the time; read between two instants."""

    server: Server
    _at_s: list[float] = field(default_factory=list)
    _seen: list[tuple[float, float]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Look until it is over."""
        postmaster = psutil.Process(self.server.pid)
        with psycopg.connect(self.server.url, autocommit=True) as database:
            while not self._over.wait(LOOK_S):
                row = database.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
                assert row is not None
                self._seen.append((_cpu_s(postmaster), float(row[0])))
                self._at_s.append(time.time())

    def end(self) -> None:
        """Look no more."""
        self._over.set()

    def between(self, begin_s: float, end_s: float) -> tuple[float, float]:
        """Seconds of CPU and bytes of the log; instants of the wall clock."""
        before, after = self._at(begin_s), self._at(end_s)
        return after[0] - before[0], after[1] - before[1]

    def _at(self, at_s: float) -> tuple[float, float]:
        """What was seen then, between two looks in proportion."""
        n = min(max(bisect.bisect(self._at_s, at_s), 1), len(self._at_s) - 1)
        left_s, right_s = self._at_s[n - 1], self._at_s[n]
        share = min(max((at_s - left_s) / (right_s - left_s), 0.0), 1.0)
        (cpu, wal), (cpu_next, wal_next) = self._seen[n - 1], self._seen[n]
        return cpu + share * (cpu_next - cpu), wal + share * (wal_next - wal)


def _cpu_s(postmaster: psutil.Process) -> float:
    """Of all processes of the server, those that have ended too."""
    used = postmaster.cpu_times()
    total = used.user + used.system + used.children_user + used.children_system
    for child in postmaster.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            own = child.cpu_times()
            total += own.user + own.system
    return float(total)


@dataclass(frozen=True, slots=True)
class OnPostgres(Ground):
    """Each contender has a database of its own, and is told its `--url`. Its answer says what the server spent."""

    server: Server
    meter: Meter
    bare: ClassVar[str] = "bench.contenders.bare_postgres"
    hint: ClassVar[str] = "NOTIFY after the commit of the start; without it, the pace of looking"
    in_a_row: ClassVar[tuple[Peer, ...]] = (*Ground.in_a_row, ("absurd", "bench.peers.absurd_steps", ()))
    at_once: ClassVar[tuple[Peer, ...]] = (*Ground.at_once, ("absurd", "bench.peers.absurd_steps", ()))

    @property
    def version(self) -> str:
        """See `Ground`."""
        return f"PostgreSQL {self.server.version}, default settings but {', '.join(SETTINGS)}"

    def fresh(self) -> str:
        """The URL of a database with nothing in it. A checkpoint is written first: what an earlier one left to write is
        not this one's to pay."""
        name = f"bench_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.server.url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
            admin.execute("CHECKPOINT")
        return self.server.url.rpartition("/")[0] + f"/{name}"

    def drop(self, url: str) -> None:
        """Drop it, whoever may still be connected."""
        with psycopg.connect(self.server.url, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)".encode())

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """A database for one contender."""
        url = self.fresh()
        try:
            yield url
        finally:
            self.drop(url)

    def contend(self, module: str, *arguments: str) -> dict[str, Any]:
        """See `Ground`."""
        with self.database() as url:
            return self._measured(Ground.contend(self, module, *arguments, "--url", url))

    def contend_peer(self, module: str, *arguments: str) -> dict[str, Any]:
        """See `Ground`."""
        with self.database() as url:
            return self._measured(Ground.contend_peer(self, module, *arguments, "--url", url))

    def _measured(self, answer: dict[str, Any]) -> dict[str, Any]:
        if "window_s" in answer:
            time.sleep(3 * LOOK_S)  # until it has been looked at behind the end
            cpu_s, wal_bytes = self.meter.between(*answer["window_s"])
            answer["server_cpu_ms_per_step"] = cpu_s / answer["steps"] * 1e3
            answer["wal_bytes_per_step"] = wal_bytes / answer["steps"]
        return answer


@contextlib.contextmanager
def on_postgres(repeats: int, quick: bool, with_peers: bool) -> Iterator[OnPostgres]:
    """The ground, while its server runs. As durable as PostgreSQL is by default."""
    server = Server(settings=SETTINGS)
    try:
        server.start()
        meter = Meter(server)
        looking = threading.Thread(target=meter.run, daemon=True)
        looking.start()
        try:
            yield OnPostgres(repeats=repeats, quick=quick, with_peers=with_peers, server=server, meter=meter)
        finally:
            meter.end()
            looking.join()
    finally:
        server.remove()
