"""The folder of a run: its own, there again after a crash, gone with the run, and never another place."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from holdfast import Context, Controller, RetryPolicy, RunFailed, agent, workspace
from holdfast.client import Client
from holdfast.errors import Refused, UsageError
from holdfast.store import open_store
from tests.faults import Engine

ONCE = RetryPolicy(attempts=1)


def write(folder: str, name: str) -> int:
    return (Path(folder) / name).write_text(name)


@agent(retry=ONCE)
async def notes(ctx: Context, name: str) -> list[str]:
    """Writes a file in a step, then says what is there."""
    await ctx.step(write, str(ctx.workspace), name)
    return [str(ctx.workspace), *sorted(one.name for one in ctx.workspace.iterdir())]


@agent(retry=ONCE)
async def idles(ctx: Context) -> None:
    """Asks for no folder."""


@agent(retry=ONCE)
async def parent(ctx: Context) -> list[list[str]]:
    own = await ctx.step(write, str(ctx.workspace), "own")
    assert own
    return [
        await ctx.call(notes, "left", key="l"),
        await ctx.call(notes, "right", key="r"),
        [str(ctx.workspace)],
    ]


async def place(engine: Engine, run_id: str = "r") -> Path:
    found = workspace.place_of(engine.store.workspace_folder, await engine.store.get_run(run_id))
    assert found is not None
    return found


async def test_a_workspace_is_beside_the_store_and_for_its_owner_alone(engine: Engine) -> None:
    folder, *names = await engine.finish(notes, "a")
    path = Path(folder)
    assert path.parent == engine.folder / "holdfast.db-workspaces"
    assert path == await place(engine)
    assert names == ["a"]
    for one in (path, path.parent):
        assert stat.S_IMODE(one.stat().st_mode) == 0o700


async def test_a_run_that_asks_for_no_workspace_has_none(engine: Engine) -> None:
    await engine.finish(idles)
    assert not (await place(engine)).exists()
    assert (await engine.client.handle(idles, "r").status()).workspace is None


async def test_files_of_a_workspace_survive_a_crash(engine: Engine) -> None:
    handle = await engine.client.start(notes, "a", id="r")
    assert not await engine.work(notes, crash_at=1)  # the step has written, and nothing is recorded
    assert [one.name for one in (await place(engine)).iterdir()] == ["a"]
    (await place(engine) / "b").touch()
    await engine.work(notes)
    assert (await handle.result())[1:] == ["a", "b"]


async def test_children_have_workspaces_of_their_own(engine: Engine) -> None:
    handle = await engine.client.start(parent, id="r")
    await engine.work(parent, notes)
    left, right, own = await handle.result()
    assert (left[1:], right[1:]) == (["left"], ["right"])
    assert len({left[0], right[0], own[0]}) == 3


async def test_an_id_leads_to_no_other_place(engine: Engine) -> None:
    folders = {
        Path((await engine.finish(notes, "a", id=name))[0])
        for name in ("../../out", "..", "a/b", "A/B", "a-b")
    }
    assert len(folders) == 5
    assert {one.parent for one in folders} == {engine.folder / "holdfast.db-workspaces"}
    assert not (engine.folder.parent / "out").exists()


async def test_a_workspace_is_deleted_with_its_run_and_no_link_is_followed(engine: Engine) -> None:
    outside = engine.folder / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "file").touch()
    path = Path((await engine.finish(notes, "a"))[0])
    other = Path((await engine.finish(notes, "a", id="other"))[0])
    (path / "link").symlink_to(outside)
    (path / "file").symlink_to(outside / "deep" / "file")
    (path / "locked").mkdir()
    (path / "locked" / "in it").touch()
    (path / "locked").chmod(0o000)
    await engine.client.handle(notes, "r").delete()
    assert not path.exists()
    assert (outside / "deep" / "file").exists()
    assert other.is_dir()


async def test_a_workspace_is_deleted_however_deep_it_is(engine: Engine) -> None:
    path = Path((await engine.finish(notes, "a"))[0])
    folder = os.open(path, os.O_RDONLY)
    for _ in range(3_000):  # more than Python calls itself, or a path can name, or files are open
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
    os.close(folder)
    await engine.client.handle(notes, "r").delete()
    assert not path.exists()


async def test_a_link_that_stands_for_a_workspace_is_removed_alone(engine: Engine) -> None:
    outside = engine.folder / "outside"
    path = Path((await engine.finish(notes, "a"))[0])
    shutil.move(path, outside)
    path.symlink_to(outside)
    await engine.client.handle(notes, "r").delete()
    assert not os.path.lexists(path)
    assert (outside / "a").exists()


async def test_a_workspace_that_is_no_folder_any_more_is_refused_with_the_way_out(engine: Engine) -> None:
    handle = await engine.client.start(notes, "a", id="r")
    path = await place(engine)
    path.parent.mkdir()
    path.symlink_to(engine.folder)
    await engine.work(notes)
    with pytest.raises(RunFailed, match=r"is no folder any more: move what is there out of the way"):
        await handle.result()


async def test_an_unfinished_run_keeps_its_workspace(engine: Engine) -> None:
    handle = await engine.client.start(notes, "a", id="r")
    await engine.work(notes, crash_at=1)
    with pytest.raises(Refused):
        await handle.delete()
    await engine.sweep()
    assert (await place(engine) / "a").exists()


async def test_what_a_crash_between_store_and_folder_left_is_swept_and_nothing_else(engine: Engine) -> None:
    gone, kept = (
        Path((await engine.finish(notes, "a"))[0]),
        Path((await engine.finish(notes, "a", id="kept"))[0]),
    )
    await engine.store.delete_run("r")  # and the process ends here
    mine = gone.parent / "my notes"
    mine.mkdir()
    impostor = gone.parent / kept.name.replace("kept", "other")  # of this key in another store
    impostor.mkdir()
    link = gone.parent / "999.link.0123456789abcdef"
    link.symlink_to(engine.folder)
    assert await workspace.sweep(engine.store) == 3
    assert {one.name for one in gone.parent.iterdir()} == {kept.name, "my notes"}
    assert (engine.folder / "holdfast.db").exists()
    assert await workspace.sweep(engine.store) == 0


async def test_a_link_in_place_of_the_folder_of_workspaces_is_never_followed(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path((await engine.finish(notes, "a"))[0])
    other = Path((await engine.finish(notes, "a", id="other"))[0])
    outside = engine.folder / "outside"
    path.parent.rename(outside)
    path.parent.symlink_to(outside)
    await engine.client.handle(notes, "r").delete()
    await engine.store.delete_run("other")
    for _ in range(2):
        with pytest.raises(UsageError, match=r"is a link, and nothing is removed through one: mount"):
            await workspace.sweep(engine.store)
        await Controller(engine.store, retention=0).round()
    assert caplog.text.count("is a link") == 3, "by the delete, and by each round"
    assert (outside / path.name / "a").exists() and (outside / other.name / "a").exists()
    path.parent.unlink()
    outside.rename(path.parent)
    assert await workspace.sweep(engine.store) == 2


async def test_the_controller_sweeps_after_its_retention(engine: Engine) -> None:
    path = Path((await engine.finish(notes, "a"))[0])
    await Controller(engine.store, retention="1d").round()
    assert path.exists()
    await Controller(engine.store, retention=0).round()
    assert not path.exists()


async def test_two_stores_in_one_folder_know_nothing_of_each_others_workspaces(engine: Engine) -> None:
    path = Path((await engine.finish(notes, "a"))[0])
    async with open_store(f"sqlite:///{engine.folder / 'other.db'}") as other:
        assert await workspace.sweep(other) == 0
        assert not (await Client(other).runs())
    assert path.exists()


async def test_show_names_the_workspace(engine: Engine) -> None:
    folder = (await engine.finish(notes, "a"))[0]
    assert (await engine.client.handle(notes, "r").status()).workspace == folder


def test_a_store_without_a_place_for_workspaces_says_what_to_use_instead() -> None:
    with pytest.raises(UsageError, match=r"its store keeps no files on this machine; use ctx\.artifact"):
        workspace.made(None)
