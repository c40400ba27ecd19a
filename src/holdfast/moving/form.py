"""The lines of a run, as a store gives them: what is written to a file, and what a run that is there is compared by."""

from __future__ import annotations

from collections.abc import AsyncIterator

from msgspec.structs import replace

from holdfast.model.moving import Line, MovedArtifact, MovedPaged, MovedSignal, Pages
from holdfast.moving.lines import RunHash, encode
from holdfast.store.protocol import Store


async def parts_of(store: Store, run_id: str, *, with_parent: bool) -> AsyncIterator[Line]:
    """The lines of a run, apart from its end. `with_parent`: whose child it is stands with it."""
    head = await store.read_head(run_id)
    yield head.run if with_parent else replace(head.run, child=None)
    for part in head.parts:
        yield part
    async for page in pages_of(store, run_id, Pages.SIGNALS):
        if isinstance(page, MovedSignal) and page.n > head.run.inbox_no:  # it came later
            break
        yield page
    for pages in (Pages.CHECKPOINTS, Pages.EVENTS, Pages.ARTIFACTS):
        async for page in pages_of(store, run_id, pages):
            yield page


async def pages_of(store: Store, run_id: str, pages: Pages) -> AsyncIterator[MovedPaged]:
    """The parts of one kind, page by page."""
    after = 0
    while page := await store.read_page(run_id, pages, after):
        for part in page:
            yield part
        last = page[-1]
        after = last.position if isinstance(last, MovedArtifact) else last.n


async def hash_of(store: Store, run_id: str, *, with_parent: bool) -> str:
    """The SHA-256 of the lines that the run would have in a file."""
    hashed = RunHash()
    async for part in parts_of(store, run_id, with_parent=with_parent):
        hashed.add(encode(part) + b"\n")
    return hashed.sha256()
