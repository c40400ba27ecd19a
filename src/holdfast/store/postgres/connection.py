"""Connections to the database, each with the transactions of one thread at a time.

Laws of this file:
1. Nothing of ours depends on a session: no SET, no session lock, no temporary table. A pooler may give every
   transaction another server connection. The plan of a statement that runs all the time is kept where it ran, under a
   name that is made of its text: whoever finds the name finds this statement, and whoever does not makes it.
2. Every transaction that writes counts in the row of its writer, which is ours alone. What became of one whose answer
   was lost is found there, and to look also counts: whatever arrives late changes nothing.
3. What reads before it writes takes its locks first (`transaction`), the clock is read under them.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, cast

import psycopg
from psycopg import RawCursor, errors
from psycopg.types.numeric import Int8Dumper

from holdfast.clock import Clock
from holdfast.store.postgres import here
from holdfast.store.postgres.errors import Fenced
from holdfast.store.postgres.target import Target
from holdfast.store.sql import statements
from holdfast.store.transactions.connection import Broken, Row, Values

STATEMENTS: Final = statements("holdfast.store.postgres")
CONNECT_S: Final = 5
_LIBPQ: Final[Mapping[str, Any]] = {
    "connect_timeout": CONNECT_S,
    "application_name": "holdfast",
    "client_encoding": "utf8",
    "keepalives_idle": 10,  # a host that is gone is noticed in 25 seconds, a lease is 30
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_LIMITS: Final = "SET LOCAL lock_timeout = '10s'; SET LOCAL idle_in_transaction_session_timeout = '10s'"
"""Far beyond our longest transaction. A process that is stopped in the middle of one must not keep others waiting."""
_MOMENT: Final = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL idle_in_transaction_session_timeout = '10s'"
)


_PLANS_TRIED: Final = 3
"""How often a plan is looked for that a pooler may have left elsewhere; then it is done without."""


def _literal(value: int | str | None) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


@lru_cache(8)
def _texts(target: Target) -> Mapping[str, bytes]:
    texts, record = dict(STATEMENTS), STATEMENTS["hot.record"]
    texts["hot.record"] = record.replace("{progressed}", "")
    texts["hot.record_progress"] = record.replace("{progressed}", STATEMENTS["hot.progressed"])
    return {name: target.text(text).encode() for name, text in texts.items()}


class DatabaseClock:
    """The database's clock, on one connection: what it said first in a transaction holds for all of it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.now_us: int | None = None

    def wall_us(self) -> int:
        """Microseconds since the epoch."""
        if self.now_us is None:
            self.now_us = self._connection.value("hot.now")
        assert self.now_us is not None, "a clock answers"
        return self.now_us

    def boot_us(self) -> int:
        """The same: leases and rates of many hosts have no other clock in common."""
        return self.wall_us()

    def boot_id(self) -> str:
        """No host's: the clock goes on through every restart."""
        return "database"


def connect(target: Target) -> psycopg.Connection[Row]:
    """A session that prepares nothing, and in which every statement is a transaction unless one was begun."""
    return psycopg.connect(
        target.conninfo, autocommit=True, prepare_threshold=None, cursor_factory=RawCursor, **_LIBPQ
    )


class Connection:
    """One connection to the database, made when it is needed, and made again when it was lost."""

    lock_at = staticmethod(here.lock_at)

    def __init__(self, target: Target, clock: Clock | None) -> None:
        self.target = target
        self.where = target.where
        self._ticking = DatabaseClock(self)
        self.clock: Clock = clock or self._ticking
        self._raw: psycopg.Connection[Row] | None = None
        self._cursor: RawCursor[Row] | None = None
        self._composed: dict[tuple[str, ...], bytes] = {}
        self._texts = _texts(target)
        self._plans: set[str] = set()
        self.writer: str | None = None  # the id of our row
        self.written = 0  # what stands in it, as far as we know

    # --- statements -----------------------------------------------------------------------------------------

    def rows(self, name: str, values: Values = ()) -> list[Row]:
        """Every row of one statement."""
        return self._execute(name, values).fetchall()

    def row(self, name: str, values: Values = ()) -> Row | None:
        """The first row of one statement, or None."""
        return self._execute(name, values).fetchone()

    def value(self, name: str, values: Values = ()) -> Any:  # noqa: ANN401 - a cell is of any of the database's types
        """The first value of the first row, or None."""
        found = self._execute(name, values).fetchone()
        return None if found is None else found[0]

    def run(self, name: str, values: Values = ()) -> None:
        """Run one statement to its end."""
        self._execute(name, values)

    def many(self, name: str, rows: Iterable[Values]) -> None:
        """Run one statement for each of `rows`, all in one journey."""
        self._open().executemany(self._texts[name], cast("Iterable[Sequence[Any]]", rows))

    def returned(self, name: str, rows: Iterable[Values]) -> list[Row]:
        """Run one statement for each of `rows`, all in one journey; what all of them return."""
        cursor = self._open()
        cursor.executemany(self._texts[name], cast("Iterable[Sequence[Any]]", rows), returning=True)
        found: list[Row] = []
        while cursor.pgresult is not None:
            found += cursor.fetchall()
            if not cursor.nextset():
                break
        return found

    def matching(self, name: str, conditions: Sequence[str], values: Values) -> list[Row]:
        """Every row of a statement that says `{where}`, under all of the named conditions."""
        key = (name, *conditions)
        if key not in self._composed:
            where = " AND ".join(STATEMENTS[each] for each in conditions)
            text = STATEMENTS[name].replace("{where}", f"WHERE {where}" if where else "")
            number = iter(range(1, len(values) + 1))
            text = re.sub(r"\?", lambda _: f"${next(number)}", text)
            self._composed[key] = self.target.text(text).encode()
        return self._open().execute(self._composed[key], values).fetchall()

    def planned(self, name: str, values: Sequence[int | str | None]) -> list[Row]:
        """Every row of one statement that runs all the time, outside a transaction: planning it takes longer than to do
        it. One journey."""
        text = self._texts[name]
        plan = f"hf_{hashlib.sha256(text).hexdigest()[:16]}"
        execute = f"EXECUTE {plan} ({', '.join([_literal(value) for value in values])})".encode()
        cursor = self._open()
        for _ in range(_PLANS_TRIED):
            try:
                if plan in self._plans:
                    return cursor.execute(execute).fetchall()
                cursor.execute(b"PREPARE %b AS %b; %b" % (plan.encode(), text, execute))
                cursor.nextset()
                self._plans.add(plan)
                return cursor.fetchall()
            except errors.InvalidSqlStatementName:  # a pooler: this is another session, without the plan
                self._plans.discard(plan)
            except errors.DuplicatePreparedStatement:  # or one that has it
                self._plans.add(plan)
        return self.rows(name, values)

    def changed(self) -> int:
        """How many rows the newest `run` changed."""
        return self._open().rowcount

    def script(self, text: str) -> None:
        """Run texts without values, in one journey."""
        self._open().execute(text.encode())

    def ask(self, text: str, values: Values = ()) -> list[Row]:
        """Every row of a text that has no name."""
        return self._open().execute(text.encode(), values).fetchall()

    def _execute(self, name: str, values: Values) -> RawCursor[Row]:
        cursor = self._open()
        cursor.execute(self._texts[name], values)
        return cursor

    # --- transactions ---------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self, locks: Sequence[int]) -> Generator[None, None, None]:
        """All of it, or nothing, under these locks. Raises Fenced when the writer was given up."""
        try:
            self._begin(locks)  # may fail inside the transaction: a lock that does not come in time
            yield
        except BaseException:
            self.rollback()
            raise

    def _begin(self, locks: Sequence[int]) -> None:
        """Begin, take the locks, count in the writer's row, and read the clock: one journey."""
        self.register()
        wait = "".join(f"; SELECT pg_advisory_xact_lock({lock})" for lock in locks)
        count = self.target.text(
            f"UPDATE holdfast.writers SET n = n + 1, at_us = holdfast.now_us()"  # noqa: S608 - ours, and numbers
            f" WHERE id = '{self.writer}' AND n = {self.written} RETURNING at_us"
        )
        cursor = self._open()
        cursor.execute(f"BEGIN; {_LIMITS}{wait}; {count}".encode())
        while cursor.nextset():
            pass
        found = cursor.fetchone()
        if found is None:
            raise Fenced
        self._ticking.now_us = found[0]

    def commit(self) -> None:
        """Make it durable. When this raises, nobody knows: `came_through` finds out."""
        self._ticking.now_us = None
        self.script("COMMIT")
        self.written += 1

    def rollback(self) -> None:
        """Undo the transaction, if there is one and a connection."""
        self._ticking.now_us = None
        if self._raw is not None and not self._raw.closed:
            try:
                self.script("ROLLBACK")
            except psycopg.Error:
                self.close()

    @contextmanager
    def moment(self) -> Generator[None, None, None]:
        """Reads inside see one moment of the store."""
        self._ticking.now_us = None
        try:
            self.script(_MOMENT)
            yield
        finally:
            self.rollback()

    @contextmanager
    def savepoint(self) -> Generator[None, None, None]:
        """All of it, or nothing, inside a transaction. Raises Broken for what the schema refuses."""
        self.script("SAVEPOINT part")
        try:
            yield
        except BaseException as error:
            if self._raw is not None and not self._raw.closed:
                self.script("ROLLBACK TO part; RELEASE part")
            if isinstance(error, psycopg.IntegrityError):
                raise Broken(str(error)) from error
            raise
        self.script("RELEASE part")

    # --- the writer -----------------------------------------------------------------------------------------

    def register(self) -> None:
        """Have a row to count in."""
        if self.writer is None:
            writer = uuid.uuid4().hex
            self.run("hot.register", (writer, 0))
            self.writer, self.written = writer, 0

    def disown(self) -> None:
        """Have another row from now on: this one may be held by a session that nobody hears of any more."""
        self.writer = None

    def came_through(self) -> bool:
        """Whether the transaction was made durable whose answer was lost, asked on a connection of now. Waits for one
        that is under way; one that has not begun cannot any more."""
        found: int | None = self.value("hot.look_up", (self.writer,))
        before, self.written = self.written, found or 0
        if found is None:  # nobody asked for a week
            self.disown()
        return found == before + 2

    # --- opening and closing --------------------------------------------------------------------------------

    def _open(self) -> RawCursor[Row]:
        if self._cursor is None or self._raw is None or self._raw.closed:
            self.close()
            self._raw = connect(self.target)
            self._raw.adapters.register_dumper(int, Int8Dumper)  # one type for a number, whatever its size
            self._cursor = cast("RawCursor[Row]", self._raw.cursor())
            self._plans.clear()
        return self._cursor

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._raw is not None and not self._raw.closed

    def close(self) -> None:
        """Close it. Idempotent; the next use opens it again."""
        raw, self._raw, self._cursor = self._raw, None, None
        self._ticking.now_us = None
        if raw is not None:
            raw.close()
