"""The artifacts of a run, read from outside: chunk by chunk, each verified, and the whole once more at its end."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from holdfast.client import feed
from holdfast.errors import ArtifactNotFound, PayloadTooLarge, StoreCorrupt
from holdfast.model import Artifact
from holdfast.store.protocol import Store

READ_AT_ONCE_BYTES: Final = 64 * 1024 * 1024
"""What fits one payload fits memory; larger ones are streamed."""


async def found(store: Store, run_id: str, artifact_id: str) -> Artifact:
    """The newest artifact of the run with this id. Raises RunNotFound, ArtifactNotFound."""
    listed = await store.list_artifacts(run_id)
    for one in reversed(listed):
        if one.id == artifact_id:
            return one
    raise ArtifactNotFound(
        f"run {run_id} has no artifact with the id {artifact_id!r}; `holdfast artifacts {run_id}` lists what it has"
    )


async def stream(store: Store, run_id: str, artifact_id: str) -> AsyncIterator[bytes]:
    """The content, chunk by chunk. Raises ArtifactNotFound; StoreCorrupt where it is not what was recorded."""
    await found(store, run_id, artifact_id)
    content = await store.get_content(artifact_id)
    whole = hashlib.sha256()
    for n in range(content.chunks):
        chunk = await feed.patiently(partial(store.read_chunk, artifact_id, n))
        await asyncio.to_thread(whole.update, chunk)
        yield chunk
    if whole.hexdigest() != artifact_id:
        raise StoreCorrupt(
            f"artifact {artifact_id} of run {run_id}: its content is not the one that was recorded"
        )


async def read(store: Store, run_id: str, artifact_id: str) -> bytes:
    """The whole content. Raises PayloadTooLarge over 64 MiB, and what `stream` raises."""
    artifact = await found(store, run_id, artifact_id)
    if artifact.size_bytes > READ_AT_ONCE_BYTES:
        raise PayloadTooLarge(
            f"artifact {artifact.name!r} of run {run_id} is {artifact.size_bytes / 2**20:.0f} MiB, over "
            f"{READ_AT_ONCE_BYTES // 2**20} MiB: `open_artifact` gives it in chunks"
        )
    return b"".join([chunk async for chunk in stream(store, run_id, artifact_id)])
