"""Artifacts: kept whole or not at all, read once, known by their content."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from pathlib import Path
from typing import Any

import apsw
import pytest

import holdfast.artifacts
from holdfast import Artifact, Context, StepFailed, Worker, agent, open_store
from holdfast.client import Client
from holdfast.errors import ArtifactNotFound, PayloadTooLarge, StoreCorrupt, StoreFull, UsageError
from holdfast.model import EntryKind, EntryStatus, RunState
from holdfast.rules.artifacts import CHUNK_BYTES
from holdfast.rules.retry import RetryPolicy
from holdfast.store.protocol import Store
from tests.conformance.test_sqlite import SqlitePlace
from tests.faults import Crash, CrashingStore, Engine

SMALL = b"small" * 100
LARGE = bytes(range(256)) * (CHUNK_BYTES // 128) + b"odd end"  # two chunks and an end


def id_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@agent
async def maker(ctx: Context, path: str) -> list[Artifact]:
    return [await ctx.artifact("report.html", path), await ctx.artifact("note.txt", SMALL)]


async def test_an_artifact_is_listed_and_read_by_its_id(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(LARGE)
    made = await engine.finish(maker, str(tmp_path / "x"))
    handle = await engine.client.get("r")
    assert await handle.artifacts() == made
    assert [(one.name, one.id, one.size_bytes, one.media_type) for one in made] == [
        ("report.html", id_of(LARGE), len(LARGE), "text/html"),
        ("note.txt", id_of(SMALL), len(SMALL), "text/plain"),
    ]
    assert await handle.read_artifact(made[0].id) == LARGE
    sizes = [len(chunk) async for chunk in handle.open_artifact(made[0].id)]
    assert sizes == [CHUNK_BYTES, CHUNK_BYTES, 7]


async def test_a_replay_answers_from_the_entry_and_reads_nothing(engine: Engine, tmp_path: Path) -> None:
    seen: list[Artifact] = []
    path = tmp_path / "x"
    path.write_bytes(SMALL)

    @agent(retry=RetryPolicy(attempts=2, base=0))
    async def forgetful(ctx: Context) -> None:
        seen.append(await ctx.artifact("a", path))
        path.unlink(missing_ok=True)
        if len(seen) < 2:
            raise OSError("again")

    await engine.finish(forgetful)
    assert seen[0] == seen[1] == (await (await engine.client.get("r")).artifacts())[0]
    assert [entry.kind for entry in await engine.entries()] == [EntryKind.ARTIFACT]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\\b", "…", "x" * 255, " "])
async def test_a_name_is_a_label_and_leads_nowhere(engine: Engine, name: str, tmp_path: Path) -> None:
    @agent
    async def named(ctx: Context) -> str:
        return (await ctx.artifact(name, SMALL)).name

    assert await engine.finish(named) == name
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("holdfast.db")] == []


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", "a\0", "\x1b[2J", "\u202eexe", 5])
async def test_a_name_that_no_line_can_hold_is_refused(engine: Engine, name: Any) -> None:
    @agent
    async def named(ctx: Context) -> None:
        with pytest.raises(UsageError, match="name"):
            ctx.artifact(name, SMALL)
        with pytest.raises(UsageError, match="bytes or the path"):
            ctx.artifact("fine", 5)  # type: ignore[arg-type]

    await engine.finish(named)


async def failure_of(engine: Engine, path: Path) -> StepFailed:
    failed: list[StepFailed] = []

    @agent(retry=RetryPolicy(attempts=2, base=0))
    async def trying(ctx: Context) -> None:
        try:
            await ctx.artifact("a", path)
        except StepFailed as error:
            failed.append(error)

    await engine.finish(trying)
    assert await (await engine.client.get("r")).artifacts() == []
    return failed[0]


async def test_a_file_that_is_not_there_fails_the_call_like_a_step(engine: Engine, tmp_path: Path) -> None:
    failed = await failure_of(engine, tmp_path / "nowhere")
    assert "FileNotFoundError" in str(failed)
    assert (await engine.entries())[-1].status is EntryStatus.FAILED


async def test_what_is_no_regular_file_is_refused_at_once(engine: Engine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    failed = await failure_of(engine, tmp_path / "pipe")  # without a writer: nobody waits for one
    assert "is a pipe" in str(failed)
    assert failed.kind == "fatal"


async def test_a_folder_is_no_artifact(engine: Engine, tmp_path: Path) -> None:
    failed = await failure_of(engine, tmp_path)
    assert "directory" in str(failed)


class Meddling(holdfast.artifacts._File):
    """A file with which something happens after its first chunk was read."""

    meddle: Any = None
    times = 0

    def _read(self) -> bytes:
        chunk = super()._read()
        if self.size_bytes == CHUNK_BYTES and type(self).times:
            type(self).times -= 1
            type(self).meddle(self._path)
        return chunk


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def changed(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"changed")


def shortened(path: Path) -> None:
    os.truncate(path, CHUNK_BYTES + 5)


def vanished(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replaced(path: Path) -> None:
    path.with_name("new").write_bytes(LARGE)
    path.with_name("new").rename(path)


@pytest.mark.parametrize(
    ("meddle", "says"),
    [
        (appended, "changed while"),
        (changed, "changed while"),
        (shortened, "changed while"),
        (vanished, "vanished while"),
        (replaced, "changed while"),
    ],
)
async def test_a_file_that_does_not_stand_still_is_not_kept(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meddle: Any, says: str
) -> None:
    path = tmp_path / "x"
    path.write_bytes(LARGE)
    monkeypatch.setattr(Meddling, "meddle", staticmethod(meddle))
    monkeypatch.setattr(Meddling, "times", 9)
    monkeypatch.setattr(holdfast.artifacts, "_File", Meddling)
    failed = await failure_of(engine, path)
    first = (await engine.entries())[0]
    assert first.status is EntryStatus.RETRIED
    assert re.search(says, first.payload.decode()), first
    assert failed.failure.type == ("FileNotFoundError" if meddle is vanished else "RetriesExhausted")


async def test_a_file_that_changed_once_is_read_again(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(LARGE)
    monkeypatch.setattr(Meddling, "meddle", staticmethod(appended))
    monkeypatch.setattr(Meddling, "times", 1)
    monkeypatch.setattr(holdfast.artifacts, "_File", Meddling)

    @agent(retry=RetryPolicy(attempts=2, base=0))
    async def patient(ctx: Context) -> str:
        return (await ctx.artifact("a", path)).id

    assert await engine.finish(patient) == id_of(LARGE + b"more")


# --- crashes ------------------------------------------------------------------------------------------------


class CrashingUploads(CrashingStore):
    """The n-th commit is also that of an upload's transactions."""

    async def begin_content(self) -> int:
        return await self._counted(self._store.begin_content)

    async def add_chunk(self, *args: Any) -> None:
        return await self._counted(self._store.add_chunk, *args)

    async def seal_content(self, *args: Any) -> Any:
        return await self._counted(self._store.seal_content, *args)

    async def commit(self, changes: Any) -> Any:
        return await self._counted(self._store.commit, changes)

    async def _counted(self, do: Any, *args: Any) -> Any:
        self._alive()
        self.commits += 1
        number = self.commits  # others may commit before this one is through
        if number == self._crash_at and not self._after:
            self._die()
        answer = await do(*args)
        if number == self._crash_at:
            self._die()
        return answer


async def works(engine: Engine, crash_at: int | None, after: bool) -> int | None:
    """Serve until idle, or until the crash (then None); how many commits there were."""
    async with open_store(engine.url) as store:
        crashing = CrashingUploads(store, crash_at, after=after)
        try:
            await Worker(crashing, [maker], until_idle=True).run()  # type: ignore[arg-type]
        except BaseExceptionGroup as error:
            if not error.subgroup(Crash):
                raise
            return None
        except Crash:
            return None
        return crashing.commits


COMMITS = 11  # begin, three chunks, seal, entry; begin, chunk, seal, entry; outcome


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, COMMITS + 1))
async def test_a_crash_at_every_commit_of_an_upload_keeps_it_whole_or_not_at_all(
    engine: Engine, tmp_path: Path, at: int, after: bool
) -> None:
    (tmp_path / "x").write_bytes(LARGE)
    handle = await engine.client.start(maker, str(tmp_path / "x"), id="r")
    assert await works(engine, at, after) is None
    for one in await handle.artifacts():  # what is listed is whole, at once
        assert id_of(await handle.read_artifact(one.id)) == one.id
    assert await works(engine, None, False) is not None
    made = await handle.result()
    assert [one.id for one in made] == [id_of(LARGE), id_of(SMALL)]
    assert await handle.artifacts() == made
    assert await handle.read_artifact(id_of(LARGE)) == LARGE
    assert [entry.kind for entry in await engine.entries()] == [EntryKind.ARTIFACT] * 2


async def test_an_upload_has_as_many_commits_as_were_crashed_at(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(LARGE)
    await engine.client.start(maker, str(tmp_path / "x"), id="r")
    commits = await works(engine, None, False)
    assert commits is not None and commits >= COMMITS  # a slow upload is announced, too


async def test_a_run_that_is_cancelled_on_the_way_in_keeps_nothing(engine: Engine, tmp_path: Path) -> None:
    arrived = asyncio.Event()

    class Slow(CrashingUploads):
        async def add_chunk(self, *args: Any) -> None:
            await super().add_chunk(*args)
            arrived.set()
            await asyncio.sleep(0.05)

    (tmp_path / "x").write_bytes(LARGE * 20)
    handle = await engine.client.start(maker, str(tmp_path / "x"), id="r")
    async with open_store(engine.url) as store:
        worker = asyncio.create_task(Worker(Slow(store), [maker], until_idle=True).run())  # type: ignore[arg-type]
        await arrived.wait()
        await handle.cancel()
        await worker
    assert (await engine.store.get_run("r")).state is RunState.CANCELLED
    assert await handle.artifacts() == []


async def test_a_full_disk_makes_an_upload_wait(engine: Engine, tmp_path: Path) -> None:
    class Full(CrashingUploads):
        left = 3

        async def add_chunk(self, *args: Any) -> None:
            if self.left:
                self.left -= 1
                raise StoreFull("the disk is full")
            await super().add_chunk(*args)

    (tmp_path / "x").write_bytes(LARGE)
    handle = await engine.client.start(maker, str(tmp_path / "x"), id="r")
    async with open_store(engine.url) as store:
        full = Full(store)
        await Worker(full, [maker], until_idle=True).run()  # type: ignore[arg-type]
    assert full.left == 0
    assert (await engine.store.get_run("r")).attempts == 1
    assert [one.id for one in await handle.result()] == [id_of(LARGE), id_of(SMALL)]
    assert all(entry.status is EntryStatus.OK for entry in await engine.entries())


# --- others meanwhile, and reading ----------------------------------------------------------------------------


async def test_an_upload_lets_the_steps_of_others_pass(engine: Engine, tmp_path: Path) -> None:
    order: list[str] = []

    @agent
    async def large(ctx: Context) -> None:
        await ctx.artifact("large", LARGE * 10)
        order.append("upload")

    @agent
    async def small(ctx: Context) -> None:
        for _ in range(10):
            await ctx.step(lambda: 1, name="one")
        order.append("steps")

    await engine.client.start(large, id="large")
    await engine.client.start(small, id="small")
    await engine.work(large, small)
    assert order == ["steps", "upload"]


async def test_a_damaged_chunk_is_an_error_and_never_handed_out(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(LARGE)
    await engine.finish(maker, str(tmp_path / "x"))
    place = SqlitePlace(tmp_path / "holdfast.db", None)  # type: ignore[arg-type]
    await place.damage_chunk(id_of(LARGE), 1)
    handle = await engine.client.get("r")
    with pytest.raises(StoreCorrupt, match="fails its checksum"):
        await handle.read_artifact(id_of(LARGE))


async def test_chunks_in_another_order_are_not_the_content(engine: Engine, tmp_path: Path) -> None:
    content = b"a" * CHUNK_BYTES + b"b" * CHUNK_BYTES
    (tmp_path / "x").write_bytes(content)
    await engine.finish(maker, str(tmp_path / "x"))
    connection = apsw.Connection(str(tmp_path / "holdfast.db"))
    connection.execute("UPDATE content_chunks SET chunk = 3 - chunk WHERE content = 1")
    connection.close()
    with pytest.raises(StoreCorrupt, match="not the one that was recorded"):
        await (await engine.client.get("r")).read_artifact(id_of(content))


async def test_an_id_of_another_run_is_not_found(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(LARGE)
    await engine.finish(maker, str(tmp_path / "x"))

    @agent
    async def other(ctx: Context) -> None: ...

    await engine.finish(other, id="other")
    handle = await engine.client.get("other")
    with pytest.raises(ArtifactNotFound, match="holdfast artifacts other"):
        await handle.read_artifact(id_of(LARGE))
    with pytest.raises(ArtifactNotFound):
        async for _ in handle.open_artifact("../../etc/passwd"):
            pass
    with pytest.raises(ArtifactNotFound):
        async for _ in handle.open_artifact(id_of(LARGE)):
            pass


async def test_a_large_artifact_is_not_read_at_once(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.client import artifacts

    monkeypatch.setattr(artifacts, "READ_AT_ONCE_BYTES", 1000)
    (tmp_path / "x").write_bytes(LARGE)
    await engine.finish(maker, str(tmp_path / "x"))
    with pytest.raises(PayloadTooLarge, match="open_artifact"):
        await (await engine.client.get("r")).read_artifact(id_of(LARGE))


async def test_a_controller_sweeps_what_uploads_left_behind(engine: Engine, tmp_path: Path) -> None:
    from holdfast.controller import Controller

    class Old:
        """The store, a day later."""

        def __init__(self, store: Store) -> None:
            self._store = store
            self.swept = 0

        async def sweep_artifacts(self, limit: int) -> int:
            gone = await self._store.sweep_artifacts(limit)
            self.swept += gone
            return gone

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

    upload = await engine.store.begin_content()
    for n in range(40):
        await engine.store.add_chunk(upload, n, b"%d" % n)
    connection = apsw.Connection(str(tmp_path / "holdfast.db"))
    connection.execute("UPDATE contents SET touched_at_us = 0")
    connection.close()
    old = Old(engine.store)
    controller = Controller(old)  # type: ignore[arg-type]
    while await controller.round() == 0:  # a batch in each: deadlines are looked at in between
        pass
    assert old.swept == 41


async def test_two_agents_of_one_content_store_it_once(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(LARGE)
    await engine.finish(maker, str(tmp_path / "x"), id="one")
    size = (tmp_path / "holdfast.db").stat().st_size
    await engine.finish(maker, str(tmp_path / "x"), id="two")
    connection = apsw.Connection(str(tmp_path / "holdfast.db"))
    ((chunks,),) = connection.execute("SELECT count(*) FROM chunks").fetchall()
    connection.close()
    assert chunks == 3  # two of LARGE are alike: it, its end, and the small one
    assert (tmp_path / "holdfast.db").stat().st_size < size + CHUNK_BYTES
    client = Client(engine.store)
    assert await (await client.get("one")).read_artifact(id_of(LARGE)) == LARGE
