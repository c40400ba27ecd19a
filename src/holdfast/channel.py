"""The port of an attempt: what its code says is gathered here into Changes, which a channel takes to the store."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec
from msgspec import structs

from holdfast.bodies import CHUNK_CHARS
from holdfast.clock import Clock
from holdfast.errors import LeaseLost, StoreError
from holdfast.model import (
    Beside,
    Change,
    Claim,
    Committed,
    CursorOver,
    Entry,
    EntryStatus,
    Identity,
    Journal,
    Level,
    NewCheckpoint,
    NewCursor,
    NewOutput,
    Note,
    Outcome,
    Progress,
    Reason,
    Run,
)
from holdfast.port import Questions
from holdfast.rules import progress as progress_rules

MAX_NOTES: Final = 1_000
"""Events that wait for the next commit of a run; of more, the oldest are dropped rather than memory filled."""
MAX_OUTPUT: Final = 64
"""Pieces of streamed text that wait for the next commit: of more, nobody could read the oldest anyway."""
STEP_TOLD_AFTER_US: Final = 50_000
"""A step that ends sooner leaves only its outcome: announcing it would double the writes of quick steps."""


class Channel(Questions, Protocol):
    """Where the Changes of one attempt go, and its questions: to the writer of this process, or through a socket."""

    def submit(
        self, change: Change, on_unstorable: Callable[[], None] | None = None
    ) -> asyncio.Future[Committed]:
        """Pass on a Change; the future ends when it is durable, or with LeaseLost when it was refused.

        `on_unstorable` is called before it ends with NotSerializable or Conflict: the attempt goes on without it.
        """
        ...

    def over(self) -> None:
        """Nothing follows: the attempt has ended."""
        ...


_SAID_FIRST: Final = (Reason.LOOP, Reason.STUCK, Reason.THROTTLED)
"""Of several reasons that one is told which decides what comes next."""
_OVER: Final = frozenset({EntryStatus.OK, EntryStatus.ABANDONED})


def _continues(last: NewOutput, output: NewOutput) -> bool:
    """Whether the two pieces make one that is still small enough for a row."""
    follows = last.identity == output.identity and output.start == last.start + len(last.text)
    return follows and len(last.text) + len(output.text) <= CHUNK_CHARS


class ChannelPort:
    """The port of one attempt: it makes the Changes, and the channel takes them."""

    def __init__(
        self,
        claim: Claim,
        channel: Channel,
        clock: Clock,
        *,
        alone: bool = False,
        workspace: Path | None = None,
    ) -> None:
        self.alone = alone
        self.workspace = workspace
        self.pressure = Level.OK
        self.slow_down_s = 0.0
        self.asked: Outcome | None = None
        self._claim = claim
        self._key, self._token = claim.run.key, claim.run.token
        self._channel = channel
        self._clock = clock
        self.position = claim.run.position
        self._notes: deque[Note] = deque(maxlen=MAX_NOTES)
        self._progress: Progress | None = None
        self._told: Progress | None = None
        self._told_at_us: int | None = None
        self._step: str | None = None
        self._step_since_us = 0
        self._step_told = True
        self._reasons: frozenset[Reason] = frozenset()
        self._telling: asyncio.Future[Committed] | None = None
        self._said = threading.Lock()
        self.now_us = clock.wall_us
        self._cursors: dict[Identity, NewCursor] = {}
        self._output: deque[NewOutput] = deque(maxlen=MAX_OUTPUT)
        self._marked = {one.identity for one in claim.journal.cursors}
        self.once, self.count_once = channel.once, channel.count_once
        self.take_turn, self.hold_back, self.held_back = (
            channel.take_turn,
            channel.hold_back,
            channel.held_back,
        )
        self.reserve = channel.reserve
        self.inbox = channel.inbox
        self.begin_content, self.add_chunk = channel.begin_content, channel.add_chunk
        self.seal_content = channel.seal_content
        self.check_child, self.child = channel.check_child, channel.child

    @property
    def run(self) -> Run:
        return self._claim.run

    @property
    def journal(self) -> Journal:
        return self._claim.journal

    def submit(
        self, entry: Entry | None, checkpoint: NewCheckpoint | None = None, beside: tuple[Beside, ...] = ()
    ) -> asyncio.Future[Committed]:
        if entry is None:
            return self._channel.submit(self._change((), checkpoint, None, beside))
        self._step, self._step_told = None, True  # its outcome follows: it is not announced as open any more
        if self._marked and entry.status in _OVER and entry.identity in self._marked:
            beside += (self._forget(entry.identity),)
        answer = self._channel.submit(self._change((entry,), checkpoint, None, beside), self._uncount)
        self.position += 1
        return answer

    def _uncount(self) -> None:
        """An entry that cannot be stored takes no position: the attempt can still say how it ends."""
        self.position -= 1

    async def settle(
        self, outcome: Outcome, checkpoint: NewCheckpoint | None, beside: tuple[Beside, ...] = ()
    ) -> bool:
        self.opened(None)
        try:
            await self._channel.submit(self._change((), checkpoint, outcome, beside))
        except (LeaseLost, StoreError):
            return False
        finally:
            self._channel.over()
        return True

    def note(self, note: Note) -> None:
        self._notes.append(note)

    def report(self, progress: Progress) -> None:
        self._progress = progress

    def mark(self, cursor: NewCursor) -> None:
        with self._said:
            self._cursors[cursor.identity] = cursor
            self._marked.add(cursor.identity)

    def emit(self, output: NewOutput) -> None:
        with self._said:
            last = self._output[-1] if self._output else None
            if last is not None and _continues(last, output):
                self._output[-1] = structs.replace(last, text=last.text + output.text)
            else:
                self._output.append(output)

    def flush(self) -> asyncio.Future[Committed]:
        return self._channel.submit(self._change((), None, None))

    def _forget(self, identity: Identity) -> CursorOver:
        with self._said:
            self._cursors.pop(identity, None)
            self._marked.discard(identity)
        return CursorOver(identity=identity)

    def _take_said(self) -> tuple[Beside, ...]:
        with self._said:
            said = (*self._cursors.values(), *self._output)
            self._cursors = {}
            self._output.clear()
        return said

    def opened(self, step: str | None, started_at_us: int = 0) -> None:
        self._step, self._step_since_us, self._step_told = step, started_at_us, step is None

    def throttled(self, slow: bool) -> None:
        self._because(Reason.THROTTLED, slow)

    def looping(self, looping: bool) -> None:
        self._because(Reason.LOOP, looping)

    def _because(self, reason: Reason, holds: bool) -> None:
        self._reasons = self._reasons | {reason} if holds else self._reasons - {reason}
        self._tell()

    def stuck(self, stuck: bool) -> None:
        if stuck:
            what = "its process is ended" if self.alone else "it keeps its slot"
            message = f"step {self._step!r} outlived its timeout in a thread, which cannot be killed; {what}"
            self.note(Note("warning", msgspec.json.encode({"code": "stuck", "message": message})))
        self._because(Reason.STUCK, stuck)

    def tick(self, now_us: int) -> None:
        """Write what waits: called by the worker about every 50 ms, so that no step pays for it."""
        if not self._step_told and now_us - self._step_since_us >= STEP_TOLD_AFTER_US:
            self._step_told = True
            started = {"name": self._step, "started_at_us": self._step_since_us}
            self.note(Note("step.started", msgspec.json.encode(started)))
        due = self._progress is not None and progress_rules.worth_recording(self._told_at_us, now_us)
        if (due or self._notes or self._cursors or self._output) and (
            self._telling is None or self._telling.done()
        ):
            self._tell()

    def _tell(self) -> None:
        self._telling = self._channel.submit(self._change((), None, None))

    def _change(
        self,
        entries: tuple[Entry, ...],
        checkpoint: NewCheckpoint | None,
        outcome: Outcome | None,
        beside: tuple[Beside, ...] = (),
    ) -> Change:
        notes: tuple[Note, ...] = ()
        progress = None
        if self._notes:
            notes = tuple(self._notes.popleft() for _ in range(min(len(self._notes), MAX_NOTES)))
        if self._progress is not None:
            progress = self._take_progress(outcome is not None)
        if not entries and (self._cursors or self._output):
            beside += self._take_said()
        return Change(
            run=self._key,
            token=self._token,
            position=self.position,
            entries=entries,
            notes=notes,
            checkpoint=checkpoint,
            progress=progress,
            outcome=outcome,
            step=self._step,
            reason=min(self._reasons, key=_SAID_FIRST.index, default=None),
            beside=beside,
        )

    def _take_progress(self, last: bool) -> Progress | None:
        now_us = self._clock.wall_us()
        if not last and not progress_rules.worth_recording(self._told_at_us, now_us):
            return None
        newest, self._progress = self._progress, None
        if newest is None:
            return None
        self._told = progress_rules.merge(self._told, newest, now_us)
        self._told_at_us = now_us
        return self._told
