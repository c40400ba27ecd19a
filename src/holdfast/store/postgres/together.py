"""One statement for many values, in one journey: parsed once, bound as often as there are values, answered in order.

It goes by libpq's pipeline and a statement without a name, which the next one replaces: nothing stays in the session.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import psycopg
from psycopg import errors, pq, waiting
from psycopg.adapt import PyFormat, Transformer

from holdfast.store.transactions.connection import Row, Values

_Waits = Generator[waiting.Wait, waiting.Ready | int, list[pq.abc.PGresult]]


def each(raw: psycopg.Connection[Row], text: bytes, rows: Sequence[Values]) -> list[list[Row]]:
    """Run `text` for each of `rows`, inside a transaction; the rows that each returned. Raises what the first failure
    says."""
    if not rows:
        return []
    pgconn, adapts = raw.pgconn, Transformer(raw)
    given: list[tuple[Any, Any, Any]] = []
    for row in rows:
        values = adapts.dump_sequence(row, [PyFormat.AUTO] * len(row))
        given.append((values, adapts.types or (), adapts.formats))
    types = [
        next((kind for kind in column if kind), 0)
        for column in zip(*(each[1] for each in given), strict=True)
    ]
    pgconn.enter_pipeline_mode()
    pgconn.send_prepare(b"", text, types)
    for values, _, formats in given:
        pgconn.send_query_prepared(b"", values, formats)
    pgconn.pipeline_sync()
    results = raw.wait(_answers(pgconn))
    pgconn.exit_pipeline_mode()
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise errors.error_from_result(result, encoding="utf-8")
    found: list[list[Row]] = []
    for result in results[1:]:  # the first is of the text
        adapts.set_pgresult(result)
        found.append(adapts.load_rows(0, result.ntuples, tuple))
    return found


def _answers(pgconn: pq.abc.PGconn) -> _Waits:
    """What the server says to all of it. It reads while it sends: neither side may wait for the other to listen."""
    found: list[pq.abc.PGresult] = []
    while True:
        unsent = pgconn.flush()
        ready = yield waiting.Wait.RW if unsent else waiting.Wait.R
        if not ready & waiting.Ready.R:
            continue
        pgconn.consume_input()
        ended = False
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                if ended:
                    break
                ended = True  # of one; the next may be there
                continue
            ended = False
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                return found
            found.append(result)
