"""What one attempt records, and what it is answered from the journal: identities, order, and the port.

`Execution` runs what is not recorded yet; `Context` is what agents see; `Attempt` reads from it how it all ended.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Coroutine
from contextvars import ContextVar
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from holdfast import codec
from holdfast.agents import Every
from holdfast.branches import Branches
from holdfast.doubts import Doubts
from holdfast.ending import EndOfAttempt
from holdfast.errors import (
    LeaseLost,
    StoreError,
    UsageError,
)
from holdfast.failures import encode_failure
from holdfast.model import (
    SETUP,
    Beside,
    Committed,
    Entry,
    EntryKind,
    EntryStatus,
    Failure,
    Mismatch,
    NewCheckpoint,
    Note,
    Release,
)
from holdfast.opened import OpenCall
from holdfast.port import Port
from holdfast.rules.journal import (
    MAX_ENTRIES,
    WARN_ENTRIES,
    Answer,
    Blocked,
    Cursor,
    Execute,
    Recorded,
    Unknown,
)
from holdfast.rules.loops import Turns
from holdfast.scopes import Scopes

R = TypeVar("R")

_PATIENCE_S: Final = 60.0
"""How much longer than the first time a replayed abandoned call waits for the code to cancel it again."""

ONCE_SCOPE: Final = "once"
"""Where the body of a ctx.once runs: outside all scopes, so no call has an identity there. No branch is called so:
a branch's path has a group in it."""

MAX_WORDS: Final = 1_000
"""Characters of a name or key: it is part of every identity, shown in every list, and kept in memory."""

current_scope: ContextVar[str] = ContextVar("holdfast_scope", default="")
"""The scope path of the code that runs now. A context variable: Python 3.11's wait_for runs its body in a task of
its own, which inherits it."""

_LONG: Final = {
    (True, False): ("the setup (everything above ctx.restore)", "move work below ctx.restore"),
    (True, True): (
        "the setup, in its branches,",
        "move the map or the branches below ctx.restore, or split them",
    ),
    (False, False): ("the tail since the last saved checkpoint", "call ctx.checkpoint more often"),
    (False, True): ("the tail, in its branches,", "split the map in several, with a ctx.checkpoint between"),
}
"""Whether it is of the setup, whether it is in branches: what is counted by itself, and what shortens it."""


class Recording:
    """What one attempt records, in order, and how it ends."""

    def __init__(self, port: Port, cursor: Cursor) -> None:
        self.end = EndOfAttempt()
        self.last_state: NewCheckpoint | None = None
        self.thread: Final = threading.get_ident()
        self.branches = Branches()
        self._port = port
        self._cursor = cursor
        self._open: dict[str, OpenCall] = {}
        self.scopes = Scopes(cursor, self.end, self.branches, self._open, port.run.created_at_us)
        self._times = self.scopes.times
        self.doubts = Doubts(port, cursor, self.end, self.branches)
        self._counts = _count(port.journal.entries)
        self._saved_segment = cursor.base
        self._saved_at_us = port.now_us()
        self._since_save = 0
        self.turns = Turns()

    # --- opening and closing calls --------------------------------------------------------------------------

    @property
    def silent(self) -> bool:
        """Whether progress and logs are those of a replay (or of an attempt that is over)."""
        return self._cursor.waiting > 0 or self.end.decided is not None

    def begin(self, kind: EntryKind, name: str, key: str | None, args_hash: bytes) -> OpenCall:
        """Take the identity of a call and open it. One call at a time in a scope: a second raises UsageError."""
        if self.end.decided is not None:
            self.end.check()
        scope = scope_of_call(self.thread)
        opened = self._open
        if scope in opened:
            self._close_previous(scope, opened[scope], name)
        if scope in self.branches.inside:
            self._outside_branches(scope, repr(name))
        check_words("name", name)
        if key is not None:
            check_words("key", key)
        identity = self._cursor.identify(scope, name, key)
        call = opened[scope] = OpenCall(kind, identity, args_hash, opened)
        return call

    def identify(self, kind: EntryKind, name: str, key: str | None, args_hash: bytes = b"") -> OpenCall:
        """Take the identity of a part of the call that is opened next."""
        self.end.check()
        check_words("name", name)
        if key is not None:
            check_words("key", key)
        return OpenCall(kind, self._cursor.identify(scope_of_call(self.thread), name, key), args_hash)

    def at_root(self, what: str) -> None:
        """Make sure that `what` is called at the root and with no call open."""
        self.end.check()
        scope = scope_of_call(self.thread)
        if scope:
            raise UsageError(f"ctx.{what} belongs to the root of the agent, not into the branch {scope!r}")
        if self._open:
            self._close_all(f"ctx.{what}")
        self._outside_branches(scope, f"ctx.{what}")

    def nothing_open(self, what: str) -> None:
        """Make sure that no call is open where `what` begins."""
        self.end.check()
        scope = scope_of_call(self.thread)
        previous = self._open.get(scope)
        if previous is not None:
            self._close_previous(scope, previous, what)

    def _outside_branches(self, scope: str, what: str) -> None:
        inside = self.branches.within(scope)
        if inside is not None:
            raise UsageError(
                f"{what} is called while the branch {inside!r} is open inside: leave its `async with` first"
            )

    def leave_branch(self, scope: str, group: str | None = None) -> None:
        """A branch (of this group) ended normally. A call that it cancelled before it began is recorded while it is
        open: a replay asks at its end whether everything in it is answered."""
        last = self._open.get(scope)
        if last is not None and last.never_begun:
            self._close_previous(scope, last, "")
        self.scopes.leave_branch(scope, group)

    def _close_all(self, following: str) -> None:
        for scope, call in list(self._open.items()):
            self._close_previous(scope, call, following)

    def _close_previous(self, scope: str, previous: OpenCall, following: str) -> None:
        if previous.never_begun:
            del self._open[scope]
            self._abandon_unbegun(previous)
            return
        hint = "did you forget `await`?" if previous.unawaited else "await one before the next is called"
        if previous.unawaited and previous.coroutine is not None:
            previous.coroutine.close()
        raise UsageError(
            f"{following!r} is called while {previous.name!r} is still open in the same scope: {hint}. Two calls at "
            "once would record in any order: instead of asyncio.gather use ctx.map, or a ctx.branch for each"
        )

    def _abandon_unbegun(self, call: OpenCall) -> None:
        """The code cancelled the call before it began. In another attempt it may begin, or has begun: so all that is
        recorded of it counts as met, and else it leaves what one leaves that is cancelled as soon as it began."""
        if call.group is not None:
            self.scopes.spend(call.group)
        if call.first is None or self._met(call.first):
            self._met(call)

    def _met(self, call: OpenCall) -> bool:
        """Whether it is recorded that the call, which the code cancelled before it began, went well. When nothing is
        recorded of it, it is abandoned."""
        answer = self._cursor.answer(call.call)
        if isinstance(answer, Mismatch):
            self.end.hold(answer)
        if isinstance(answer, Recorded):
            self._take(call, answer.entry)
            if answer.entry.status is EntryStatus.ABANDONED:
                self._cursor.use(answer.entry)
            else:
                self.deliver(call)
            return answer.entry.status is EntryStatus.OK
        if isinstance(answer, Unknown):
            self._cursor.take_up(call.identity)
        call.started_at_us = self._port.now_us()
        self.abandon(call)
        return False

    @staticmethod
    def _take(call: OpenCall, entry: Entry) -> None:
        call.replayed, call.entry = True, entry
        call.position, call.at_us = entry.position, entry.at_us

    # --- answers --------------------------------------------------------------------------------------------

    def executes(self, call: OpenCall) -> bool:
        """Whether the call executes, and now: nothing recorded is left, and nothing is asked of the attempt. If not,
        `answered` says what becomes of it. The commonest case of all, and this one costs no coroutine."""
        port = self._port
        if self.end.decided is not None or port.asked is not None or port.slow_down_s or self.doubts.held:
            return False
        tries = self._cursor.free(call.identity)
        if tries is None:
            return False
        call.started_at_us, call.tries = port.now_us(), tries
        return True

    async def answered(self, call: OpenCall) -> Entry | None:
        """The recorded entry that answers the call, or None when it shall execute. Never an abandoned one: that
        waits to be cancelled again."""
        self.end.check()
        answer = self._cursor.answer(call.call)
        if isinstance(answer, Blocked):
            answer = await self._unblocked(call, answer)
        if isinstance(answer, Recorded):
            self._take(call, answer.entry)
            if answer.entry.status is EntryStatus.ABANDONED:
                await self._cancelled_again(call, answer.entry)
            return answer.entry
        if isinstance(answer, Mismatch):
            self.end.hold(answer)
        if isinstance(answer, Unknown):
            call.doubt, call.intent = answer, answer.intent
            self._cursor.take_up(call.identity)
        call.started_at_us = self._port.now_us()
        if self.doubts.asked is not None or self._port.slow_down_s:
            try:
                await self.safe_point()
            except asyncio.CancelledError:
                self.end.check()
                self.abandon(call)
                raise
            call.started_at_us = self._port.now_us()
        call.tries = self._cursor.tries(call.identity)
        return None

    def deliver(self, call: OpenCall) -> None:
        """The outcome of the call reaches the code."""
        entry = call.entry
        assert entry is not None
        if call.kind is EntryKind.ONCE:  # outside scopes and their order
            return
        if call.replayed:
            self._cursor.use(entry)
        else:
            self._cursor.recorded(call.identity)
        scope = call.identity.scope
        if call.at_us > self._times.get(scope, 0):
            self._times[scope] = call.at_us
        if self.branches.watching:
            self.branches.tell()

    async def _cancelled_again(self, call: OpenCall, entry: Entry) -> NoReturn:
        took_s = max(0, entry.at_us - entry.started_at_us) / 1e6
        try:
            await asyncio.sleep(2 * took_s + _PATIENCE_S)
        except asyncio.CancelledError:
            self.end.check()
            self._cursor.use(entry)  # not delivered: no time passes, as when it was cancelled first
            raise
        message = (
            f"{call.identity} was cancelled by the code when it was recorded (entry {entry.position}), "
            "but now nothing cancels it"
        )
        self.end.hold(Mismatch(message=message, call=call.call, entry=entry.position))

    async def _unblocked(self, call: OpenCall, answer: Blocked) -> Recorded | Execute | Mismatch | Unknown:
        """A call executes only when every recorded sibling of its branch is open again: wait for them. When nothing
        moves any more, they never will be."""
        found: Answer = answer
        while isinstance(found, Blocked):
            try:
                moved = await self.branches.movement(_PATIENCE_S)
            except asyncio.CancelledError:
                self.end.check()
                self.abandon(call)
                raise
            self.end.check()
            if not moved:
                self.end.hold(_blocked(call, found))
            found = self._cursor.answer(call.call)
        return found

    async def safe_point(self) -> None:
        """Between two steps nothing is half done: a pause, a drain or a park ends the attempt here, once nothing is in
        flight in any branch; and a machine under pressure is given a rest."""
        while (asked := self.doubts.asked) is not None:  # a pause may be taken back meanwhile
            if not (self.branches.several and self.branches.in_flight):
                # A loop that stands in a branch stands after a deploy, too: the run waits for a person.
                looping = self.branches.looping if isinstance(asked, Release) else None
                raise self.end.unwinding(looping or asked)
            await self.branches.movement(_PATIENCE_S)
            self.end.check()
        if self._port.slow_down_s:
            self._port.throttled(True)
            try:
                await asyncio.sleep(self._port.slow_down_s)
            finally:
                self._port.throttled(False)
            self.end.check()

    # --- effects --------------------------------------------------------------------------------------------

    async def intend(self, call: OpenCall) -> None:
        """Make durable that the body is about to begin: from here on nobody begins it blindly again."""
        if self.end.decided is not None:
            self.end.check()
        payload = msgspec.json.encode({"idempotency_key": self.doubts.idempotency_key(call)})
        answer = self._submit(self._entry(call, EntryStatus.INTENDED, payload))
        call.intent = msgspec.structs.replace(
            call.intent or self._entry(call, EntryStatus.INTENDED, payload), position=self._port.position
        )
        try:
            await self.end.guarded(answer)
        except asyncio.CancelledError:
            self.end.check()
            self.abandon(call)
            raise

    # --- recording ------------------------------------------------------------------------------------------

    async def record(
        self,
        call: OpenCall,
        status: EntryStatus,
        payload: bytes,
        signal: int | None = None,
        beside: tuple[Beside, ...] = (),
        unseen: tuple[Beside, ...] = (),
    ) -> Entry:
        """Make the outcome durable, with what comes into being `beside` it. Cancelled meanwhile, it stays, and a mark
        says that nobody saw it, with `unseen` beside it. Raises Conflict when what is beside it cannot be."""
        answer = self.submit(call, status, payload, signal, beside)
        try:
            call.at_us = (await answer).at_us
        except asyncio.CancelledError:
            self.end.check()
            self.unseen(call, unseen)
            raise
        except (LeaseLost, StoreError) as error:
            raise self.end.lost(error) from error
        assert call.entry is not None
        return call.entry

    def submit(
        self,
        call: OpenCall,
        status: EntryStatus,
        payload: bytes,
        signal: int | None = None,
        beside: tuple[Beside, ...] = (),
    ) -> Awaitable[Committed]:
        """The first half of `record`: the answer is to be awaited at once, and its errors treated as there."""
        if self.end.decided is not None:
            self.end.check()
        call.entry = entry = Entry(
            call.identity, call.kind, status, payload, call.args_hash, call.started_at_us, signal
        )
        if call.settles is not None:
            beside = call.settled(status, beside)
        answer = self._submit(entry, beside)
        call.position = self._port.position
        return answer

    def unseen(self, call: OpenCall, beside: tuple[Beside, ...] = ()) -> None:
        """Mark that the outcome of the call, submitted or recorded, never reached the code."""
        if self.end.decided is None:
            if call.replayed and call.entry is not None:
                self._cursor.use(call.entry)
            else:
                self._cursor.recorded(call.identity)
            self._submit(self._entry(call, EntryStatus.UNSEEN, b"null"), beside)

    def abandon(self, call: OpenCall) -> None:
        """Record that the code cancelled the call. Not awaited: it travels ahead of everything later."""
        if self.end.decided is None and call.kind is not EntryKind.ONCE:
            beside: tuple[Beside, ...] = ()
            if call.withdraws is not None:
                thing, told = call.withdraws()
                beside = (thing,)
                if told is not None:
                    self._port.note(told)
            beside = call.settled(EntryStatus.ABANDONED, beside)
            self._submit(self._entry(call, EntryStatus.ABANDONED, b"null"), beside)
            self._cursor.recorded(call.identity)

    async def tried(self, call: OpenCall, failure: Failure) -> None:
        """Record a failed try: it answers nothing, but counts for as long as the call is not over."""
        try:
            entry = self._entry(call, EntryStatus.RETRIED, encode_failure(failure))
            await self.end.guarded(self._submit(entry, call.settled(EntryStatus.RETRIED)))
        except asyncio.CancelledError:
            self.end.check()
            self.abandon(call)
            raise

    def _entry(self, call: OpenCall, status: EntryStatus, payload: bytes) -> Entry:
        return Entry(call.identity, call.kind, status, payload, call.args_hash, call.started_at_us)

    def _submit(self, entry: Entry, beside: tuple[Beside, ...] = ()) -> Awaitable[Committed]:
        if entry.kind is not EntryKind.ONCE:
            part = entry.identity.segment == SETUP, entry.identity.scope != ""
            self._since_save += not part[0]
            count = self._counts[part] = self._counts[part] + 1
            if count == WARN_ENTRIES or count > MAX_ENTRIES:
                self._check_length(part, count)
        if self.scopes.given_up:
            beside = (*beside, *self.scopes.cancellations())
        return self._port.submit(entry, None, beside)

    def _check_length(self, part: tuple[bool, bool], count: int) -> None:
        where, fix = _LONG[part]
        if count == WARN_ENTRIES:
            text = f"{where} has {count} entries, and every resume reads them all: {fix}"
            self._port.note(
                Note("warning", codec.encode({"code": "long_journal", "message": text}, what="a warning"))
            )
        if count > MAX_ENTRIES:
            raise UsageError(f"{where} has over {MAX_ENTRIES} entries: {fix}")

    # --- segments and checkpoints ---------------------------------------------------------------------------

    def enter_segments(self) -> None:
        """`restore`: the setup is used up and ends here."""
        mismatch = self._cursor.restore()
        if mismatch is not None:
            self.end.hold(mismatch)
        checkpoint = self._port.journal.checkpoint
        if checkpoint is not None:
            self.turns.go_on(checkpoint.turns)
            self._times[""] = max(self._times.get("", 0), checkpoint.now_us)

    def checkpoint(
        self, state: bytes, force: bool, name: str | None, every: Every, keep: int
    ) -> Coroutine[Any, Any, None]:
        """A checkpoint call with its encoded state: count it now, save it when due."""
        mismatch = self._cursor.checkpoint()
        if mismatch is not None:
            self.end.hold(mismatch)
        segment = self._cursor.segment
        self.last_state = NewCheckpoint(
            segment=segment,
            name=name,
            state=state,
            keep=keep,
            now_us=self.scopes.now_us(current_scope.get()),
            turns=self.turns.tell(),
        )
        due = force or name is not None or self._port.asked is not None or self._due(every)
        return self._save(self.last_state, due)

    async def _save(self, checkpoint: NewCheckpoint, due: bool) -> None:
        self.end.check()
        if self._cursor.waiting or checkpoint.segment <= self._saved_segment:
            return
        if due:
            await self.end.guarded(self._port.submit(None, checkpoint))
            self._saved_segment = checkpoint.segment
            self._saved_at_us = self._port.now_us()
            self._since_save = self._counts[False, False] = self._counts[False, True] = 0
        if self._port.asked is not None or self._port.slow_down_s:
            await self.safe_point()

    def _due(self, every: Every) -> bool:
        if every.steps is not None and self._since_save >= every.steps:
            return True
        waited_us = self._port.now_us() - self._saved_at_us
        return every.duration_us is not None and waited_us >= every.duration_us

    @property
    def unsaved(self) -> NewCheckpoint | None:
        """The state of the last checkpoint call when it was not saved: an attempt that fails saves it, so that a
        fix meets only the current segment."""
        last = self.last_state
        return last if last is not None and last.segment > self._saved_segment else None

    # --- the end of the agent -------------------------------------------------------------------------------

    def finish(self) -> None:
        """The agent returned: nothing may be open or left."""
        self._close_all("return")
        mismatch = self._cursor.finish()
        if mismatch is not None:
            self.end.hold(mismatch)


def scope_of_call(agents_thread: int) -> str:
    """The scope of a ctx call that is made here and now."""
    if threading.get_ident() != agents_thread:
        raise UsageError(
            "ctx was called in another thread than its agent's: only ctx.progress may be; "
            "return from the thread what the agent then does with ctx"
        )
    scope = current_scope.get()
    if scope == ONCE_SCOPE:
        raise UsageError(
            "ctx was called in the body of a ctx.once, which is executed once and never replayed: "
            "make the call before it, or after it with what it returned"
        )
    return scope


def check_words(what: str, words: object) -> None:
    """Make sure that a name or key comes back from the store as it was given, or no replay would find it."""
    if type(words) is str and len(words) <= MAX_WORDS and words.isascii():
        return
    if not isinstance(words, str):
        raise UsageError(
            f"the {what} {words!r} of a ctx call is {type(words).__name__}: make it text, str(…)"
        )
    if len(words) > MAX_WORDS:
        raise UsageError(
            f"the {what} {words[:40]!r}… is {len(words)} characters long, over {MAX_WORDS}: use a hash of it"
        )
    if not words.isascii() and words.encode("utf-8", "replace").decode() != words:
        raise UsageError(
            f"the {what} {words[:80]!r} holds half a character (a lone surrogate), which cannot be recorded: "
            "clean it first, text.encode('utf-8', 'backslashreplace').decode()"
        )


def _count(entries: tuple[Entry, ...]) -> Counter[tuple[bool, bool]]:
    return Counter((entry.identity.segment == SETUP, entry.identity.scope != "") for entry in entries)


def _blocked(call: OpenCall, answer: Blocked) -> Mismatch:
    unopened = ", ".join(answer.siblings)
    message = f"the code calls {call.identity}, but recorded branches are not opened again: {unopened}"
    return Mismatch(message=message, call=call.call, entry=answer.entry)
