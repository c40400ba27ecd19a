"""Folders are measured apart: a disk that answers nobody hides the size of what is on it, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.model import Metric, TreeSample
from holdfast.process.launch import Launched, Launcher
from holdfast.rules.limits import Limits
from holdfast.throttle import Ground, Groups
from holdfast.throttle.apart import HANGS_S, Apart, Surveyor
from holdfast.throttle.space import SCAN_EVERY_S, Space
from holdfast.throttle.watch import Seen
from tests.throttle.dead import DeadDisk, dead_disk
from tests.throttle.trees import python, until

MB = 1_000_000


@pytest.fixture
def dead(tmp_path: Path) -> Iterator[DeadDisk]:
    with dead_disk(tmp_path / "dead") as disk:
        yield disk


def well(folder: Path, size: int = 500_000) -> Apart:
    folder.mkdir()
    (folder / "file").write_bytes(bytes(size))
    return Apart(folder)


def hanging() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "measure workspaces"]


def test_a_folder_is_told_as_it_was_found_in_the_last_round(tmp_path: Path):
    folder, surveyor = well(tmp_path / "well"), Surveyor()
    assert (folder.size(0), folder.free()) == (None, None)
    surveyor.measure([folder])
    assert (folder.size(0) or 0) >= 500_000
    assert folder.free() == pytest.approx(Space(tmp_path).free(), rel=0.1)
    (tmp_path / "well" / "more").write_bytes(bytes(500_000))
    time.sleep(0.1)
    assert (folder.size(500_000, 900_000) or 0) < 900_000, "it asks no disk"
    until(lambda: surveyor.measure([folder]) or (folder.size(500_000, 900_000) or 0) >= 1_000_000, 3)


def test_a_dead_disk_hides_the_size_of_what_is_on_it_and_of_nothing_else(
    dead: DeadDisk, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    gone, also, here = Apart(dead.place), Apart(dead.place / "deeper"), well(tmp_path / "well")
    surveyor, longest_s = Surveyor(), 0.0
    ends_s = time.monotonic() + 3 * HANGS_S + 2
    while time.monotonic() < ends_s:
        began_s = time.monotonic()
        surveyor.measure([gone, also, here])
        longest_s = max(longest_s, time.monotonic() - began_s)
        here.size(0, 10 * MB)  # a limited one is looked through in each round
        time.sleep(0.05)
    assert longest_s < 2.0, "nobody waits for a dead disk"
    assert here.size(0) is not None
    (tmp_path / "well" / "more").write_bytes(bytes(3 * MB))
    until(lambda: surveyor.measure([gone, also, here]) or (here.size(0, 10 * MB) or 0) > 3 * MB, 5)
    assert (gone.size(0), also.size(0)) == (None, None)
    until(lambda: len(hanging()) == 2, 3)  # one for each folder, and not for each round
    told = [one.message for one in caplog.records if one.levelno == logging.WARNING]
    assert len(told) == 2
    assert f"the workspace {dead.place} does not answer" in told[0]
    dead.remove()
    until(lambda: not hanging(), 5)
    until(
        lambda: surveyor.measure([gone]) or gone.size(0) is not None, SCAN_EVERY_S / 2
    )  # as soon as it answers


def test_where_one_folder_hangs_others_on_its_disk_are_asked_last(tmp_path: Path):
    """Each of them may cost a round, and the healthy ones are not to wait for that."""
    asked: list[str] = []
    stuck = threading.Event()

    class Disk(Space):
        def size(self, written_bytes: int, limit_bytes: int | None = None) -> int | None:
            asked.append(self._folder.name)
            if self._folder.name == "hangs" and len(asked) > 1:
                stuck.wait(20)
            return 0

    names = ["hangs", "same", "other"]
    for name in names:
        (tmp_path / name).mkdir()
    folders = [Apart(tmp_path / name, Disk(tmp_path / name)) for name in names]
    surveyor = Surveyor()
    surveyor.measure(folders)
    assert asked == names
    folders[2].device = -1  # as if it were elsewhere
    asked[:] = ["before"]
    try:
        surveyor.measure(folders)
        until(lambda: (surveyor.measure(folders), len(asked) > 2)[1], 3 * HANGS_S)
        assert asked[:4] == ["before", "hangs", "other", "same"]
    finally:
        stuck.set()


def test_a_large_folder_is_not_taken_for_a_dead_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    class Large(Space):
        def size(self, written_bytes: int, limit_bytes: int | None = None) -> int | None:
            time.sleep(HANGS_S / 2)
            return 7

    folders = []
    for n in range(4):
        (tmp_path / str(n)).mkdir()
        folders.append(Apart(tmp_path / str(n), Large(tmp_path / str(n))))
    surveyor = Surveyor()
    ends_s = time.monotonic() + 20
    while any(one.size(0) is None for one in folders):
        assert time.monotonic() < ends_s
        surveyor.measure(folders)
        assert len(hanging()) <= 1
        time.sleep(0.02)
    assert not caplog.records


# --- a worker's watch ---------------------------------------------------------------------------------------


def seen_of(launched: Launched) -> list[Seen]:
    seen: list[Seen] = []
    launched.watched(seen.append)
    return seen


async def soon(so: Callable[[], object], within_s: float = 15.0) -> None:
    async with asyncio.timeout(within_s):
        while not so():  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(0.05)


GROWS = """
import time
kept = []
for _ in range(100):
    kept.append(bytearray(b"x") * 1_000_000)
    time.sleep(0.05)
time.sleep(60)
"""


FILLS = """
import pathlib, sys, time
for number in range(1000):
    (pathlib.Path(sys.argv[1]) / str(number)).write_bytes(b"x" * 100_000)
    time.sleep(0.02)
time.sleep(60)
"""


async def test_runs_on_a_dead_disk_are_watched_held_to_their_limits_and_killed(
    dead: DeadDisk, tmp_path: Path
):
    """And so are all others."""
    launcher = Launcher()
    launcher.groups = Groups(ground=Ground())  # where it is we who hold limits
    well(tmp_path / "well")
    try:
        hangs = launcher.launch(
            python("import time; time.sleep(60)"), Limits(disk="5MB"), workspace=dead.place
        )
        grows = launcher.launch(python(GROWS), Limits(memory="50MB"), workspace=dead.place)
        fills = launcher.launch(
            python(FILLS, str(tmp_path / "well")), Limits(disk="5MB"), workspace=tmp_path / "well"
        )
        of_hangs, of_grows, of_fills = map(seen_of, (hangs, grows, fills))
        await asyncio.wait_for(grows.ended(), 30)
        assert of_grows[-1].moves[-1].metric is Metric.MEMORY
        await asyncio.wait_for(fills.ended(), 30)
        assert of_fills[-1].moves[-1].metric is Metric.WORKSPACE
        looks = len(of_hangs)
        await soon(lambda: len(of_hangs) > looks + 1)
        last: TreeSample = of_hangs[-1].sample
        assert last.processes >= 1 and last.memory_bytes > MB
        assert last.workspace_bytes is None
        began_s = time.monotonic()
        hangs.kill()
        await asyncio.wait_for(hangs.ended(), 10)
        assert time.monotonic() - began_s < 5
    finally:
        dead.revive()
        await launcher.close()
