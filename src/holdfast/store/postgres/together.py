"""Many statements in one journey, answered in their order; each is parsed once for values of it that stand together.

It goes by libpq's pipeline and statements without a name, which the next one replaces: nothing stays in the session.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import compress, groupby
from operator import itemgetter
from typing import Any

import psycopg
from psycopg import errors, pq, waiting
from psycopg.adapt import PyFormat, Transformer

from holdfast.store.transactions.connection import Row, Values

_Waits = Generator[waiting.Wait, waiting.Ready | int, list[pq.abc.PGresult]]


def each(raw: psycopg.Connection[Row], statements: Sequence[tuple[bytes, Values]]) -> list[list[Row]]:
    """Run each text with its values; the rows that each returned. Raises what the first failure says."""
    if not statements:
        return []
    pgconn, adapts = raw.pgconn, Transformer(raw)
    prepared: list[bool] = []
    pgconn.enter_pipeline_mode()
    for text, group in groupby(statements, key=itemgetter(0)):
        given: list[tuple[Any, Any, Any]] = []
        for _, row in group:
            values = adapts.dump_sequence(row, [PyFormat.AUTO] * len(row))
            given.append((values, adapts.types or (), adapts.formats))
        kinds = zip(*(types for _, types, _ in given), strict=True)
        pgconn.send_prepare(b"", text, [next((kind for kind in column if kind), 0) for column in kinds])
        for values, _, formats in given:
            pgconn.send_query_prepared(b"", values, formats)
        prepared += [True, *[False] * len(given)]
    pgconn.pipeline_sync()
    results = raw.wait(_answers(pgconn))
    pgconn.exit_pipeline_mode()
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise errors.error_from_result(result, encoding="utf-8")
    found: list[list[Row]] = []
    for result in compress(results, [not text for text in prepared]):
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
