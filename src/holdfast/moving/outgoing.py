"""Export: runs made to stand still, whole trees of them, and written line by line."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import BinaryIO, Final

from holdfast.errors import Refused
from holdfast.model import Change, NewWorker, Release, Run, RunFilter, RunState, Served
from holdfast.model.moving import (
    EXPORT_FORMAT,
    ExportHeader,
    MovedArtifact,
    MovedChunk,
    MovedContent,
    Pages,
    RunEnd,
)
from holdfast.moving.form import pages_of, parts_of
from holdfast.moving.lines import RunHash, Writer
from holdfast.rules import transitions
from holdfast.rules.moving import check_unchanged, stands_still
from holdfast.store.protocol import Store

PAGE: Final = 500
LOOK_S: Final = 0.5
"""How often it is looked whether a run stands still by now, when nothing tells."""
NAMED: Final = 5
"""Runs named in a message; more are counted."""
LEASE_US: Final = 30_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporting:
    """How far an export is: runs written of so many, bytes written; before that, the runs it waits for."""

    runs: int = 0
    of: int = 0
    size_bytes: int = 0
    waits_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export wrote: how many runs, and which of them are unfinished: they stand still here."""

    runs: int
    size_bytes: int
    unfinished: tuple[str, ...] = field(default=())


async def export_runs(
    store: Store,
    ids: Sequence[str] | None,
    out: BinaryIO,
    *,
    timeout_s: float,
    tell: Callable[[Exporting], None] = lambda _: None,
) -> Exported:
    """Write these runs (None: all) and all runs below them to `out`.

    Those that could go on are paused first, and stay so. Raises Refused when they do not stand still in time, when one
    is moved by somebody meanwhile, or has an unfinished parent that is not among them; what is written by then is no
    whole file. Raises RunNotFound, StoreCorrupt.
    """
    roots = await _every_root(store) if ids is None else await _roots(store, ids)
    count = await _still(store, roots, timeout_s, tell)
    writer = Writer(out)
    at = datetime.fromtimestamp(await store.now() / 1e6, UTC).isoformat().replace("+00:00", "Z")
    writer.put(ExportHeader(holdfast_export=EXPORT_FORMAT, version=version("holdfast"), at=at))
    export = _Export(store, writer, count, tell)
    for root in roots:
        await export.tree(root)
    await export.check()
    writer.end(export.runs)
    return Exported(
        runs=export.runs, size_bytes=writer.size_bytes, unfinished=tuple(run.id for run in export.unfinished)
    )


# --- which runs -------------------------------------------------------------------------------------------------


async def _every_root(store: Store) -> list[str]:
    """The runs that are no children, oldest first."""
    found: list[str] = []
    before: int | None = None
    while page := await store.list_runs(RunFilter(top=True, limit=PAGE, before=before)):
        found += [run.id for run in page]
        before = page[-1].key
    return found[::-1]


async def _roots(store: Store, ids: Sequence[str]) -> list[str]:
    """Those of the named runs that are below no other. Raises Refused for a child whose parent could go on."""
    below: set[str] = set()
    wanted = dict.fromkeys(ids)
    for run_id in wanted:
        below |= {run.id for run, parent in await store.tree_of(run_id) if parent is not None}
    roots = [run_id for run_id in wanted if run_id not in below]
    for run_id in roots:
        await _check_parent(store, run_id)
    return roots


async def _check_parent(store: Store, run_id: str) -> None:
    parent = await _parent(store, run_id)
    if parent is None or parent.state.final:
        return
    root = parent
    while (above := await _parent(store, root.id)) is not None and not above.state.final:
        root = above
    raise Refused(
        f"run {run_id} is a child of {parent.id}, which is {parent.state} and would miss it: "
        f"export {root.id}, which takes all below it along"
    )


async def _parent(store: Store, run_id: str) -> Run | None:
    key = (await store.get_run(run_id)).key
    parent = (await store.parents_of([key])).get(key)
    return None if parent is None else await store.get_run(parent)


# --- until they stand still -------------------------------------------------------------------------------------


async def _still(
    store: Store, roots: Sequence[str], timeout_s: float, tell: Callable[[Exporting], None]
) -> int:
    """Pause what could go on in the trees of these runs, and wait until nothing does; how many runs they are."""
    left, count = list(roots), 0
    loop = asyncio.get_running_loop()
    until_s = loop.time() + timeout_s
    while left:
        restless: list[Run] = []
        unready: list[str] = []
        for root in left:
            tree = await store.tree_of(root)
            found = [run for run, _ in tree if not stands_still(run)]
            if not found:
                count += len(tree)
                continue
            unready.append(root)
            restless += found
        left = unready
        if not left:
            break
        for run in restless:
            await _pause(store, run.id)
        await _take_from_the_dead(store, [run for run in restless if run.state is RunState.RUNNING])
        executed = await store.get_runs([run.key for run in restless])
        running = tuple(run.id for run in executed.values() if run.state is RunState.RUNNING)
        tell(Exporting(waits_for=running))
        if running and loop.time() >= until_s:
            raise Refused(
                f"{_named(running)} reached no safe point in {timeout_s:g} s; they are asked to pause, and what was "
                "paused stays so: export again, with a longer --timeout, or holdfast resume them"
            )
        if running:
            await store.wait_for_news(min(LOOK_S, max(0.0, until_s - loop.time())))
    return count


async def _pause(store: Store, run_id: str) -> None:
    await store.update_run(
        run_id, lambda run, now_us: None if stands_still(run) else transitions.pause(run, now_us)
    )


async def _take_from_the_dead(store: Store, running: Sequence[Run]) -> None:
    """Nobody would bring runs of dead workers to a safe point. Whoever claims one whose pause is asked pauses it, so it
    is claimed: by a worker that serves nothing and is gone afterwards."""
    if not running:
        return
    alive = {one.key for one in await store.list_workers() if one.alive}
    fallen = [run for run in running if run.worker not in alive]
    if not fallen:
        return
    new = NewWorker(name="export", host=socket.gethostname(), pid=os.getpid(), capacity=1, serves=())
    worker = await store.register_worker(new, LEASE_US)
    try:
        for run in fallen:
            serves = [Served(agent=run.agent, version=run.version)]
            for claim in await store.claim(worker, serves, 1, only=run.id):
                # Resumed meanwhile, or a child of it that is due: it is given back untouched.
                given, token = claim.run, claim.run.token
                change = Change(run=given.key, token=token, position=given.position, outcome=Release())
                await store.commit([change])
    finally:
        await store.retire_worker(worker)


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else ""
    return ("run " if len(ids) == 1 else "runs ") + ", ".join(ids[:NAMED]) + more


# --- what is written --------------------------------------------------------------------------------------------


class _Export:
    """The runs of one file, one after another."""

    def __init__(self, store: Store, writer: Writer, of: int, tell: Callable[[Exporting], None]) -> None:
        self._store = store
        self._writer = writer
        self._of = of
        self._tell = tell
        self._contents: set[str] = set()
        self.runs = 0
        self.unfinished: list[Run] = []

    async def tree(self, root: str) -> None:
        """Write a run and those below it. Raises Refused when one does not stand still any more."""
        for run, parent in await self._store.tree_of(root):
            if not stands_still(run):
                raise Refused(
                    f"run {run.id} is {run.state} again: somebody let it go on while it was exported; export again"
                )
            await self._write_contents(run.id)
            await self._write_run(run.id, with_parent=parent is not None)
            check_unchanged(run, await self._store.get_run(run.id))
            if not run.state.final:
                self.unfinished.append(run)
            self.runs += 1
            self._tell(Exporting(runs=self.runs, of=self._of, size_bytes=self._writer.size_bytes))

    async def _write_run(self, run_id: str, *, with_parent: bool) -> None:
        hashed = RunHash()
        async for part in parts_of(self._store, run_id, with_parent=with_parent):
            hashed.add(self._writer.put(part))
        self._writer.put(RunEnd(run=run_id, lines=hashed.lines, sha256=hashed.sha256()))

    async def _write_contents(self, run_id: str) -> None:
        """The contents of its artifacts that no run above has."""
        async for part in pages_of(self._store, run_id, Pages.ARTIFACTS):
            assert isinstance(part, MovedArtifact)
            if part.content not in self._contents:
                self._contents.add(part.content)
                await self._write_content(part.content)

    async def _write_content(self, content_id: str) -> None:
        content = await self._store.get_content(content_id)
        self._writer.put(MovedContent(id=content_id, size_bytes=content.size_bytes, chunks=content.chunks))
        for n in range(content.chunks):
            chunk = await self._store.read_chunk(content_id, n)
            try:
                self._writer.put(MovedChunk(n=n, text=chunk.decode()))
            except UnicodeDecodeError:
                self._writer.put(MovedChunk(n=n, base64=chunk))

    async def check(self) -> None:
        """Raise Refused when an unfinished run was moved by somebody since it was written."""
        for run in self.unfinished:
            check_unchanged(run, await self._store.get_run(run.id))
