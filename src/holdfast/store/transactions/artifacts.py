"""Artifacts in the file: contents in chunks, each stored once, brought in before anything refers to them.

Laws of this file:
1. A transaction moves one chunk: whoever commits meanwhile waits for milliseconds, however large the content is.
2. Nothing refers to a content that is not sealed; it is sealed when all of its chunks are there.
3. A content that nothing refers to and nobody touched for an hour is swept: first unsealed, so that nothing can refer
   to it any more, then chunk by chunk.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

from holdfast.errors import ArtifactNotFound, Refused, StoreCorrupt
from holdfast.model import Artifact, Beside, Content, NewArtifact
from holdfast.store.transactions import payloads, reading
from holdfast.store.transactions.connection import Connection

ORPHANED_AFTER_US: Final = 3_600_000_000
"""An upload touches its content with every chunk, an entry follows its upload at once: an hour is far beyond both."""


class Packed(NamedTuple):
    """A chunk as it is stored: made before the transaction, because compressing and hashing take longer than that."""

    sha256: bytes
    size_bytes: int
    encoding: str
    body: bytes


def packed(chunk: bytes) -> Packed:
    """The chunk as it is stored."""
    return Packed(payloads.digest(chunk), len(chunk), *payloads.pack(chunk))


# --- on the way in ------------------------------------------------------------------------------------------


def begin(connection: Connection, now_us: int) -> int:
    """A new content without bytes, not sealed; its key."""
    key: int = connection.value("artifacts.begin_content", (now_us,))
    return key


def add_chunk(connection: Connection, content: int, n: int, chunk: Packed, now_us: int) -> None:
    """Chunk `n` of the content; again is fine. Raises Refused when the content was sealed or swept."""
    connection.run("artifacts.touch_upload", (now_us, content))
    if connection.changed() != 1:
        raise Refused("the upload was given up, or is over: begin it again")
    known: int | None = connection.value("artifacts.chunk_by_hash", (chunk.sha256,))
    if known is None:
        known = connection.value("artifacts.insert_chunk", chunk)
    connection.run("artifacts.add_to_content", (content, n, known))


def seal(connection: Connection, content: int, sha256: bytes, size_bytes: int, now_us: int) -> Content:
    """The content is whole, and has this hash and size. One that is stored already takes its place."""
    known = connection.row("artifacts.sealed", (sha256,))
    if known is not None:
        key, size_bytes, chunks = known
        connection.run("artifacts.touch", (now_us, key))
        if key != content:
            connection.run("artifacts.touch", (0, content))  # to be swept
        return Content(id=sha256.hex(), size_bytes=size_bytes, chunks=chunks)
    measured = connection.row("artifacts.measured", (content,))
    assert measured is not None, "an aggregate has a row"
    chunks, numbered, found_bytes = measured
    if (numbered, found_bytes) != (chunks, size_bytes):
        raise Refused(f"the upload has {found_bytes} of {size_bytes} bytes: begin it again")
    connection.run("artifacts.seal", (sha256, size_bytes, chunks, now_us, content))
    if connection.changed() != 1:
        raise Refused("the upload was given up: begin it again")
    return Content(id=sha256.hex(), size_bytes=size_bytes, chunks=chunks)


def write(connection: Connection, run: int, position: int, new: Beside, now_us: int) -> None:
    """The artifact beside its entry. Raises Refused when its content is not in the store."""
    assert isinstance(new, NewArtifact), "registered for it"
    known = connection.row("artifacts.sealed", (bytes.fromhex(new.id),))
    if known is None:
        raise Refused(f"the content {new.id} of the artifact {new.name!r} is not in the store")
    connection.run("artifacts.insert_artifact", (run, position, new.name, known[0], new.media_type, now_us))


# --- reading ------------------------------------------------------------------------------------------------


def listed(connection: Connection, run_id: str) -> list[Artifact]:
    """What the run made, in order. Raises RunNotFound."""
    return [
        Artifact(
            id=row[0].hex(),
            name=row[1],
            size_bytes=row[2],
            media_type=row[3],
            at=datetime.fromtimestamp(row[4] / 1e6, UTC),
        )
        for row in connection.rows("artifacts.artifacts", (reading.run_key(connection, run_id),))
    ]


def content(connection: Connection, content_id: str) -> Content:
    """What is known of a content. Raises ArtifactNotFound."""
    row = connection.row("artifacts.sealed", (_hash(content_id),))
    if row is None:
        raise ArtifactNotFound(f"no artifact has the id {content_id!r} in {connection.where}")
    return Content(id=content_id, size_bytes=row[1], chunks=row[2])


def read_chunk(connection: Connection, content_id: str, n: int) -> bytes:
    """The bytes of one chunk, verified. Raises ArtifactNotFound, and StoreCorrupt when they fail their checksum."""
    row = connection.row("artifacts.read_chunk", (_hash(content_id), n))
    if row is None:
        raise ArtifactNotFound(
            f"no artifact with the id {content_id!r} and a chunk {n} is in {connection.where}"
        )
    found = payloads.unpack(row[2], row[1], row[0])
    if found is None:
        raise StoreCorrupt(f"artifact {content_id}: its chunk {n} fails its checksum")
    return found


def _hash(content_id: str) -> bytes:
    try:
        return bytes.fromhex(content_id)
    except ValueError:
        return b""


# --- sweeping -----------------------------------------------------------------------------------------------


def sweep(connection: Connection, now_us: int, limit: int) -> int:
    """Delete at most `limit` chunks of contents that nothing refers to; return how many rows are gone."""
    gone = 0
    while gone < limit:
        orphan = connection.row("artifacts.orphans", (now_us - ORPHANED_AFTER_US,))
        if orphan is None:
            break
        connection.run("artifacts.unseal", orphan)
        found = connection.rows("artifacts.some_chunks", (orphan[0], limit - gone))
        for n, chunk in found:
            connection.run("artifacts.drop_from_content", (orphan[0], n))
            connection.run("artifacts.drop_chunk", (chunk,))
        gone += len(found)
        if gone < limit:
            connection.run("artifacts.drop_content", orphan)
            gone += 1
    return gone
