"""Connections to the database, each with the transactions of one thread at a time.

Laws of this file:
1. Nothing of ours stays in a session: no SET, no session lock, no temporary table, no prepared statement with a name.
   A pooler may give every transaction another server connection. What runs all the time is a function of the schema,
   whose plans the server keeps by itself.
2. Every transaction that writes counts in the row of its writer, which is ours alone. What became of one whose answer
   was lost is found there, and to look also counts: whatever arrives late changes nothing.
3. What reads before it writes takes its locks first (`transaction`), the clock is read under them.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, cast

import psycopg
from psycopg import RawCursor, errors, pq
from psycopg.types.numeric import Int8Dumper

from holdfast.clock import Clock
from holdfast.store.postgres import here, literals, together
from holdfast.store.postgres.errors import Fenced
from holdfast.store.postgres.target import Target
from holdfast.store.sql import statements
from holdfast.store.transactions.connection import Broken, Read, Row, Values

STATEMENTS: Final = statements("holdfast.store.postgres")
_WRITES: Final = frozenset(
    name for name, text in STATEMENTS.items() if re.search(r"\b(INSERT|UPDATE|DELETE)\b", text)
)
AT_ONCE: Final[Mapping[str, str]] = {
    "commit.advance": "hot.advance_all",
    "commit.advance_notes": "hot.advance_all_notes",
    "commit.insert_event": "hot.insert_events",
    "commit.insert_note": "hot.insert_notes",
    "decisions.hand_run": "hot.hand_run",
    "decisions.settle_payloads": "hot.settle_all_payloads",
}
"""Statements that have a text for many rows at once, which takes a list for each value of theirs: to plan one, and to
open its tables, costs more than a row does."""
READ_AT_ONCE: Final[Mapping[str, str]] = {"decisions.row_with_ties": "hot.rows_with_ties"}
"""Reads of a number that have a text for many, whose rows begin with it."""
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
_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE"
"""Whatever a role or database has as its own: what is read under a lock must be as of when the lock was had."""
_LIMITS: Final = "SET LOCAL lock_timeout = '10s'; SET LOCAL idle_in_transaction_session_timeout = '10s'"
"""Far beyond our longest transaction. A process that is stopped in the middle of one must not keep others waiting."""
_MOMENT: Final = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL idle_in_transaction_session_timeout = '10s';"
    " SELECT holdfast.now_us()"
)


@lru_cache(8)
def _texts(target: Target) -> Mapping[str, bytes]:
    return {name: target.text(text).encode() for name, text in STATEMENTS.items()}


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


def _columns(rows: Sequence[Values]) -> list[str]:
    """Rows of one statement as a list for each of its values."""
    return [literals.of_any(column) for column in zip(*rows, strict=True)]


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
        self._inside = False  # a transaction of ours that writes
        self._ahead: dict[tuple[Any, ...], list[Row]] = {}  # what was read before it was asked for
        self._behind: list[tuple[bytes, Values]] = []  # what is done before anything else is read
        self._changed = 0
        self._journeys = 0  # of what was behind
        self.writer: str | None = None  # the id of our row
        self.written = 0  # what stands in it, as far as we know

    # --- statements -----------------------------------------------------------------------------------------

    def rows(self, name: str, values: Values = ()) -> list[Row]:
        """Every row of one statement."""
        return self._read(name, values)

    def row(self, name: str, values: Values = ()) -> Row | None:
        """The first row of one statement, or None."""
        found = self._read(name, values)
        return found[0] if found else None

    def value(self, name: str, values: Values = ()) -> Any:  # noqa: ANN401 - a cell is of any of the database's types
        """The first value of the first row, or None."""
        found = self._read(name, values)
        return found[0][0] if found else None

    def run(self, name: str, values: Values = ()) -> None:
        """Run one statement to its end; inside a transaction by the next journey, which nobody can tell."""
        if not self._inside:
            self._changed = self._execute(name, values).rowcount
            return
        self._ahead.clear()
        self._behind.append((self._texts[name], values))

    def many(self, name: str, rows: Iterable[Values]) -> None:
        """Run one statement for each of `rows`, all in one journey."""
        every = list(rows)
        if name in AT_ONCE and len(every) > 1:
            self.run(AT_ONCE[name], _columns(every))
        else:
            self.returned(name, every)

    def returned(self, name: str, rows: Iterable[Values]) -> list[Row]:
        """Run one statement for each of `rows`, all in one journey; what all of them return."""
        self._ahead.clear()
        every = list(rows)
        asked = [(AT_ONCE[name], _columns(every))] if name in AT_ONCE and len(every) > 1 else None
        return [row for found in self._together(asked or [(name, each) for each in every]) for row in found]

    def ahead(self, *reads: Read) -> None:
        """Read in one journey what is going to be asked for; it is kept until something is written."""
        wanted = [(name, values) for name, values in reads if (name, *values) not in self._ahead]
        alone = [read for read in wanted if read[0] not in READ_AT_ONCE]
        numbers = {name: [values[0] for each, values in wanted if each == name] for name in READ_AT_ONCE}
        many = [(READ_AT_ONCE[name], [literals.of_any(each)]) for name, each in numbers.items() if each]
        answers = iter(self._together([*alone, *many]))
        for (name, values), found in zip(alone, answers, strict=False):
            self._ahead[name, *values] = found
        for name, each in numbers.items():
            self._ahead |= {(name, number): [] for number in each}
            for row in next(answers) if each else ():
                self._ahead[name, row[0]] = [row]

    def _together(self, statements: Sequence[Read]) -> list[list[Row]]:
        """What each returns, in one journey with what is still to be done."""
        self._open()
        assert self._raw is not None, "it is open"
        texts = [(self._texts[name], values) for name, values in statements]
        bound = together.bound(self._raw, [*self._behind, *texts])
        # It may have refused a value: what follows knows that all of it is sent.
        behind = len(self._behind)
        self._behind.clear()
        self._journeys += behind > 0
        done = together.each(self._raw, bound)
        if behind:
            self._changed = done[behind - 1].changed
        return [rows for rows, _ in done[behind:]]

    def _catch_up(self) -> None:
        """Do what is still to be done."""
        if self._behind:
            self._together([])

    def matching(self, name: str, conditions: Sequence[str], values: Values) -> list[Row]:
        """Every row of a statement that says `{where}`, under all of the named conditions."""
        key = (name, *conditions)
        if key not in self._composed:
            where = " AND ".join(STATEMENTS[each] for each in conditions)
            text = STATEMENTS[name].replace("{where}", f"WHERE {where}" if where else "")
            number = iter(range(1, len(values) + 1))
            text = re.sub(r"\?", lambda _: f"${next(number)}", text)
            self._composed[key] = self.target.text(text).encode()
        self._catch_up()
        return self._open().execute(self._composed[key], values).fetchall()

    def changed(self) -> int:
        """How many rows the newest `run` changed."""
        self._catch_up()
        return self._changed

    def script(self, text: str) -> None:
        """Run texts without values, in one journey."""
        self._catch_up()
        self._open().execute(text.encode())

    def ask(self, text: str, values: Values = ()) -> list[Row]:
        """Every row of a text that has no name."""
        self._catch_up()
        return self._open().execute(text.encode(), values).fetchall()

    def _read(self, name: str, values: Values) -> list[Row]:
        if self._ahead and (found := self._ahead.get((name, *values))) is not None:
            return found
        if self._behind:
            if name in _WRITES:
                self._ahead.clear()
            (rows,) = self._together([(name, values)])
            return rows
        return self._execute(name, values).fetchall()

    def _execute(self, name: str, values: Values) -> RawCursor[Row]:
        cursor = self._open()
        if self._ahead and name in _WRITES:
            self._ahead.clear()
        cursor.execute(self._texts[name], values)
        return cursor

    # --- transactions ---------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self, locks: Sequence[int]) -> Generator[None, None, None]:
        """All of it, or nothing, under these locks. Raises Fenced when the writer was given up."""
        try:
            self._begin(locks)  # may fail inside the transaction: a lock that does not come in time
            self._inside = True
            yield
            self._catch_up()
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
        now_us = self._begun(f"{_BEGIN}; {_LIMITS}{wait}; {count}")
        if now_us is None:
            raise Fenced
        self._ticking.now_us = now_us

    def _begun(self, text: str) -> int | None:
        """Run texts that begin a transaction; what the last of them says."""
        cursor = self._open()
        cursor.execute(text.encode())
        while cursor.nextset():
            pass
        found = cursor.fetchone()
        return None if found is None else found[0]

    def commit(self) -> None:
        """Make it durable. When this raises, nobody knows: `came_through` finds out."""
        self._forget()
        if not self.is_open:
            raise psycopg.OperationalError("the connection was lost before the transaction was committed")
        cursor = self._open()
        cursor.execute(b"COMMIT")
        if cursor.statusmessage != "COMMIT":
            raise errors.InFailedSqlTransaction("the transaction had failed, and was undone")
        self.written += 1

    def rollback(self) -> None:
        """Undo the transaction, if there is one and a connection."""
        self._forget()
        if self._raw is not None and not self._raw.closed:
            try:
                self.script("ROLLBACK")
            except psycopg.Error:
                self.close()

    def _forget(self) -> None:
        """What was read in a transaction says nothing in the next."""
        self._ticking.now_us = None
        self._inside = False
        self._ahead.clear()
        self._behind.clear()

    @contextmanager
    def moment(self) -> Generator[None, None, None]:
        """Reads inside see one moment of the store."""
        try:
            self._ticking.now_us = self._begun(self.target.text(_MOMENT))
            yield
        finally:
            self.rollback()

    @contextmanager
    def savepoint(self) -> Generator[None, None, None]:
        """All of it, or nothing, inside a transaction. Raises Broken for what the schema refuses."""
        self._catch_up()
        self._ahead.clear()
        self._behind.append((b"SAVEPOINT part", ()))
        journeys = self._journeys
        try:
            yield
            self._catch_up()
        except BaseException as error:
            self._behind.clear()
            self._ahead.clear()
            if journeys != self._journeys and self._raw is not None and not self._raw.closed:
                self.script("ROLLBACK TO part; RELEASE part")
            if isinstance(error, psycopg.IntegrityError):
                raise Broken(str(error)) from error
            raise
        self._behind.append((b"RELEASE part", ()))

    # --- the writer -----------------------------------------------------------------------------------------

    def register(self) -> pq.abc.PGconn:
        """Have a row to count in, and be open; what speaks with the server, for who does that without waiting."""
        if self.writer is None:
            writer = uuid.uuid4().hex
            self.run("hot.register", (writer, 0))
            self.writer, self.written = writer, 0
        self._open()
        assert self._raw is not None, "it is open"
        return self._raw.pgconn

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
        return (
            found is not None and (found - before) % 2 == 1
        )  # each look counts two, also one that was lost itself

    # --- opening and closing --------------------------------------------------------------------------------

    def _open(self) -> RawCursor[Row]:
        if self._cursor is None or self._raw is None or self._raw.closed:
            if self._inside:  # what was done in it is undone: nothing may go on as if it were not
                raise psycopg.OperationalError("the connection was lost inside a transaction")
            self.close()
            self._raw = connect(self.target)
            self._raw.adapters.register_dumper(int, Int8Dumper)  # one type for a number, whatever its size
            self._cursor = cast("RawCursor[Row]", self._raw.cursor())
        return self._cursor

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._raw is not None and not self._raw.closed

    def close(self) -> None:
        """Close it. Idempotent; the next use opens it again."""
        raw, self._raw, self._cursor = self._raw, None, None
        self._forget()
        if raw is not None:
            raw.close()
