"""The bare driver: apsw, holdfast's own schema, one `events` row of a step's shape after the other. Checks nothing.

Rows are made before the clock starts. `--batch 1` is one row a commit, `--batch 64` group commits.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import apsw

from bench.ground import CHECKOUT
from bench.workload import Tally, answer, bytes_on_disk, leave, result_of_step
from holdfast.store.sqlite.connection import PAGE_BYTES

MIGRATIONS = CHECKOUT / "src" / "holdfast" / "store" / "sqlite" / "migrations"
INSERT = (
    "INSERT INTO events (run, n, at_us, type, position, kind, status, segment, scope, name, key, occurrence,"
    " started_at_us, token, args_hash, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
Row = tuple[int | str | bytes | None, ...]


def made(file: Path) -> apsw.Connection:
    """A database of holdfast's schema, with the settings of holdfast's connections."""
    database = apsw.Connection(str(file))
    database.pragma("page_size", PAGE_BYTES)
    database.pragma("journal_mode", "wal")
    database.pragma("synchronous", "full")
    for migration in sorted(MIGRATIONS.glob("*.sql")):
        database.execute(migration.read_text())
    return database


def rows_of(number: int, runs: int) -> list[Row]:
    """The entries of steps, run by run in turn, as a worker with that many runs would write them."""
    rows: list[Row] = []
    for index in range(number):
        step, run = divmod(index, runs)
        at_us = time.time_ns() // 1000
        payload = json.dumps(result_of_step(step), separators=(",", ":")).encode()
        entry = (
            "step.finished",
            step + 1,
            "step",
            "ok",
            0,
            "",
            "work",
            None,
            step,
            at_us - 200,
            1,
            bytes(16),
            payload,
        )
        rows.append((run + 1, step + 2, at_us, *entry))
    return rows


def write(database: apsw.Connection, rows: list[Row], batch: int) -> Tally:
    """Commit them, `batch` rows at a time; a latency is that of a commit."""
    tally = Tally(expected=-(-len(rows) // batch))
    for first in range(0, len(rows), batch):
        began_s = tally.begin()
        if batch == 1:
            database.execute(INSERT, rows[first])
        else:
            database.execute("BEGIN IMMEDIATE")
            database.executemany(INSERT, rows[first : first + batch])
            database.execute("COMMIT")
        tally.end(began_s)
    return tally


def main(number: int, runs: int, batch: int, folder: Path) -> None:
    """Write them all and answer the figures."""
    database = made(folder / "bare.db")
    tally = write(database, rows_of(number, runs), batch)
    figures = tally.figures()
    database.close()
    size = bytes_on_disk(folder)
    figures |= {
        "steps": number,
        "steps_per_s": number / tally.wall_s,
        "cpu_ms_per_step": tally.cpu_s / number * 1e3,
        "bytes_per_step": size / number,
    }
    answer(figures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    main(options.rows, options.runs, options.batch, options.folder)
    leave()
