"""The bare driver on PostgreSQL: psycopg, holdfast's own schema, one `events` row of a step's shape after the other.
Checks nothing.

Rows are made before the clock starts. `--batch 1` is one row a commit, `--batch 64` one statement for so many: the
quickest way that psycopg has, measured beside `executemany` and COPY.
"""

from __future__ import annotations

import argparse
from typing import Any

import psycopg

from bench.contenders.bare import Row, rows_of
from bench.workload import Tally, answer, leave
from holdfast.store.postgres import schema
from holdfast.store.postgres.connection import Connection
from holdfast.store.postgres.target import target

COLUMNS = {
    "run": "bigint", "n": "bigint", "at_us": "bigint", "type": "text", "position": "bigint", "kind": "text",
    "status": "text", "segment": "bigint", "scope": "text", "name": "text", "key": "text", "occurrence": "bigint",
    "started_at_us": "bigint", "token": "bigint", "args_hash": "bytea", "payload": "bytea",
}  # fmt: skip
NAMES = ", ".join(COLUMNS)
ONE = f"INSERT INTO holdfast.events ({NAMES}) VALUES ({', '.join('%s' for _ in COLUMNS)})"
ARRAYS = ", ".join(f"%s::{kind}[]" for kind in COLUMNS.values())
MANY = f"INSERT INTO holdfast.events ({NAMES}) SELECT * FROM unnest({ARRAYS})"
RUN = (
    "INSERT INTO holdfast.runs (id, agent, version, queue, priority, state, claimable, created_at_us, input_hash)"
    " SELECT 'run-' || n, 'bare', '0', 'default', 0, 'queued', true, 0, '' FROM generate_series(1, %s) AS n"
)


def write(database: psycopg.Connection[Any], rows: list[Row], batch: int) -> Tally:
    """Commit them, `batch` rows at a time; a latency is that of a commit."""
    tally = Tally(expected=-(-len(rows) // batch))
    batches = [rows[first : first + batch] for first in range(0, len(rows), batch)]
    given = [
        some[0] if batch == 1 else [list(column) for column in zip(*some, strict=True)] for some in batches
    ]
    cursor, statement = database.cursor(), (ONE if batch == 1 else MANY).encode()
    for values in given:
        began_s = tally.begin()
        cursor.execute(statement, values)
        tally.end(began_s)
    return tally


def main(number: int, runs: int, batch: int, url: str) -> None:
    """Write them all and answer the figures."""
    prepared = Connection(target(url), None)
    schema.prepare(prepared)
    prepared.close()
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(RUN.encode(), (runs,))
        tally = write(database, rows_of(number, runs), batch)
    figures = tally.figures()
    answer(
        {
            **figures,
            "steps": number,
            "steps_per_s": number / tally.wall_s,
            "cpu_ms_per_step": tally.cpu_s / number * 1e3,
        }
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--folder")
    parser.add_argument("--url", required=True)
    options = parser.parse_args()
    main(options.rows, options.runs, options.batch, options.url)
    leave()
