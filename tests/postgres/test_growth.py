"""What hours of work leave behind: rows that are rewritten stay where they are, a long queue is not looked through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from bench.contenders.claims_postgres import fill
from holdfast.model import Committed
from holdfast.store.postgres import PostgresStore
from holdfast.store.postgres.connection import STATEMENTS
from tests.postgres.server import plain
from tests.store.shapes import SERVES, change, claimed, new_run, new_worker

STEPS = 1_500
QUEUED = 30_000


@pytest.mark.parametrize("runs", [1, 10])
async def test_what_every_step_rewrites_stays_on_its_page(url: str, runs: int) -> None:
    async with PostgresStore(url) as store:
        claims = await claimed(store, *(f"r{n}" for n in range(runs)))
        for position in range(STEPS // runs):
            answers = await store.commit([change(claim, position) for claim in claims])
            assert all(isinstance(answer, Committed) for answer in answers)
    with psycopg.connect(plain(url), autocommit=True) as asked:  # the sessions have said what they did
        for table in ("live", "writers"):
            updates, hot, size = asked.execute(
                "SELECT n_tup_upd, n_tup_hot_upd, pg_relation_size(relid) FROM pg_stat_user_tables"
                " WHERE schemaname = 'holdfast' AND relname = %s",
                (table,),
            ).fetchone() or (0, 0, 0)
            assert updates >= STEPS // runs, table
            assert hot >= 0.95 * updates, (table, updates, hot)
            assert size <= 128 * 1024, (table, size)  # a version for each step would be 100 KB and more


async def test_a_claim_looks_at_the_head_of_a_long_queue_and_at_nothing_else(url: str) -> None:
    async with PostgresStore(url) as store:
        await store.create_run(new_run("first"))
        with psycopg.connect(plain(url), autocommit=True) as admin:
            fill(plain(url), QUEUED)
            due = (SERVES[0].agent, SERVES[0].version, "", "default", 0, 1 << 60, 100)
            nodes = [*_plan(admin, "claim.due", due), *_plan(admin, "claim.due_groups", due[:2])]
        for node in nodes:
            assert node["Node Type"] not in ("Seq Scan", "Sort", "Bitmap Heap Scan"), node
            assert node["Actual Rows"] <= 101, node
            assert node.get("Relation Name") != "runs" or "Index Name" in node, node
        assert sum(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in nodes[:1]) < 300
        worker = await store.register_worker(new_worker(), 60_000_000)
        claims = await store.claim(worker, SERVES, 20)
        assert [claim.run.id for claim in claims] == ["first", *(f"copy {n}" for n in range(1, 20))]


def _plan(admin: psycopg.Connection[Any], name: str, values: tuple[object, ...]) -> list[dict[str, Any]]:
    """Every node of the plan of a statement, as it was executed."""
    with psycopg.RawCursor(admin) as cursor:
        text = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {STATEMENTS[name]}"
        ((found,),) = cursor.execute(text.encode(), values).fetchall()
    plans = json.loads(found) if isinstance(found, str) else found
    return list(_nodes(plans[0]["Plan"]))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", []):
        yield from _nodes(below)
