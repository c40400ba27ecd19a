"""What lives only as long as a step: the places of long ones, and the text they stream."""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.model import CursorOver, Identity, NewCursor, NewOutput, Output, StepCursor
from holdfast.store.transactions import reading
from holdfast.store.transactions.connection import Connection

MAX_CURSORS: Final = 1_000
"""Places kept of one run: as many as a map may reasonably have open at a time."""
MAX_OUTPUTS: Final = 256
"""Pieces of streamed text kept of one run: at 20 a second, what a watcher that looks now and then has missed."""

_identity = msgspec.json.Decoder(tuple[int, str, str, str | None, int]).decode
_encode = msgspec.json.Encoder().encode


def put_cursor(connection: Connection, run: int, position: int, new: NewCursor, now_us: int) -> None:
    """Record where a call is, in place of where it was. When that is another place, the run gets on."""
    identity = _text(new.identity)
    if connection.value("steps.cursor", (run, identity)) != new.cursor:
        connection.run("steps.gets_on", (run,))
    connection.run("steps.put_cursor", (run, identity, new.args_hash, new.cursor, position, now_us))
    connection.run("steps.prune_cursors", (run, MAX_CURSORS))


def forget_cursor(connection: Connection, run: int, position: int, over: CursorOver, now_us: int) -> None:
    """The call is over."""
    connection.run("steps.forget_cursor", (run, _text(over.identity)))


def put_output(connection: Connection, run: int, position: int, new: NewOutput, now_us: int) -> None:
    """Keep a piece of text, and let go of the oldest."""
    connection.run("steps.put_output", (run, now_us, _text(new.identity), new.start, new.text))
    connection.run("steps.prune_outputs", (run, MAX_OUTPUTS))


def cursors(connection: Connection, run: int) -> tuple[StepCursor, ...]:
    """The places of the calls of the run that are not over."""
    return tuple(
        StepCursor(
            identity=Identity(*_identity(identity)),
            args_hash=args_hash,
            cursor=cursor,
            position=position,
            at_us=at_us,
        )
        for identity, args_hash, cursor, position, at_us in connection.rows("steps.cursors", (run,))
    )


def cursors_of(connection: Connection, run_id: str) -> list[StepCursor]:
    """The same by the run's id. Raises RunNotFound."""
    return list(cursors(connection, reading.run_key(connection, run_id)))


def output_of(connection: Connection, run_id: str, after: int) -> list[Output]:
    """The text that is kept and follows piece `after`. Raises RunNotFound."""
    found: list[Output] = []
    run = reading.run_key(connection, run_id)
    for n, at_us, text, start, piece in connection.rows("steps.outputs", (run, after)):
        identity = Identity(*_identity(text))
        found.append(
            Output(
                n=n,
                at_us=at_us,
                step=identity.name,
                key=identity.key,
                scope=identity.scope,
                start=start,
                text=piece,
            )
        )
    return found


def _text(identity: Identity) -> str:
    return _encode(tuple(identity)).decode()
