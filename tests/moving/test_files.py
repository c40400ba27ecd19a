"""A file of runs is verified to the last byte: what is not right is named by its line, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import HoldfastError, InvalidExport, RunNotFound
from holdfast.model import Park, Reason, RunFilter
from holdfast.model.moving import MovedEvent, json_or_base64, payload_of
from holdfast.moving import export_runs, import_runs, verify
from holdfast.moving import lines as file_lines
from holdfast.moving.lines import encode
from holdfast.store import open_store
from holdfast.store.protocol import Store
from holdfast.testing.conformance import MovableClock
from holdfast.testing.conformance.artifacts import bring
from holdfast.testing.conformance.children import bear
from holdfast.testing.conformance.place import new_run, register, start
from holdfast.testing.conformance.population import DONE, everything, full

GOLDEN = Path(__file__).parent / "format-1.jsonl"


async def written(store: Store) -> bytes:
    """A file with runs of several kinds: "a" with everything, the tree "p" above "c", "z" that is queued."""
    worker = await register(store)
    shared = await bring(store, b"text", b"\xff\xfe")
    await (await full(store, worker, "a", shared=shared)).settle(DONE)
    parent = await start(store, worker, "p")
    await bear(parent, "c")
    await parent.settle(Park(reason=Reason.PAUSED))
    await store.create_run(new_run("z"))
    out = io.BytesIO()
    await export_runs(store, None, out, timeout_s=0)
    return out.getvalue()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "from.db", clock=MovableClock()) as store:
        yield store


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "to.db", clock=MovableClock()) as store:
        yield store


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    async def make() -> bytes:
        path = tmp_path_factory.mktemp("file") / "from.db"
        async with open_store(path, clock=MovableClock()) as store:
            return await written(store)

    return asyncio.run(make())


def check(file: bytes) -> None:
    verify(io.BytesIO(file), "F")


def damaged(file: bytes, match: str | None = None) -> str:
    """The error that the file is refused with: it names the file and a line."""
    with pytest.raises(InvalidExport, match=match) as caught:
        check(file)
    assert re.match(r"F, line \d+: ", str(caught.value))
    return str(caught.value)


def test_a_whole_file_is_whole(file: bytes) -> None:
    assert verify(io.BytesIO(file), "F").runs == 4
    assert all(line.startswith(b'{"part":"') for line in file.splitlines())


@given(st.data())
def test_any_byte_that_was_changed_is_noticed(file: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(file) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != file[at]))
    changed = file[:at] + bytes([byte]) + file[at + 1 :]
    if at < file.index(b"\n"):  # the header alone may say the same in another way, and then the hash tells
        with pytest.raises(InvalidExport):
            check(changed)
        return
    damaged(changed)


@given(st.data())
def test_a_file_that_was_cut_is_noticed(file: bytes, data: st.DataObject) -> None:
    damaged(file[: data.draw(st.integers(0, len(file) - 1))])


@given(st.data())
def test_lines_that_were_swapped_left_out_or_doubled_are_noticed(file: bytes, data: st.DataObject) -> None:
    lines = file.splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 1))
    other = data.draw(st.integers(0, len(lines) - 1).filter(lambda other: lines[other] != lines[at]))
    swapped = list(lines)
    swapped[at], swapped[other] = swapped[other], swapped[at]
    damaged(b"".join(swapped))
    damaged(b"".join([*lines[:at], *lines[at + 1 :]]))
    damaged(b"".join([*lines[: at + 1], *lines[at:]]))


@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    damaged(garbage)


def test_what_is_no_export_says_so(file: bytes) -> None:
    for other in (
        b'{"a":1}\n',
        b"SQLite format 3\0\n",
        b"[]\n",
        b'{"holdfast_export":"x"}\n',
        file[file.index(b"\n") + 1 :],
    ):
        damaged(other, r"line 1: this is no file of `holdfast export`")


def test_a_newer_format_says_so(file: bytes) -> None:
    newer = b'{"part":"header","holdfast_export":2,"compressed":true}\n' + file[file.index(b"\n") + 1 :]
    damaged(newer, "format 2, this holdfast knows 1: upgrade holdfast")


def test_a_field_or_a_line_that_nobody_knows_is_refused(file: bytes) -> None:
    assert "unknown field" in damaged(file.replace(b'{"part":"tag",', b'{"part":"tag","more":1,', 1))
    assert "'more'" in damaged(file.replace(b'{"part":"tag",', b'{"part":"more",', 1))
    assert "`int" in damaged(file.replace(b'"n":1,', b'"n":99999999999999999999,', 1))


def test_a_line_that_is_too_long_is_refused(file: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_lines, "LONGEST_LINE", 1024)
    damaged(file, "longer than")


def test_a_run_that_stands_twice_is_named(file: bytes) -> None:
    first, last = file.index(b'{"part":"run","id":"z"'), file.index(b'{"part":"footer"')
    damaged(file[:last] + file[first:last] + file[last:], "run z stands here twice")


def test_a_content_that_is_not_what_its_id_says_is_refused(file: bytes) -> None:
    damaged(file.replace(b'"text":"text"', b'"text":"texT"'), "are not those that were written")


def test_a_run_with_a_changed_line_is_named_with_where_it_begins(file: bytes) -> None:
    began = file[: file.index(b'{"part":"run","id":"z"')].count(b"\n") + 1
    changed = damaged(file.replace(b'"id":"z","agent":"refactor"', b'"id":"z","agent":"refactoR"'))
    assert f"run z was changed or damaged, somewhere from line {began} on" in changed


def test_more_after_the_end_is_refused(file: bytes) -> None:
    damaged(file + b"{}\n", "more after the end")


def resealed(file: bytes, old: bytes, new: bytes, run: bytes) -> bytes:
    """The file with a line of a run changed by somebody who knows how hashes are made."""
    lines = file.replace(old, new, 1).splitlines(keepends=True)
    first = next(n for n, line in enumerate(lines) if line.startswith(b'{"part":"run","id":"%s"' % run))
    last = next(n for n, line in enumerate(lines) if line.startswith(b'{"part":"end","run":"%s"' % run))
    sha256 = hashlib.sha256(b"".join(lines[first:last])).hexdigest().encode()
    lines[last] = b'{"part":"end","run":"%s","lines":%d,"sha256":"%s"}\n' % (run, last - first, sha256)
    total = hashlib.sha256(b"".join(lines[:-1])).hexdigest().encode()
    lines[-1] = b'{"part":"footer","runs":4,"sha256":"%s"}\n' % total
    return b"".join(lines)


@pytest.mark.parametrize(
    ("old", "new", "run", "why"),
    [
        (b'"state":"waiting","reason":"paused"', b'"state":"queued"', b"p", "only runs that stand still"),
        (b'"state":"waiting","reason":"paused"', b'"state":"running"', b"p", "only runs that stand still"),
        (b'{"parent":"p"', b'{"parent":"a"', b"c", "does not stand above it"),
        (b'"content":"', b'"content":"' + b"0" * 64 + b'","media_type":"', b"a", "line"),
        (b'"position":1,"kind"', b'"position":2,"kind"', b"p", "entry 2 stands where entry 1 belongs"),
    ],
)
def test_what_nobody_wrote_is_refused_though_its_hash_is_right(
    file: bytes, old: bytes, new: bytes, run: bytes, why: str
) -> None:
    assert resealed(file, b"", b"", run) == file
    damaged(resealed(file, old, new, run), why)


# --- what is left behind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [b"a", b"p", b"c", b"z"])
@pytest.mark.parametrize("how", ["cut", "changed", "swapped"])
async def test_nothing_is_there_of_a_run_that_is_damaged(
    file: bytes, other: Store, run: bytes, how: str, tmp_path: Path
) -> None:
    end = file.index(b'{"part":"end","run":"%s"' % run)
    last = file.rindex(b"\n", 0, end - 1) + 1
    if how == "cut":
        wrong = file[: end - 1]
    elif how == "changed":
        wrong = file[:last] + file[last:].replace(b'"at_us":1', b'"at_us":2', 1)
    else:
        before = file.rindex(b"\n", 0, last - 1) + 1
        wrong = file[:before] + file[last:end] + file[before:last] + file[end:]
    with pytest.raises(InvalidExport, match=r"F, line \d+: "):
        await import_runs(other, io.BytesIO(wrong), "F")
    whole = {b"a": set(), b"p": {"a"}, b"c": {"a"}, b"z": {"a", "p", "c"}}[
        run
    ]  # "c" is whole with its tree alone
    assert {found.id for found in await other.list_runs(RunFilter(limit=9))} == whole
    with pytest.raises(RunNotFound):
        await other.get_run(run.decode())
    done = await import_runs(other, io.BytesIO(file), "F")  # and the right one goes on from there
    assert set(done.here) == whole
    assert set(done.imported) == {"a", "p", "c", "z"} - whole


async def test_how_many_runs_came_before_the_damage_is_told(file: bytes, other: Store) -> None:
    with pytest.raises(InvalidExport, match=r"\(3 runs above it are imported\)"):
        await import_runs(other, io.BytesIO(file[: file.index(b'{"part":"end","run":"z"')]), "F")


async def test_a_line_that_breaks_a_law_of_the_store_is_refused_and_leaves_nothing(
    file: bytes, other: Store
) -> None:
    """A hand-made file whose hashes are right: the schema is the last to look."""
    wrong = resealed(file, b'"soft_percent":20', b'"soft_percent":2000', b"a")
    with pytest.raises(HoldfastError):
        await import_runs(other, io.BytesIO(wrong), "F")
    assert await other.list_runs(RunFilter()) == []


@given(st.binary(max_size=50) | st.sampled_from([b"{}", b'"x"', b"1", b"[1, 2]", b'{"a": "\\u00e9"}']))
def test_payloads_come_back_byte_for_byte(payload: bytes) -> None:
    json, base64 = json_or_base64(payload)
    line = encode(MovedEvent(n=1, at_us=1, type="x", payload=json, payload_base64=base64))
    assert b"\n" not in line
    event = msgspec.json.decode(line, type=MovedEvent)
    assert payload_of(event.payload, event.payload_base64) == payload


async def test_a_file_of_every_version_before_is_read_as_it_was_meant(store: Store, other: Store) -> None:
    """The format is compatibility data. A change is by intent: HOLDFAST_REWRITE_GOLDEN=1, and the diff is reviewed; a
    field may be added, with a default; else the number of the format rises, and this file stays beside the new one."""
    now = await written(store)
    if os.environ.get("HOLDFAST_REWRITE_GOLDEN"):
        GOLDEN.write_bytes(now)
    golden = GOLDEN.read_bytes()
    assert golden.splitlines()[1:-1] == now.splitlines()[1:-1]
    assert len((await import_runs(other, io.BytesIO(golden), "F")).imported) == 4


async def test_what_comes_is_what_was(file: bytes, store: Store, other: Store) -> None:
    again = await written(store)
    assert again == file  # on one clock the same runs give the same file
    await import_runs(other, io.BytesIO(file), "F")
    for run_id in ("p", "c", "z"):
        assert await everything(other, run_id) == await everything(store, run_id)
