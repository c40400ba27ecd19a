"""Artifacts: contents come in unseen, are stored once, and go when nothing refers to them."""

from __future__ import annotations

import hashlib

import pytest
from msgspec import structs

from holdfast.errors import ArtifactNotFound, Refused, RunNotFound, StoreCorrupt
from holdfast.model import Artifact, Committed, EntryKind, Failed, NewArtifact, RefusedChange, Succeeded
from holdfast.rules.transitions import retry
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import (
    DAY_US,
    FAILURE,
    Attempt,
    Place,
    Promises,
    commit_one,
    register,
    start,
    step,
    take,
)

CHUNKS = (b"one" * 1000, b"two" * 9000, b"end")
WHOLE = b"".join(CHUNKS)
ID = hashlib.sha256(WHOLE).hexdigest()


async def bring(store: Store, *chunks: bytes) -> str:
    """Bring a content in, and return its id."""
    upload = await store.begin_content()
    for n, chunk in enumerate(chunks):
        await store.add_chunk(upload, n, chunk)
    whole = b"".join(chunks)
    content = await store.seal_content(upload, hashlib.sha256(whole).hexdigest(), len(whole))
    assert (content.id, content.size_bytes) == (hashlib.sha256(whole).hexdigest(), len(whole))
    return content.id


async def record(attempt: Attempt, name: str = "a.txt", content_id: str = ID) -> Committed | RefusedChange:
    """Commit an entry with an artifact beside it."""
    change = attempt.change(step(name, kind=EntryKind.ARTIFACT, occurrence=attempt.position))
    new = NewArtifact(name=name, id=content_id, media_type="text/plain")
    answer = await commit_one(attempt.store, structs.replace(change, beside=(new,)))
    if isinstance(answer, Committed):
        attempt.position = answer.position
    return answer


async def read(store: Store, content_id: str = ID) -> bytes:
    """All chunks of a content, one after another."""
    content = await store.get_content(content_id)
    return b"".join([await store.read_chunk(content_id, n) for n in range(content.chunks)])


async def swept(store: Store, place: Place, limit: int = 100) -> int:
    """What a sweep takes once everything that nobody refers to is old enough."""
    place.clock.advance(DAY_US)
    return await store.sweep_artifacts(limit)


class ArtifactPromises(Promises):
    """Promises about artifacts."""

    async def test_an_artifact_and_its_entry_appear_together(self, store: Store, place: Place) -> None:
        attempt = await start(store, await register(store))
        await bring(store, *CHUNKS)
        assert await store.list_artifacts("r") == []
        assert isinstance(await record(attempt), Committed)
        (found,) = await store.list_artifacts("r")
        assert isinstance(found, Artifact)
        assert (found.id, found.name, found.size_bytes, found.media_type) == (
            ID, "a.txt", len(WHOLE), "text/plain",
        )  # fmt: skip
        assert round(found.at.timestamp() * 1e6) == place.clock.wall_us()
        assert [entry.kind for entry in await store.read_entries("r")] == [EntryKind.ARTIFACT]
        assert await read(store) == WHOLE

    async def test_a_fenced_out_attempt_keeps_no_artifact(self, store: Store) -> None:
        worker = await register(store)
        first = await start(store, worker)
        await bring(store, *CHUNKS)
        await store.retire_worker(worker)
        await take(store, await register(store))
        assert isinstance(await record(first), RefusedChange)
        assert await store.list_artifacts("r") == []

    async def test_an_artifact_without_its_content_is_refused_with_its_entry(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        upload = await store.begin_content()
        await store.add_chunk(upload, 0, WHOLE)  # not sealed
        answer = await record(attempt)
        assert isinstance(answer, RefusedChange)
        assert ID in answer.message
        assert await store.read_entries("r") == []

    async def test_a_content_with_a_chunk_missing_is_not_sealed(self, store: Store) -> None:
        upload = await store.begin_content()
        await store.add_chunk(upload, 0, CHUNKS[0])
        await store.add_chunk(upload, 2, CHUNKS[2])
        with pytest.raises(Refused, match="begin it again"):
            await store.seal_content(upload, ID, len(WHOLE))
        with pytest.raises(Refused, match="begin it again"):
            await store.seal_content(upload, ID, len(CHUNKS[0] + CHUNKS[2]))
        with pytest.raises(ArtifactNotFound):
            await store.get_content(ID)

    async def test_a_chunk_sent_again_counts_once(self, store: Store) -> None:
        upload = await store.begin_content()
        for n in (0, 0, 1, 1, 2):
            await store.add_chunk(upload, n, CHUNKS[n])
        first = await store.seal_content(upload, ID, len(WHOLE))
        assert await store.seal_content(upload, ID, len(WHOLE)) == first  # its answer may have been lost
        assert await read(store) == WHOLE

    async def test_a_sealed_content_takes_no_more_chunks(self, store: Store) -> None:
        upload = await store.begin_content()
        await store.add_chunk(upload, 0, WHOLE)
        await store.seal_content(upload, ID, len(WHOLE))
        with pytest.raises(Refused, match="begin it again"):
            await store.add_chunk(upload, 1, b"more")
        assert await read(store) == WHOLE

    async def test_an_empty_content_is_one_too(self, store: Store) -> None:
        attempt = await start(store, await register(store))
        empty = await bring(store)
        assert isinstance(await record(attempt, content_id=empty), Committed)
        assert (await store.get_content(empty)).chunks == 0
        assert (await store.list_artifacts("r"))[0].size_bytes == 0

    async def test_what_is_not_there_is_not_found(self, store: Store) -> None:
        for unknown in ("00" * 32, "../../etc/passwd", "", "é"):
            with pytest.raises(ArtifactNotFound):
                await store.get_content(unknown)
            with pytest.raises(ArtifactNotFound):
                await store.read_chunk(unknown, 0)
        await bring(store, *CHUNKS)
        with pytest.raises(ArtifactNotFound):
            await store.read_chunk(ID, len(CHUNKS))
        with pytest.raises(RunNotFound):
            await store.list_artifacts("nobody")

    async def test_a_corrupt_chunk_is_detected_when_it_is_read(self, store: Store, place: Place) -> None:
        await bring(store, *CHUNKS)
        await place.damage_chunk(ID, 1)
        assert await store.read_chunk(ID, 0) == CHUNKS[0]
        with pytest.raises(StoreCorrupt, match="chunk 1 fails its checksum"):
            await store.read_chunk(ID, 1)

    async def test_a_superseded_entry_takes_its_artifact_off_the_list(self, store: Store) -> None:
        worker = await register(store)
        attempt = await start(store, worker)
        await bring(store, *CHUNKS)
        await record(attempt, "first")
        await record(attempt, "second")
        await attempt.settle(Failed(failure=FAILURE))
        await store.update_run("r", lambda run, now: retry(run, now, supersede=(1,)))
        assert [one.name for one in await store.list_artifacts("r")] == ["second"]

    # --- once, and for how long -----------------------------------------------------------------------------

    async def test_content_of_several_runs_outlives_the_deletion_of_one(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store)
        for run_id in ("a", "b"):
            attempt = await start(store, worker, run_id)
            await bring(store, *CHUNKS)
            await record(attempt)
            await attempt.settle(Succeeded(result=b"1"))
        await swept(store, place)  # the second upload, which found the first
        await store.delete_run("a")
        assert await swept(store, place) == 0
        assert await read(store) == WHOLE
        await store.delete_run("b")
        assert await swept(store, place) == len(CHUNKS) + 1
        with pytest.raises(ArtifactNotFound):
            await store.get_content(ID)

    async def test_a_chunk_that_two_contents_share_stays_with_the_other(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store)
        for run_id, chunks in (("a", CHUNKS), ("b", CHUNKS[:2])):
            attempt = await start(store, worker, run_id)
            await record(attempt, content_id=await bring(store, *chunks))
            await attempt.settle(Succeeded(result=b"1"))
        await store.delete_run("a")
        assert await swept(store, place) == len(CHUNKS) + 1
        assert await read(store, hashlib.sha256(b"".join(CHUNKS[:2])).hexdigest()) == b"".join(CHUNKS[:2])

    async def test_orphans_are_swept_in_small_batches(self, store: Store, place: Place) -> None:
        await store.begin_content()
        await bring(store, *CHUNKS)
        upload = await store.begin_content()
        await store.add_chunk(upload, 0, b"left behind")
        place.clock.advance(DAY_US)
        gone: list[int] = []
        while count := await store.sweep_artifacts(2):
            assert count <= 2
            gone.append(count)
        assert sum(gone) == 1 + len(CHUNKS) + 1 + 2
        with pytest.raises(Refused, match="begin it again"):
            await store.add_chunk(upload, 1, b"more")

    async def test_what_is_on_its_way_in_is_not_swept(self, store: Store, place: Place) -> None:
        upload = await store.begin_content()
        for n, chunk in enumerate(CHUNKS):
            place.clock.advance(DAY_US // 48)
            assert await store.sweep_artifacts(100) == 0
            await store.add_chunk(upload, n, chunk)
        await store.seal_content(upload, ID, len(WHOLE))
        attempt = await start(store, await register(store))
        place.clock.advance(DAY_US // 48)
        assert await store.sweep_artifacts(100) == 0
        assert isinstance(await record(attempt), Committed)
        assert await swept(store, place) == 0
        assert await read(store) == WHOLE

    async def test_bringing_a_known_content_keeps_it_from_the_sweep(self, store: Store, place: Place) -> None:
        await bring(store, *CHUNKS)
        place.clock.advance(DAY_US)
        attempt = await start(store, await register(store))
        await bring(store, *CHUNKS)
        await store.sweep_artifacts(100)  # takes the second upload, not what it found
        assert isinstance(await record(attempt), Committed)
        assert await read(store) == WHOLE

    async def test_a_content_half_swept_is_not_referred_to(self, store: Store, place: Place) -> None:
        await bring(store, *CHUNKS)
        place.clock.advance(DAY_US)
        assert await store.sweep_artifacts(1) == 1
        attempt = await start(store, await register(store))
        assert isinstance(await record(attempt), RefusedChange)
        await bring(store, *CHUNKS)
        assert isinstance(await record(attempt), Committed)
        await swept(store, place)
        assert await read(store) == WHOLE
