"""Import: a file of runs read line by line, verified, and written into a store. Again is fine, from wherever it ended.

Laws of this file:
1. The runs of a tree come into being together, when each line of theirs is there and every hash is right. Until then
   they stand in the store as `queued (importing)`; a failure of the file removes them.
2. What an import before this one left unfinished is removed and written again. A run that is there is compared.
3. Nothing is held in memory but a batch of lines, and for each run of the tree at hand a few numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final

from msgspec.structs import replace

from holdfast.errors import ArtifactNotFound, HoldfastError, InvalidExport, RunNotFound
from holdfast.model import Decision, Reason, Run
from holdfast.model.moving import (
    NOTHING,
    Ending,
    ExportFooter,
    ExportHeader,
    ImportRecord,
    Line,
    MovedBudget,
    MovedChunk,
    MovedContent,
    MovedLane,
    MovedRun,
    PartOfRun,
    RunEnd,
)
from holdfast.moving.form import hash_of
from holdfast.moving.lines import Reader, chunk_bytes
from holdfast.rules import transitions
from holdfast.rules.moving import stands_still
from holdfast.store.protocol import Store

BATCH_LINES: Final = 1_000
BATCH_BYTES: Final = 1024 * 1024
"""A transaction of so much takes some milliseconds; whoever else writes goes between two of them."""

OTHER: Final = (
    "run {id} is here already, and is not what the file says; to have that one instead: holdfast delete {id} (an "
    "unfinished one is cancelled first)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Importing:
    """How far an import is: bytes read, runs that are whole."""

    size_bytes: int
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of the runs of a file, by their ids. `refused` says why; `unfinished` are those that stand still here
    now, `resumed` those that go on."""

    runs: int
    imported: tuple[str, ...] = ()
    here: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    unfinished: tuple[str, ...] = ()
    resumed: tuple[str, ...] = ()


def verify(file: BinaryIO, name: str, tell: Callable[[Importing], None] = lambda _: None) -> Imported:
    """Read the whole file and change nothing. Raises InvalidExport."""
    reader, runs = Reader(file, name), 0
    unfinished: list[str] = []
    for part in reader.parts():
        if isinstance(part, MovedRun):
            runs += 1
            if not part.state.final:
                unfinished.append(part.id)
        tell(Importing(size_bytes=reader.size_bytes, runs=runs))
    return Imported(runs=runs, unfinished=tuple(unfinished))


async def import_runs(
    store: Store,
    file: BinaryIO,
    name: str,
    *,
    resume: bool = False,
    tell: Callable[[Importing], None] = lambda _: None,
) -> Imported:
    """Write the runs of the file (`name` is what errors call it) into the store.

    Idempotent. A run that is there with the same lines, or came from them and went on since, is left alone; one that
    is there with others is refused, with its tree. `resume`: those that are paused go on at the end. Raises
    InvalidExport at the first line that is not right: the trees before it are in the store.
    """
    reader, load = Reader(file, name), _Import(store)
    before = 0
    try:
        for part in reader.parts():
            await load.take(part, reader.size_bytes - before)
            before = reader.size_bytes
            tell(Importing(size_bytes=before, runs=load.whole))
    except HoldfastError as error:
        with contextlib.suppress(HoldfastError):
            await load.drop()
        if isinstance(error, InvalidExport) and load.imported:
            raise InvalidExport(f"{error} ({_runs(len(load.imported))} above it are imported)") from error
        raise
    resumed = await _resume(store, load.paused) if resume else []
    return Imported(
        runs=load.whole,
        imported=tuple(load.imported),
        here=tuple(load.here),
        refused=tuple(load.refused),
        unfinished=tuple([run_id for run_id in load.unfinished if await _stands(store, run_id)]),
        resumed=tuple(resumed),
    )


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


class _Uploads:
    """The contents of a file, on their way in. One that is in the store is only verified."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._content: MovedContent | None = None
        self._upload: int | None = None

    async def begin(self, content: MovedContent) -> None:
        """A content begins."""
        try:
            await self._store.get_content(content.id)
            self._content = self._upload = None
        except ArtifactNotFound:
            self._content, self._upload = content, await self._store.begin_content()
            if content.chunks == 0:
                await self._seal(content, self._upload)

    async def add(self, chunk: MovedChunk) -> None:
        """Its next chunk; the last one comes when its hash is right."""
        if self._upload is None or self._content is None:
            return
        await self._store.add_chunk(self._upload, chunk.n, chunk_bytes(chunk))
        if chunk.n + 1 == self._content.chunks:
            await self._seal(self._content, self._upload)

    async def _seal(self, content: MovedContent, upload: int) -> None:
        await self._store.seal_content(upload, content.id, content.size_bytes)
        self._content = self._upload = None


class _Writing:
    """A run whose lines are written as they come; those that concern other runs wait for the end of its tree."""

    def __init__(self, store: Store, key: int, run: MovedRun) -> None:
        self._store = store
        self._key = key
        self._run = run
        self._lane: MovedLane | None = None
        self._budget: MovedBudget | None = None
        self._batch: list[PartOfRun] = []
        self._batch_bytes = 0
        self._lines = 1

    async def add(self, part: PartOfRun, size_bytes: int) -> None:
        """Its next line."""
        if isinstance(part, MovedLane):
            self._lane = part
            return
        if isinstance(part, MovedBudget):
            self._budget = part
            return
        self._batch.append(part)
        self._batch_bytes += size_bytes
        if len(self._batch) >= BATCH_LINES or self._batch_bytes >= BATCH_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        if self._batch:
            await self._store.add_parts(self._key, self._batch)
            self._lines += len(self._batch)
            self._batch, self._batch_bytes = [], 0

    async def end(self, sha256: str) -> Ending:
        """All of them are there, and this is their hash."""
        await self._flush()
        return Ending(
            key=self._key,
            child=self._run.child,
            behind=self._run.behind,
            waits_for_budgets=self._run.waits_for_budgets,
            lane=self._lane,
            budget=self._budget,
            lines=self._lines,
            sha256=sha256,
        )


class _Import:
    """The lines of a file, tree by tree."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._uploads = _Uploads(store)
        self._run: MovedRun | None = None
        self._writing: _Writing | None = None
        self._record: ImportRecord | None = None
        self._begin_tree()
        self.whole = 0
        self.imported: list[str] = []
        self.here: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.unfinished: list[str] = []
        self.paused: dict[str, int] = {}

    def _begin_tree(self) -> None:
        self._members: list[MovedRun] = []
        self._begun: dict[str, int] = {}
        self._endings: list[Ending] = []
        self._same: list[str] = []
        self._others: list[tuple[str, str]] = []

    async def take(self, part: Line, size_bytes: int) -> None:
        """The next line, which was verified."""
        match part:
            case MovedContent():
                await self._uploads.begin(part)
            case MovedChunk():
                await self._uploads.add(part)
            case MovedRun():
                if part.child is None:
                    await self._end_tree()
                await self._begin_run(part)
            case RunEnd():
                await self._end_run(part)
            case ExportFooter():
                await self._end_tree()
            case ExportHeader():
                pass
            case _:
                if self._writing is not None:
                    await self._writing.add(part, size_bytes)

    async def _begin_run(self, run: MovedRun) -> None:
        self._run = replace(run, input=NOTHING, input_base64=None, result=NOTHING, result_base64=None)
        self._members.append(self._run)
        self._writing, self._record = None, await self._store.find_import(run.id)
        if self._record is not None and self._record.sha256 is None:
            await self._store.drop_import(run.id)
            self._record = None
        if self._others or self._record is not None or await _is_there(self._store, run.id):
            return
        key = await self._store.begin_import(run)
        self._begun[run.id] = key
        self._writing = _Writing(self._store, key, self._run)

    async def _end_run(self, end: RunEnd) -> None:
        if self._writing is not None:
            self._endings.append(await self._writing.end(end.sha256))
        elif not self._others:
            await self._compare(end)
        self._writing = None

    async def _compare(self, end: RunEnd) -> None:
        assert self._run is not None, "the reader gives no end without a run"
        known = None if self._record is None else self._record.sha256
        with_parent = self._run.child is not None
        if known == end.sha256 or end.sha256 == await hash_of(self._store, end.run, with_parent=with_parent):
            self._same.append(end.run)
        else:
            self._others.append((end.run, OTHER.format(id=end.run)))

    async def _end_tree(self) -> None:
        begun, members = self._begun, self._members
        if self._others:
            await self.drop()
            self.refused += self._others
            ((other, _),) = self._others
            self.refused += [
                (run.id, f"run {run.id} belongs together with {other}, which cannot come")
                for run in members
                if run.id != other and run.id not in self._same
            ]
            self.here += self._same
        else:
            if self._endings:
                await self._store.end_imports(self._endings)
            self.imported += [run.id for run in members if run.id in begun]
            self.here += [run.id for run in members if run.id not in begun]
            self.unfinished += [run.id for run in members if not run.state.final]
            self.paused |= {run.id: run.event_no for run in members if run.reason is Reason.PAUSED}
        self.whole += len(members)
        self._begin_tree()

    async def drop(self) -> None:
        """Remove what is written of the tree at hand."""
        for run_id, key in self._begun.items():
            await self._store.drop_import(run_id, key)


async def _stands(store: Store, run_id: str) -> bool:
    run = await store.get_run(run_id)
    return stands_still(run) and not run.state.final


async def _is_there(store: Store, run_id: str) -> bool:
    try:
        await store.get_run(run_id)
    except RunNotFound:
        return False
    return True


async def _resume(store: Store, paused: dict[str, int]) -> list[str]:
    """Let those go on that stand as they came; which ones."""
    resumed: list[str] = []
    for run_id, event_no in paused.items():

        def decide(run: Run, now_us: int, *, event_no: int = event_no) -> Decision | None:
            if run.reason is not Reason.PAUSED or run.event_no != event_no:
                return None
            resumed.append(run.id)
            return transitions.resume(run, now_us)

        await store.update_run(run_id, decide)
    return resumed
