"""Watches the tools of a run for loops: tells the agent, and parks the run for a person when it goes on.

Laws:
1. What is known comes from outcomes alone, live or replayed, and goes with the checkpoint: `ctx.nudge` says the same on
   every replay.
2. Only an outcome that is new parks: a run that a person let go on does not stop at the same place again.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from holdfast.calls import Body
from holdfast.codec import encode, fingerprint
from holdfast.failures import decode_failure
from holdfast.model import Entry, EntryStatus, Note, Park, Reason
from holdfast.opened import OpenCall
from holdfast.port import Port
from holdfast.recording import Recording
from holdfast.rules.loops import Act, Loop, advice
from holdfast.standing import stand

SHOWN: Final = 300
"""Characters of the arguments that an event shows: enough to know the call again."""


class Loops:
    """What the tools and the model of one attempt did so far."""

    __slots__ = ("_port", "_recording", "_standing", "_turns")

    def __init__(self, port: Port, recording: Recording) -> None:
        self._port = port
        self._recording = recording
        self._turns = recording.turns
        self._standing = 0  # branches that wait for a person

    @property
    def nudge(self) -> str | None:
        """What the agent is told now."""
        loop = self._turns.loop
        return None if loop is None else advice(loop)

    def observe(self, call: OpenCall, body: Body, entry: Entry) -> Loop | None:
        """An outcome is delivered, of a tool or of a model. The loop that it goes on with."""
        if body.tool and not body.watched:
            self._turns.poll()
            return None
        if entry.status is EntryStatus.FAILED:
            failure = decode_failure(entry.payload)
            seen = msgspec.json.encode((failure.type, failure.message))
        else:
            seen = entry.payload
        result = hashlib.blake2b(seen, digest_size=8).digest()
        model = not body.watched
        failed = entry.status is EntryStatus.FAILED
        arguments = b"" if model else call.args_hash or fingerprint(call.args, None)
        act = Act(call.name, arguments, result, failed, model)
        return self._turns.observe(act, _group(call))

    async def meet(self, call: OpenCall, body: Body, entry: Entry) -> None:
        """The same for an outcome that is new: it is told, or the run is parked."""
        loop = self.observe(call, body, entry)
        if loop is None:
            return
        shown = {
            "rule": loop.rule,
            "turns": loop.turns,
            "tools": list(dict.fromkeys(act.name for act in loop.acts)),
            "arguments": repr(call.args)[:SHOWN],
            "message": advice(loop),
        }
        if not loop.parks:
            if loop.begins:
                self._port.note(Note("loop.nudged", encode(shown, what="an event")))
            return
        self._port.note(Note("loop.parked", encode(shown, what="an event")))
        await self._stand(call.identity.scope)

    async def _stand(self, scope: str) -> None:
        """Until no other code of the run can move. An attempt that ends before that parks the run all the same, unless
        the code around leaves the branch."""
        park = Park(reason=Reason.LOOP)
        self._standing += 1
        if self._recording.branches.several:
            self._port.looping(True)
        try:
            while True:
                await stand(self._port, self._recording, scope, park, None)
                self._recording.end.check()
        finally:
            self._standing -= 1
            if not self._standing and self._recording.end.decided is None:
                self._port.looping(False)


def watches(body: Body) -> bool:
    """Whether loops know of this step: it is a tool, or asks a model."""
    return body.tool or body.cost is not None


def _group(call: OpenCall) -> str | None:
    """What is called side by side: the calls of one place in the branches of one group."""
    identity = call.identity
    if not identity.scope:
        return None
    which = identity.occurrence if identity.key is None else identity.key
    return f"{identity.scope.rpartition('/')[0]}#{which}"
