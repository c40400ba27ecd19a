"""What one attempt knows beside its journal: effects in doubt, the places of long steps, the keys of calls."""

from __future__ import annotations

import hashlib
from typing import Final, NoReturn

import msgspec

from holdfast.branches import Branches
from holdfast.ending import EndOfAttempt
from holdfast.model import Entry, Failure, Hold, Identity, Outcome, Reason
from holdfast.opened import OpenCall
from holdfast.port import Port
from holdfast.rules import effects
from holdfast.rules.journal import Cursor

_PATIENCE_S: Final = 60.0
"""How long to wait for a movement before looking again."""


class Doubts:
    """Asks a person about effects, once nothing is in flight; names calls, and finds their places."""

    __slots__ = ("_branches", "_cursor", "_end", "_places", "_port", "held")

    def __init__(self, port: Port, cursor: Cursor, end: EndOfAttempt, branches: Branches) -> None:
        self._port = port
        self._cursor = cursor
        self._end = end
        self._branches = branches
        self.held: dict[Identity, Hold] = {}
        self._places = effects.usable(port.journal.cursors, port.journal.resolutions)

    @property
    def asked(self) -> Outcome | None:
        """How the attempt shall end at its next safe point: a branch has to ask a person, or the worker wishes it."""
        if self.held:
            return next(iter(self.held.values()))
        return self._port.asked

    @property
    def unaccounted(self) -> Entry | None:
        """The intent of an effect in a superseded tail of which nobody has said what became of it."""
        return self._cursor.unaccounted()

    async def hold(self, identity: Identity, failure: Failure) -> NoReturn:
        """Nobody knows what became of the effect: the run is held for a person, once nothing is in flight in any branch
        (or the code cancels the call)."""
        branches = self._branches
        held = self.held[identity] = Hold(reason=Reason.EFFECT_UNKNOWN, failure=failure)
        branches.in_flight -= 1
        branches.tell()
        try:
            while branches.several and branches.in_flight:
                await branches.movement(_PATIENCE_S)
                self._end.check()
            raise self._end.unwinding(held)
        finally:
            branches.in_flight += 1
            del self.held[identity]

    def idempotency_key(self, call: OpenCall) -> str:
        """Text that names this call among all calls of all runs, the same for every try."""
        if call.intent is not None:  # recorded: it stays, whatever the call is named by now
            return str(msgspec.json.decode(call.intent.payload)["idempotency_key"])
        run, identity = self._port.run, call.identity
        named = [run.key, run.id, run.created_at_us, *identity, self._cursor.nonce(identity)]
        return f"hf-{hashlib.sha256(msgspec.json.encode(named)).hexdigest()[:40]}"

    def place_of(self, identity: Identity, args_hash: bytes) -> bytes | None:
        """Where an earlier try of the call was, unless it had other arguments."""
        found = self._places.get(identity) if self._places else None
        if found is None or (found.args_hash and args_hash and found.args_hash != args_hash):
            return None
        return found.cursor
