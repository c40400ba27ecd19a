"""State, checkpoints and progress used alone: typed, durable, safe between processes, watched."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from holdfast import CheckpointError, Checkpoints, Progress, State, open_store
from holdfast.client import ProgressView
from holdfast.errors import (
    CheckpointNotFound,
    Conflict,
    NotSerializable,
    ProgressNotFound,
    StateNotFound,
    UsageError,
)
from holdfast.store.protocol import Store
from tests.conformance.test_sqlite import SqlitePlace


@dataclass
class Tide:
    height: int = 0
    seen: list[str] = field(default_factory=list)


@dataclass
class Other:
    name: str


# --- state --------------------------------------------------------------------------------------------------


async def test_a_state_comes_back_in_its_type(store: Store) -> None:
    assert await State(store, "t", Tide).save(Tide(3, ["crab"])) == 1
    state = State(store, "t", Tide)
    assert await state.load() == Tide(3, ["crab"])
    assert state.version == 1


async def test_a_state_is_there_after_everything_was_closed(tmp_path: Path) -> None:
    for height in (1, 2):
        async with open_store(tmp_path / "x.db") as store:
            state = State(store, "t", Tide, default=Tide())
            tide = await state.load()
            assert tide.height == height - 1
            await state.save(Tide(height))


async def test_nothing_saved_is_not_found_or_the_default(store: Store) -> None:
    state = State(store, "t", Tide)
    with pytest.raises(StateNotFound, match="'t'"):
        await state.load()
    with pytest.raises(StateNotFound):
        await state.delete()
    with_default = State(store, "t", Tide, default=Tide(7))
    first = await with_default.load()
    first.seen.append("changed")
    assert await with_default.load() == Tide(7)  # the default is nobody's to change


async def test_a_writer_that_did_not_see_the_newest_is_refused(store: Store) -> None:
    one, two = State(store, "t", Tide), State(store, "t", Tide)
    await one.save(Tide(1))
    with pytest.raises(Conflict, match="load it again"):
        await two.save(Tide(2))
    await two.load()
    await two.save(Tide(2))
    with pytest.raises(Conflict):
        await one.save(Tide(3))
    assert await one.load() == Tide(2)
    await two.save(Tide(4))
    assert await one.save(Tide(5), over=True) == 4
    await one.save(Tide(6))


async def test_a_writer_that_saw_what_was_deleted_is_refused(store: Store) -> None:
    one, two = State(store, "t", Tide), State(store, "t", Tide)
    await one.save(Tide(1))
    await two.load()
    await two.delete()
    await two.save(Tide(2))
    with pytest.raises(Conflict):
        await one.save(Tide(3))


async def test_a_state_of_another_type_is_refused_on_both_ways(store: Store) -> None:
    with pytest.raises(NotSerializable, match="the state of 't'"):
        await State(store, "t", Tide).save(Other("x"))  # type: ignore[arg-type]
    await State(store, "t", Other).save(Other("x"))
    state = State(store, "t", int)
    with pytest.raises(NotSerializable, match="the state of 't'"):
        await state.load()
    with pytest.raises(Conflict):  # it has seen nothing: what is there is not overwritten
        await state.save(5)


@pytest.mark.parametrize("id", ["", "x" * 201, "a\nb", 5])
def test_an_id_that_no_line_can_hold_is_refused(id: Any) -> None:
    for part in (Checkpoints, Progress):
        with pytest.raises(UsageError, match="the id of a part"):
            part(None, id)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the id of a part"):
        State(None, id, int)  # type: ignore[arg-type]


WRITER = """
import asyncio, sys
from holdfast import Checkpoints, State, open_store

async def main(path, who):
    async with open_store(path) as store:
        state = State(store, "count", int, default=0)
        kept = Checkpoints(store, "kept", keep=1000)
        for n in range(50):
            await state.update(lambda count: count + 1)
            await kept.save([who, n])

asyncio.run(main(*sys.argv[1:]))
"""


async def test_writers_in_two_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    async with open_store(path) as store:
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(path), who], stderr=subprocess.PIPE)
            for who in "ab"
        ]
        for writer in writers:
            _, err = await asyncio.to_thread(writer.communicate, timeout=50)
            assert writer.returncode == 0, err
        assert await State(store, "count", int).load() == 100
        kept = Checkpoints(store, "kept")
        listed = await kept.list()
        assert [one.n for one in listed] == list(range(1, 101))
        states = [await kept.restore(list[object], n=one.n) for one in listed]
    for who in "ab":
        assert [n for writer, n in states if writer == who] == list(range(50))


# --- checkpoints --------------------------------------------------------------------------------------------


async def test_checkpoints_are_saved_restored_listed_and_deleted(store: Store) -> None:
    kept = Checkpoints(store, "t", keep=2)
    numbers = [await kept.save(Tide(n), name="low" if n == 1 else None) for n in range(5)]
    assert numbers == [1, 2, 3, 4, 5]
    assert [(one.n, one.name, one.good) for one in await kept.list()] == [
        (2, "low", True), (4, None, True), (5, None, True),
    ]  # fmt: skip
    assert await kept.restore(Tide) == Tide(4)
    assert await kept.restore(Tide, n=4) == Tide(3)
    assert await kept.restore(Tide, name="low") == Tide(1)
    await kept.delete(5)
    assert await kept.restore(Tide) == Tide(3)
    for missing in (kept.delete(5), kept.restore(Tide, n=1), Checkpoints(store, "u").restore(Tide)):
        with pytest.raises(CheckpointNotFound):
            await missing


async def test_a_corrupt_newest_checkpoint_is_said_and_the_one_before_used(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Checkpoints(store, "t")
    for height in range(3):
        await kept.save(Tide(height))
    place = SqlitePlace(tmp_path / "parts.db", None)  # type: ignore[arg-type]
    await place.damage_checkpoint_of("t", 3)
    with caplog.at_level(logging.WARNING, "holdfast.checkpoints"):
        assert await kept.restore(Tide) == Tide(1)
    assert "'t': corrupt checkpoints [3] passed over, 2 used" in caplog.text
    assert [one.good for one in await kept.list()] == [True, True, False]
    with pytest.raises(CheckpointError, match="checksum"):
        await kept.restore(Tide, n=3)
    for n in (1, 2):
        await place.damage_checkpoint_of("t", n)
    with pytest.raises(CheckpointError, match="none of its 3"):
        await kept.restore(Tide)


async def test_a_checkpoint_that_does_not_fit_its_type_is_kept(store: Store) -> None:
    kept = Checkpoints(store, "t")
    await kept.save(Tide(1))
    with pytest.raises(CheckpointError, match=r"checkpoint 1 of 't'.*is kept"):
        await kept.restore(Other)
    assert await kept.restore(Tide) == Tide(1)


async def test_checkpoints_refuse_what_cannot_be(store: Store) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Checkpoints(store, "t", keep=0)
    kept = Checkpoints(store, "t")
    for name in ("", "a\nb", "x" * 201):
        with pytest.raises(UsageError, match="name"):
            await kept.save(1, name=name)
    with pytest.raises(UsageError, match="not both"):
        await kept.restore(int, n=1, name="x")
    with pytest.raises(NotSerializable):
        await kept.save(object())


# --- progress -----------------------------------------------------------------------------------------------


async def test_progress_has_percent_and_survives_its_reporter(tmp_path: Path) -> None:
    async with open_store(tmp_path / "x.db") as store:
        await Progress(store, "p").update(3, 12, "the third reef", phase="diving")
    async with open_store(tmp_path / "x.db") as store:
        seen = await Progress(store, "p").get()
        assert (seen.current, seen.total, seen.percent) == (3, 12, 25.0)
        assert (seen.description, seen.phase) == ("the third reef", "diving")
        await Progress(store, "p").update(0, 0)
        assert (await Progress(store, "p").get()).percent == 100
        await Progress(store, "p").update(5)
        assert (await Progress(store, "p").get()).percent is None


async def test_progress_that_nobody_reported_is_not_found(store: Store) -> None:
    progress = Progress(store, "p")
    with pytest.raises(ProgressNotFound, match="'p'"):
        await progress.get()
    with pytest.raises(ProgressNotFound, match="'p'"):
        await progress.delete()
    with pytest.raises(UsageError, match=r"Progress\.update must be a finite number"):
        await progress.update(float("nan"))


async def collected(views: AsyncIterator[ProgressView], into: list[float]) -> None:
    async for view in views:
        into.append(view.current)


async def test_every_watcher_is_told_and_one_that_comes_late_begins_with_the_newest(store: Store) -> None:
    progress = Progress(store, "p")
    early: list[float] = []
    late: list[float] = []
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(collected(progress.watch(), early))
        for current in (1, 2, 3):
            await progress.update(current, 3)
            while not early or early[-1] != current:  # noqa: ASYNC110
                await asyncio.sleep(0)
        tasks.create_task(collected(Progress(store, "p").watch(), late))
        while not late:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await progress.delete()  # the watchers end
    assert early == [1, 2, 3]
    assert late == [3]


REPORTER = """
import asyncio, sys
from holdfast import Progress, open_store

async def main(path):
    async with open_store(path) as store:
        for line in sys.stdin:
            await Progress(store, "p").update(int(line), 10)

asyncio.run(main(sys.argv[1]))
"""


async def test_a_watcher_hears_of_a_reporter_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    async with open_store(path) as store, asyncio.timeout(30):
        views = Progress(store, "p").watch()
        for start in (1, 5):  # a reporter that ends, and another one
            reporter = subprocess.Popen(
                [sys.executable, "-c", REPORTER, str(path)], stdin=subprocess.PIPE, text=True
            )
            assert reporter.stdin is not None
            for current in (start, start + 1):
                reporter.stdin.write(f"{current}\n")
                reporter.stdin.flush()
                assert (await anext(views)).current == current
            reporter.stdin.close()
            assert await asyncio.to_thread(reporter.wait, 20) == 0
        await views.aclose()  # type: ignore[attr-defined]
