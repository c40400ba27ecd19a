"""Many statements in one journey, answered in their order; each is parsed once for values of it that stand together.

It goes by libpq's pipeline and statements without a name, which the next one replaces: nothing stays in the session.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import psycopg
from psycopg import abc, errors, pq, waiting
from psycopg.adapt import PyFormat, Transformer

from holdfast.store.transactions.connection import Row, Values

_Given = tuple[Any, Any, Any]
_Waits = Generator[waiting.Wait, waiting.Ready | int, list[pq.abc.PGresult]]


class Bound(NamedTuple):
    """Statements that only have to be sent, those of one text together."""

    adapts: abc.Transformer
    groups: list[tuple[bytes, list[_Given]]]


class Done(NamedTuple):
    """What a statement returned, and how many rows it changed."""

    rows: list[Row]
    changed: int


def bound(raw: psycopg.Connection[Row], statements: Sequence[tuple[bytes, Values]]) -> Bound:
    """The statements as they are sent. Raises DataError for a value that cannot be; then nothing was sent."""
    adapts = Transformer(raw)
    groups = [(text, _bound(adapts, group)) for text, group in groupby(statements, key=itemgetter(0))]
    return Bound(adapts, groups)


def each(raw: psycopg.Connection[Row], statements: Bound) -> list[Done]:
    """Run each text with its values. Raises what the first failure says; then nothing behind it was done."""
    adapts, groups = statements
    if not groups:
        return []
    try:
        results = raw.wait(_answers(_sent(raw.pgconn, groups)))
        raw.pgconn.exit_pipeline_mode()
    except BaseException:
        raw.close()  # nobody knows what it would say next
        raise
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise errors.error_from_result(result, encoding="utf-8")
    found: list[Done] = []
    at = 0
    for _, given in groups:
        for result in results[at + 1 : at + 1 + len(given)]:  # the first one is of the text
            adapts.set_pgresult(result)
            found.append(Done(adapts.load_rows(0, result.ntuples, tuple), result.command_tuples or 0))
        at += 1 + len(given)
    return found


def _bound(adapts: abc.Transformer, group: Iterable[tuple[bytes, Values]]) -> list[_Given]:
    """The values of each, as the driver sends them."""
    given: list[_Given] = []
    for _, row in group:
        values = adapts.dump_sequence(row, [PyFormat.AUTO] * len(row))
        given.append((values, adapts.types or (), adapts.formats))
    return given


def _sent(pgconn: pq.abc.PGconn, groups: Sequence[tuple[bytes, list[_Given]]]) -> pq.abc.PGconn:
    pgconn.enter_pipeline_mode()
    for text, given in groups:
        kinds = zip(*(types for _, types, _ in given), strict=True)
        pgconn.send_prepare(b"", text, [next((kind for kind in column if kind), 0) for column in kinds])
        for values, _, formats in given:
            pgconn.send_query_prepared(b"", values, formats)
    pgconn.pipeline_sync()
    return pgconn


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
