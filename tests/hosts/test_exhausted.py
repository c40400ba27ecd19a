"""A server without a connection left, and connections that are all busy: whoever asks waits, or hears what to do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from holdfast.errors import StoreUnavailable
from holdfast.store.postgres import PostgresStore
from holdfast.store.postgres.target import target
from tests.hosts.scene import Fleet, Hosts
from tests.postgres.server import Databases, plain
from tests.processes.harness import ROOT, lines, wait_until
from tests.store.shapes import new_run
from tools.postgres import QUICK, Server

SLOTS = 16


@pytest.fixture
def small(tmp_path: Path) -> Iterator[tuple[Server, Hosts]]:
    """A server for few."""
    server = Server(settings=(*QUICK, f"max_connections={SLOTS}", "superuser_reserved_connections=1"))
    try:
        server.start()
        yield server, Hosts(tmp_path, Databases(server.url).fresh())
    finally:
        server.remove()


def hog(server: Server, stack: ExitStack) -> None:
    """Take every connection that is left."""
    with pytest.raises(psycopg.OperationalError, match="too many clients"):
        while True:
            stack.enter_context(psycopg.connect(server.url, autocommit=True))


def test_a_worker_that_loses_its_connections_to_others_waits_says_why_and_loses_nothing(
    small: tuple[Server, Hosts],
) -> None:
    server, hosts = small
    runs = hosts.start_walks(3, 200, 0.03)  # far from their ends when the connections go
    with Fleet(hosts.folder) as fleet, ExitStack() as others:
        fleet.serve(hosts.url, "here", lease=10)
        hosts.wait_for_acks(10)
        with psycopg.connect(server.url, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holdfast'"
            )
            hog(server, others)
            wait_until(lambda: "has no connection left for us; raise max_connections" in fleet.said("here"))
        seen = len(lines(hosts.folder, "acked"))
        others.close()
        wait_until(lambda: len(lines(hosts.folder, "acked")) > seen)
        wait_until(lambda: hosts.ended(runs))
        assert hosts.check_walks(runs, 200) == 0
        assert {walk.run.token for walk in hosts.all_walked(runs)} == {1}


def test_a_command_that_finds_no_connection_left_says_what_to_do(small: tuple[Server, Hosts]) -> None:
    server, hosts = small
    with ExitStack() as others:
        hog(server, others)
        for words in (["ls"], ["worker", "tests/hosts/agents.py"]):
            done = subprocess.run(
                [sys.executable, "-m", "holdfast", *words, "--store", hosts.url],
                cwd=ROOT, capture_output=True, text=True, check=False, timeout=30, env=dict(os.environ),
            )  # fmt: skip
            assert done.returncode not in (0, 1), done.stderr
            assert (
                "has no connection left for us; raise max_connections, put a pooler before it" in done.stderr
            )
            assert "Traceback" not in done.stderr


async def test_calls_beyond_the_connections_wait_for_slow_ones_and_are_all_done(databases: Databases) -> None:
    """Nor do those of one purpose keep the others waiting: what is read is read meanwhile, and leases are renewed."""
    url = databases.fresh()
    async with PostgresStore(url) as store:
        await store.create_run(new_run("first"))
        with psycopg.connect(plain(url), autocommit=True) as slow:
            slow.execute("SELECT pg_advisory_lock(%s)", [target(url).lock("runs")])
            asked = [asyncio.create_task(store.create_run(new_run(f"r{n}"))) for n in range(40)]
            await asyncio.sleep(1)
            assert not any(one.done() for one in asked)
            async with asyncio.timeout(5):
                assert (await store.get_run("first")).id == "first"
                assert await asyncio.to_thread(store.renew_lease, 1, 1_000_000, None) is False
        created = await asyncio.gather(*asked)
        assert [one.existed for one in created] == [False] * 40
        for n in range(40):
            assert (await store.get_run(f"r{n}")).id == f"r{n}"
    databases.drop(url)


async def test_a_wait_for_busy_connections_that_lasts_ends_with_the_way_out(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.store.postgres import connection

    monkeypatch.setattr(
        connection, "_LIMITS", connection._LIMITS.replace("lock_timeout = '10s'", "lock_timeout = '1s'")
    )
    url = databases.fresh()
    async with PostgresStore(url) as store:
        with psycopg.connect(plain(url), autocommit=True) as slow:
            slow.execute("SELECT pg_advisory_lock(%s)", [target(url).lock("runs")])
            asked = [asyncio.create_task(store.create_run(new_run(f"r{n}"))) for n in range(4)]
            for one in asked:
                with pytest.raises(
                    StoreUnavailable, match="another process holds its lock for too long; try again"
                ):
                    await one
        await store.create_run(new_run("r0"))
    databases.drop(url)
