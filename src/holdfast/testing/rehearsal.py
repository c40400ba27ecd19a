"""`replay`: would this code fit a stored run? It drives the code with what is recorded, and executes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from holdfast import codec
from holdfast.agents import AnyAgent
from holdfast.attempt import Attempt
from holdfast.ending import Ending
from holdfast.model import (
    Amounts,
    Beside,
    Claim,
    Committed,
    Content,
    Entry,
    EntryKind,
    EntryStatus,
    Failed,
    Hold,
    Identity,
    Journal,
    Level,
    NewCheckpoint,
    NewChild,
    NewCursor,
    NewOutput,
    Note,
    Outcome,
    Progress,
    Reserved,
    Retry,
    Run,
    RunState,
    Signal,
    Standing,
    Succeeded,
    Turn,
)
from holdfast.opened import OpenCall
from holdfast.recording import Recording
from holdfast.rules.journal import Cursor
from holdfast.rules.rate import RateLimit
from holdfast.settings import find_store
from holdfast.store import open_store
from holdfast.store.protocol import Store
from holdfast.testing.apart import apart
from holdfast.testing.loop import VirtualLoop
from holdfast.workspace import place_of

STILL_AFTER_S: Final = 30 * 86_400.0
"""Virtual: longer than a recorded call that the code cancelled is waited for, and than any honest pause in code."""
_LATER_US: Final = 253_370_764_800_000_000  # the year 9999: every recorded sleep is over
Once: TypeAlias = dict[str | None, Entry]
_OUTCOMES: Final = (EntryStatus.OK, EntryStatus.FAILED, EntryStatus.ABANDONED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How code and a stored run fit: `answered` of the `recorded` outcomes were asked for, in order, the last of them
    entry `entry`. `code` and `stored` are the two sides of a mismatch."""

    run: str
    agent: str
    version: str
    fits: bool
    finished: bool
    entry: int
    answered: int
    recorded: int
    message: str
    code: str | None = None
    stored: str | None = None

    def __bool__(self) -> bool:
        """Whether they fit."""
        return self.fits


def replay(run_id: str, agent: AnyAgent, *, store: str | Path | None = None, whole: bool = False) -> Replay:
    """Try the code of `agent` on a stored run: from its newest checkpoint, or with `whole` from its very beginning.

    Every call that is recorded gets its recorded outcome, and the code stops where it would execute or wait: no body
    of a step runs, nothing is recorded, and the run may be executed elsewhere meanwhile. The answer is true when they
    fit. Code between the calls of `ctx` does run, as it does on every resume. `store` is a URL or a path, else found
    as the shell finds it. Raises RunNotFound.
    """
    url = str(store) if store is not None else find_store(make=False).url

    async def load() -> _Stored:
        async with open_store(url) as opened:
            return await _load(opened, run_id, whole)

    def look() -> Replay:
        return _Rehearsal(asyncio.run(load()), agent).told()

    return apart(look)


async def rehearse(store: Store, run_id: str, agent: AnyAgent, *, whole: bool = False) -> Replay:
    """The same on an open store. The event loop that runs stands still while the code is tried."""
    stored = await _load(store, run_id, whole)
    return apart(lambda: _Rehearsal(stored, agent).told())


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the code is tried on."""

    claim: Claim
    once: Once
    workspace: Path | None


async def _load(store: Store, run_id: str, whole: bool) -> _Stored:
    journal = await store.load_journal(run_id, whole=whole)
    once = {
        entry.identity.key: entry
        for entry in await store.read_entries(run_id, payloads=True)
        if entry.kind is EntryKind.ONCE and not entry.superseded and entry.status in _OUTCOMES
    }
    run = await store.get_run(run_id)
    claim = Claim(run=run, input=await store.get_input(run_id), journal=journal)
    return _Stored(claim, once, place_of(store.workspace_folder, run))


class _Port:
    """Answers from what is recorded; what is not, is never answered."""

    asked: Outcome | None = None
    slow_down_s = 0.0

    def __init__(self, stored: _Stored) -> None:
        self.workspace = stored.workspace
        self._claim = stored.claim
        self._once = stored.once
        self.stopped_at: list[str] = []

    @property
    def run(self) -> Run:
        return self._claim.run

    @property
    def journal(self) -> Journal:
        return self._claim.journal

    @property
    def position(self) -> int:
        return self._claim.run.position

    def now_us(self) -> int:
        return _LATER_US

    def submit(
        self, entry: Entry | None, checkpoint: NewCheckpoint | None = None, beside: tuple[Beside, ...] = ()
    ) -> Awaitable[Committed]:
        answer: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        if entry is None:  # a checkpoint stands in nobody's way, and is not saved
            answer.set_result(Committed(position=self.position, event_no=0, at_us=0))
        else:
            self.stopped_at.append(f"would record {entry.identity} as {entry.status}")
        return answer

    def note(self, note: Note) -> None: ...

    def report(self, progress: Progress) -> None: ...

    def mark(self, cursor: NewCursor) -> None: ...

    def emit(self, output: NewOutput) -> None: ...

    async def flush(self) -> Committed:
        return await self.stop("would write what waits")

    def opened(self, step: str | None, started_at_us: int = 0) -> None: ...

    def throttled(self, slow: bool) -> None: ...

    @property
    def pressure(self) -> Level:
        return Level.OK

    @property
    def alone(self) -> bool:
        return False

    def looping(self, looping: bool) -> None: ...

    def stuck(self, stuck: bool) -> None: ...

    async def once(self, key: str) -> Entry | None:
        return self._once.get(key) or await self.stop(f"would execute ctx.once {key!r}")

    async def count_once(self) -> int:
        return len(self._once)

    async def inbox(self) -> tuple[int, list[Signal]]:
        return await self.stop("would wait for a signal")

    async def take_turn(self, limit: RateLimit, call: str) -> Turn:
        return await self.stop(f"would wait for its turn under rate {limit.name!r}")

    async def reserve(self, call: str, asked: Amounts) -> Reserved:
        return await self.stop("would reserve what it may use up")

    async def hold_back(self, limit: RateLimit, for_us: int) -> None:
        await self.stop(f"would hold back rate {limit.name!r}")

    async def held_back(self, limit: RateLimit) -> bool:
        return await self.stop(f"would look at rate {limit.name!r}")

    async def begin_content(self) -> int:
        return await self.stop("would keep an artifact")

    async def add_chunk(self, upload: int, n: int, chunk: bytes) -> None:
        await self.stop("would keep an artifact")

    async def seal_content(self, upload: int, content_id: str, size_bytes: int) -> Content:
        return await self.stop("would keep an artifact")

    async def check_child(self, new: NewChild) -> None: ...

    async def child(self, child_id: str) -> Standing | None:
        return await self.stop(f"would wait for the child {child_id}")

    async def settle(
        self, outcome: Outcome, checkpoint: NewCheckpoint | None, beside: tuple[Beside, ...] = ()
    ) -> bool:
        return True

    async def stop(self, what: str) -> NoReturn:
        """The code would do this here: it never learns what comes of it."""
        self.stopped_at.append(what)
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody answers")


class _Answers(Recording):
    """Answers recorded calls; the code waits for ever where it would execute one."""

    def __init__(self, port: _Port, cursor: Cursor) -> None:
        super().__init__(port, cursor)
        self.last = 0
        self._stops = port.stop

    @property
    def left(self) -> int:
        """How many recorded outcomes the code has not come by. What lies in a branch that it gave up, or in a race
        that is decided, is behind it."""
        return sum(status in _OUTCOMES for status in self._cursor.left(""))

    def executes(self, call: OpenCall) -> bool:
        return False

    async def answered(self, call: OpenCall) -> Entry | None:
        entry = await super().answered(call)
        if entry is None:
            await self._stops(
                f"would {'execute' if call.kind in (EntryKind.STEP, EntryKind.ARTIFACT) else 'wait in'} {call.identity}"
            )
        return entry

    def deliver(self, call: OpenCall) -> None:
        super().deliver(call)
        self._reach(call)

    def unseen(self, call: OpenCall, beside: tuple[Beside, ...] = ()) -> None:
        super().unseen(call, beside)
        self._reach(call)

    def _reach(self, call: OpenCall) -> None:
        if call.replayed:
            self.last = max(self.last, call.position)


class _Rehearsal:
    """One run and the code that is tried on it."""

    def __init__(self, stored: _Stored, agent: AnyAgent) -> None:
        claim = self._claim = stored.claim
        self._port = _Port(stored)
        self._answers = _Answers(self._port, Cursor(claim.journal))
        self._attempt = Attempt(claim, agent, self._port, lambda: 1.0, recording=self._answers)

    def told(self) -> Replay:
        """Drive the code, and say how far it came."""
        loop = VirtualLoop("replay")
        loop.set_exception_handler(lambda loop, told: None)
        try:
            ending = loop.run_until_complete(self._drive())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
        return self._judged(ending)

    async def _drive(self) -> Ending | None:
        try:
            async with asyncio.timeout(STILL_AFTER_S):
                await self._attempt.execute()
        except TimeoutError:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)
            return None
        return self._attempt.ending

    def _judged(self, ending: Ending | None) -> Replay:
        match ending:
            case None:
                return self._verdict(True, self._how_far())
            case Succeeded(result=result):
                return self._verdict(True, self._finished(result), finished=True)
            case Hold(failure=failure):
                return self._verdict(False, failure.message, mismatch=ending)
            case Failed(failure=failure) | Retry(failure=failure):
                stored = self._claim.run.failure
                if (
                    self._claim.run.state is RunState.FAILED
                    and stored is not None
                    and stored.type == failure.type
                ):
                    return self._verdict(True, f"it fails as it did: {failure.summary()}", finished=True)
                return self._verdict(False, f"the code fails: {failure.summary()}")
            case _:
                return self._verdict(False, f"the attempt ends otherwise: {type(ending).__name__}")

    def _finished(self, result: bytes) -> str:
        run = self._claim.run
        if run.state is RunState.SUCCEEDED and run.result != result:
            kept = codec.decode(run.result or b"null", None, what="the stored result")
            now = codec.decode(result, None, what="the result")
            return f"it finishes, and returns {now!r}; recorded is {kept!r}"
        return "it finishes"

    def _how_far(self) -> str:
        where = "; ".join(dict.fromkeys(self._port.stopped_at)) or "it waits for something of its own"
        left = self._answers.left
        behind = f"; {left} recorded outcomes lie behind that" if left else ""
        return f"it fits up to entry {self._answers.last}: there it {where}{behind}"

    def _outcomes(self) -> set[Identity]:
        base = self._claim.journal.base_segment
        return {
            entry.identity
            for entry in self._claim.journal.entries
            if entry.status in _OUTCOMES and (entry.identity.segment < 0 or entry.identity.segment >= base)
        }

    def _verdict(
        self, fits: bool, message: str, *, finished: bool = False, mismatch: Hold | None = None
    ) -> Replay:
        run, found = self._claim.run, mismatch.mismatch if mismatch is not None else None
        recorded = len(self._outcomes())
        call = found.call if found is not None else None
        stored = None
        if found is not None and found.entry is not None:
            entry = next((one for one in self._claim.journal.entries if one.position == found.entry), None)
            stored = f"entry {found.entry}" + (
                f": {entry.kind} {entry.identity}, {entry.status}" if entry else ""
            )
        return Replay(
            run=run.id,
            agent=run.agent,
            version=run.version,
            fits=fits,
            finished=finished,
            entry=self._answers.last,
            answered=recorded - self._answers.left,
            recorded=recorded,
            message=message,
            code=str(call.identity) if call is not None else None,
            stored=stored,
        )
