"""The database guards artifacts and the parts used alone, too: raw SQL that breaks a law is refused."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
from msgspec import structs

from holdfast.clock import SystemClock
from holdfast.model import Committed, NewArtifact
from holdfast.store.sqlite import SQLiteStore
from tests.store.shapes import change, claimed

CONTENT = b"kelp"


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    """A store where run 1 has an artifact of content 1, and content 2 is on its way in; owner "a" has everything."""
    path = tmp_path / "runs.db"
    async with SQLiteStore(path, clock=SystemClock()) as store:
        (claim,) = await claimed(store, "r")
        upload = await store.begin_content()
        await store.add_chunk(upload, 0, CONTENT)
        content = await store.seal_content(upload, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
        new = NewArtifact(name="a", id=content.id, media_type="text/plain")
        assert isinstance((await store.commit([structs.replace(change(claim), beside=(new,))]))[0], Committed)
        await store.add_chunk(await store.begin_content(), 0, CONTENT)
        await store.save_state_of("a", b"1", 0)
        await store.save_checkpoint_of("a", b"1", None, 5)
        yield path


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("UPDATE contents SET sha256 = NULL WHERE key = 1", "referred to stays"),
        ("UPDATE contents SET sha256 = zeroblob(32) WHERE key = 1", "referred to stays"),
        ("UPDATE contents SET sha256 = x'00' WHERE key = 2", "CHECK"),
        ("DELETE FROM contents WHERE key = 1", "FOREIGN KEY"),
        ("DELETE FROM chunks", "FOREIGN KEY"),
        ("INSERT INTO artifacts (run, position, name, content, media_type, at_us) VALUES (1, 9, 'b', 2, '', 0)",
         "refers to a whole content"),
        ("INSERT INTO artifacts (run, position, name, content, media_type, at_us) VALUES (1, 1, 'b', 1, '', 0)",
         "UNIQUE"),
        ("INSERT INTO chunks (sha256, size_bytes, encoding, body) SELECT sha256, 1, 'raw', x'' FROM chunks", "UNIQUE"),
        ("UPDATE states SET version = version", "only rises"),
        ("UPDATE states SET state = NULL", "CHECK"),
        ("UPDATE owners SET checkpoint_n = 0", "only rise"),
        ("INSERT INTO owned_checkpoints SELECT * FROM owned_checkpoints", "UNIQUE"),
        ("DELETE FROM owners", "FOREIGN KEY"),
    ],
)  # fmt: skip
async def test_raw_sql_that_breaks_a_law_of_what_is_kept_is_refused(path: Path, sql: str, why: str) -> None:
    raw = apsw.Connection(str(path))
    try:
        raw.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(apsw.ConstraintError, match=why):
            raw.execute(sql)
    finally:
        raw.close()
