"""The bare driver on PostgreSQL: psycopg, holdfast's own schema, one `events` row of a step's shape after the other.

`--batch 1` is `INSERT …; COMMIT` for each row, `--batch 64` the driver's `executemany` (a pipeline) and a commit.
Checks nothing: no token, no position, no state.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import psycopg

from bench.contenders.bare import rows_of
from bench.workload import Tally, answer, leave
from holdfast.store.postgres import schema
from holdfast.store.postgres.connection import Connection
from holdfast.store.postgres.target import target

INSERT = (
    "INSERT INTO holdfast.events (run, n, at_us, type, position, kind, status, segment, scope, name, key, occurrence,"
    " started_at_us, token, args_hash, payload) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)


def main(number: int, runs: int, batch: int, url: str) -> None:
    """Write them all and answer the figures."""
    made = Connection(target(url), None)
    schema.prepare(made)
    made.close()
    rows = rows_of(number, runs)
    tally = Tally(expected=-(-number // batch))
    with psycopg.connect(url) as database:
        cursor = database.cursor()
        for first in range(0, number, batch):
            began_s = tally.begin()
            if batch == 1:
                cursor.execute(INSERT, rows[first])
            else:
                cursor.executemany(INSERT, rows[first : first + batch])
            database.commit()
            tally.end(began_s)
    answer(
        {
            **tally.figures(),
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
    parser.add_argument("--store", required=True)
    parser.add_argument("--folder", type=Path, help="not needed: the database is elsewhere")
    options = parser.parse_args()
    main(options.rows, options.runs, options.batch, options.store)
    leave()
