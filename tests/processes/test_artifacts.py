"""Artifacts in real processes: memory that does not grow with them, a disk that fills, kills on the way in."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from holdfast.client import Client
from holdfast.clock import SystemClock
from holdfast.errors import ArtifactNotFound
from holdfast.rules.artifacts import CHUNK_BYTES
from holdfast.store import open_store
from holdfast.store.sqlite import SQLiteStore
from tests.processes import agents
from tests.processes.harness import ROOT, Scene, killed_at, serve, stop, wait_until
from tests.processes.namespaces import need_namespaces, on_small_disk


def kept(folder: Path, mib: int, *cache_kib: str) -> dict[str, float]:
    """Keep an artifact of so many MiB in a process of its own, and read it back; what that process tells."""
    command = [sys.executable, "-m", "tests.processes.artifact_scene", str(folder), str(mib), *cache_kib]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    told: dict[str, float] = json.loads(done.stdout)
    assert told["right"]
    assert told["steps"] > 5, "the steps of another run went on meanwhile"
    return told


def test_memory_does_not_grow_with_the_artifact(tmp_path: Path) -> None:
    told = kept(
        tmp_path, 64, "2048"
    )  # with a small page cache of SQLite's: it grows to its size, and no further
    assert told["grew_mb"] < 40, told


@pytest.mark.torture
@pytest.mark.timeout(300)
def test_an_artifact_of_a_gigabyte_takes_no_more_memory(tmp_path: Path) -> None:
    told = kept(tmp_path, int(os.environ.get("MIB", "1024")))
    print(told)
    assert told["grew_mb"] < 120, told  # 64 MiB of it are the page cache
    assert told["step_p99_ms"] < 1000, told


def test_a_full_disk_makes_an_upload_wait_and_loses_nothing(scene: Scene) -> None:
    need_namespaces()
    disk = scene.folder / "disk"
    disk.mkdir()
    done = on_small_disk(disk, "40m", f"$PYTHON -m tests.processes.artifact_full_scene {disk}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "listed_when_full": 0, "right": True, "failures": 0, "attempts": 1,
    }  # fmt: skip


SMALL = b"small"


class Later(SystemClock):
    """A clock that is two hours ahead."""

    def wall_us(self) -> int:
        return super().wall_us() + 2 * 3_600_000_000


def id_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def check_whole_or_not_there(scene: Scene, *contents: bytes) -> int:
    """Whoever looks finds each artifact whole or not at all; how many are listed."""

    async def looking() -> int:
        async with open_store(scene.url) as store:
            handle = await Client(store).get("r")
            listed = [one.id for one in await handle.artifacts()]
            assert listed == [id_of(content) for content in contents][: len(listed)]
            for content in contents:
                if id_of(content) in listed:
                    assert await handle.read_artifact(id_of(content)) == content
                else:
                    await _check_content(store, content)
            return len(listed)

    return asyncio.run(looking())


async def _check_content(store: SQLiteStore, content: bytes) -> None:
    """What no entry refers to yet is not there, or there to the last byte."""
    try:
        found = await store.get_content(id_of(content))
    except ArtifactNotFound:
        return
    chunks = [await store.read_chunk(found.id, n) for n in range(found.chunks)]
    assert b"".join(chunks) == content


def check_kept(scene: Scene, *contents: bytes) -> None:
    """The run ended with these artifacts; what uploads left behind is swept, and nothing else."""
    assert json.loads(scene.run().result or b"") == [id_of(content) for content in contents]

    async def sweeping() -> None:
        async with SQLiteStore(scene.folder / "holdfast.db", clock=Later()) as store:
            while await store.sweep_artifacts(100):
                pass

    asyncio.run(sweeping())
    assert check_whole_or_not_there(scene, *contents) == len(contents)
    connection = apsw.Connection(str(scene.folder / "holdfast.db"))
    left = [
        connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
        for table in ("contents", "content_chunks", "chunks")
    ]
    connection.close()
    needed = sum(-(-len(content) // CHUNK_BYTES) for content in contents)
    assert left == [len(contents), needed, needed]


def test_a_worker_killed_at_each_commit_of_an_upload_leaves_a_whole_artifact_or_none(scene: Scene) -> None:
    large = os.urandom(2 * CHUNK_BYTES + 7)
    (scene.folder / "large").write_bytes(large)
    scene.start(agents.keeper, str(scene.folder / "large"))
    listed: list[int] = []
    # Commits: begin, three chunks, seal, entry; begin, chunk, seal, entry; the outcome.
    points = [*(f"{commit}-" for commit in range(1, 8)), "10-", "11+"]
    for killed in killed_at(
        scene, points, seen=lambda killed: listed.append(check_whole_or_not_there(killed, large, SMALL))
    ):
        check_kept(killed, large, SMALL)
    assert listed == [0] * 6 + [1] * 2 + [2]


def test_a_worker_killed_between_chunks_is_followed_by_one_that_brings_all_of_them(scene: Scene) -> None:
    large = os.urandom(12 * CHUNK_BYTES)
    (scene.folder / "large").write_bytes(large)
    scene.start(agents.keeper, str(scene.folder / "large"))
    for chunks in (2, 6):
        worker = serve(scene.url, chunk_s=0.1)
        wait_until(lambda chunks=chunks: _chunks_of_newest(scene) >= chunks)  # type: ignore[misc]
        stop(worker)
        assert check_whole_or_not_there(scene, large, SMALL) == 0
    worker = serve(scene.url, until_idle=True, chunk_s=0.05)
    while worker.poll() is None:  # a reader beside the upload
        check_whole_or_not_there(scene, large, SMALL)
    assert stop(worker) == ""
    check_kept(scene, large, SMALL)


def _chunks_of_newest(scene: Scene) -> int:
    """How far the upload is that was begun last."""
    connection = apsw.Connection(str(scene.folder / "holdfast.db"), apsw.SQLITE_OPEN_READONLY)
    try:
        count = "SELECT count(*) FROM content_chunks WHERE content = (SELECT max(key) FROM contents)"
        ((chunks,),) = connection.execute(count).fetchall()
        return int(chunks)
    finally:
        connection.close()
