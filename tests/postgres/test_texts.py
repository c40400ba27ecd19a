"""What a step records comes back as it was, whatever its texts are: lists for the database are written by us."""

from __future__ import annotations

import pytest

from holdfast.model import (
    Change,
    Claim,
    Committed,
    Entry,
    EntryKind,
    EntryStatus,
    Identity,
    Note,
    Progress,
    RefusedChange,
)
from holdfast.store.postgres import PostgresStore
from tests.store.shapes import claimed

ODD = (
    "",
    "NULL",
    "null",
    "{}",
    "a,b",
    'say "hello"',
    "it's",
    "''; DROP TABLE holdfast.runs; --",
    "back\\slash",
    "\\\\x00",
    "line\nbreak\ttab",
    " spaces ",
    "$1 %s ?",
    "漂 🪸 \U0010ffff",
    '{"a": [1, null]}',
    "E'\\n'",
)


async def test_odd_texts_and_bytes_of_steps_notes_and_progress_come_back_as_they_were(url: str) -> None:
    async with PostgresStore(url) as store:
        (claim,) = await claimed(store, "r")
        entries = tuple(
            Entry(
                Identity(0, text, text, text or None, n),
                EntryKind.STEP,
                EntryStatus.OK,
                bytes(range(256)) + text.encode(),
                text.encode(),
                n,
            )
            for n, text in enumerate(ODD)
        )
        change = Change(
            run=claim.run.key,
            token=claim.run.token,
            position=0,
            entries=entries,
            notes=tuple(Note("log", text.encode()) for text in ODD),
            progress=Progress(current=0.1, total=None, description=ODD[7], phase=ODD[8], started_at_us=0),
            step=ODD[5],
        )
        (answer,) = await store.commit([change])
        assert isinstance(answer, Committed)
        recorded = await store.read_entries("r", payloads=True)
        assert [each.identity for each in recorded] == [each.identity for each in entries]
        assert [each.payload for each in recorded] == [each.payload for each in entries]
        assert [each.args_hash for each in recorded] == [each.args_hash for each in entries]
        notes = (await store.read_events("r", 2, 100))[: len(ODD)]
        assert [note.payload for note in notes] == [text.encode() for text in ODD]
        progress = await store.get_progress(claim.run.key)
        assert progress is not None
        assert (progress.current, progress.description, progress.phase) == (0.1, ODD[7], ODD[8])
        assert (await store.get_run("r")).step == ODD[5]


async def test_a_null_character_refuses_its_own_change_and_no_other(url: str) -> None:
    async with PostgresStore(url) as store:
        bad, good = await claimed(store, "bad", "good")
        entry = Entry(Identity(0, "", "a\0b", None, 0), EntryKind.STEP, EntryStatus.OK, b"1")
        broken = Change(run=bad.run.key, token=bad.run.token, position=0, entries=(entry,))
        refused, done = await store.commit([broken, step_of(good)])
        assert isinstance(done, Committed)
        assert isinstance(refused, RefusedChange)
        assert refused.conflict
        assert "cannot keep a null character in a text" in refused.message
        assert await store.read_entries("bad") == []
        (again,) = await store.commit([step_of(bad)])
        assert isinstance(again, Committed)


@pytest.mark.parametrize("kind", [EntryKind.ONCE, EntryKind.STEP])
async def test_a_null_character_is_refused_by_itself_also_where_a_change_goes_alone(
    url: str, kind: EntryKind
) -> None:
    async with PostgresStore(url) as store:
        bad, good = await claimed(store, "bad", "good")
        entry = Entry(Identity(0, "", "a\0b", None, 0), kind, EntryStatus.OK, b"1")
        broken = Change(run=bad.run.key, token=bad.run.token, position=0, entries=(entry,), step="a\0b")
        for changes in ([broken], [broken, step_of(good)]):
            refused = (await store.commit(changes))[0]
            assert isinstance(refused, RefusedChange)
            assert refused.conflict
        assert len(await store.read_entries("good")) == 1


def step_of(claim: Claim) -> Change:
    entry = Entry(Identity(0, "", "fine", None, 0), EntryKind.STEP, EntryStatus.OK, b"1")
    return Change(run=claim.run.key, token=claim.run.token, position=0, entries=(entry,))
