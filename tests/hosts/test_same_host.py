"""A worker that dies is noticed on its host at once, by its lock, and elsewhere by its lease alone."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.heart import WorkerLock
from holdfast.model import RunState
from holdfast.store.postgres import here
from tests.hosts.scene import Hosts, asked
from tests.processes.harness import Scene, lines, serve, stop, wait_until

LET_GO_S = (
    0.6  # a moment beside the 30 s of a lease, a long one beside what it takes: 30 to 250 ms (measured)
)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of this test's own."""
    folder = tmp_path / "runtime"
    folder.mkdir(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    here.lock_folder.cache_clear()
    yield folder
    here.lock_folder.cache_clear()


def test_the_runs_of_a_killed_worker_go_on_on_its_host_within_a_second(either: Scene) -> None:
    either.start_tally(2_000, 0.01)
    workers = [serve(either.url), serve(either.url)]
    try:
        waited = []
        for _ in range(3):
            wait_until(lambda: lines(either.folder, "executed"))
            holder = next(one for one in workers if one.pid == pid_of(either))
            before = len(lines(either.folder, "acked"))
            wait_until(lambda before=before: len(lines(either.folder, "acked")) > before + 5)  # type: ignore[misc]
            token, began = either.run().token, time.monotonic()
            holder.kill()
            holder.wait()
            seen = len(lines(either.folder, "acked"))
            wait_until(lambda seen=seen: len(lines(either.folder, "acked")) > seen)  # type: ignore[misc]
            waited.append(time.monotonic() - began)
            assert either.run().token == token + 1
            workers = [one for one in workers if one is not holder]
            stop(holder, 0)
            workers.append(serve(either.url))
            assert workers[-1].stdout is not None
            workers[-1].stdout.readline()
        assert sorted(waited)[1] < LET_GO_S, waited  # of three: the machine has others to serve
        assert max(waited) < 1.5, waited  # noticed by looking, had nobody told
    finally:
        for one in workers:
            stop(one)
    assert [worker.alive for worker in asked(either.url, lambda store: store.list_workers())] in ([], [False])


def pid_of(scene: Scene) -> int:
    """The process that executes the run."""
    run = scene.run()
    return next(
        one.pid for one in asked(scene.url, lambda store: store.list_workers()) if one.key == run.worker
    )


def test_a_stopped_worker_is_not_taken_for_a_dead_one_before_its_lease_ends(hosts: Hosts) -> None:
    hosts.start_tally(300, 0.01)
    first = serve(hosts.url, lease=3)
    wait_until(lambda: len(lines(hosts.folder, "acked")) > 5)
    second = serve(hosts.url, lease=3)
    assert second.stdout is not None
    second.stdout.readline()
    try:
        first.send_signal(signal.SIGSTOP)
        seen = len(lines(hosts.folder, "acked"))
        time.sleep(1.0)
        assert len(lines(hosts.folder, "acked")) == seen  # it holds its lock, and its lease
        wait_until(lambda: len(lines(hosts.folder, "acked")) > seen)
    finally:
        stop(first)
        stop(second)
    assert hosts.run().state is RunState.QUEUED or hosts.run().token == 2


def test_a_worker_of_another_folder_is_trusted_until_its_lease_ends(hosts: Hosts, tmp_path: Path) -> None:
    """Another container, another user, another machine: its lock is nowhere here, and says nothing."""
    apart = tmp_path / "apart"
    apart.mkdir(0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(apart)
    try:
        hosts.start_tally(300, 0.01)
        first = serve(hosts.url, lease=3)
    finally:
        del os.environ["XDG_RUNTIME_DIR"]
    wait_until(lambda: len(lines(hosts.folder, "acked")) > 5)
    assert list(apart.glob("holdfast/*/worker-*.lock"))
    second = serve(hosts.url, lease=3)
    assert second.stdout is not None
    second.stdout.readline()
    try:
        stop(first)
        seen = len(lines(hosts.folder, "acked"))
        time.sleep(1.0)
        assert len(lines(hosts.folder, "acked")) == seen
        wait_until(lambda: len(lines(hosts.folder, "acked")) > seen)
    finally:
        stop(second)


# --- whose locks are asked ------------------------------------------------------------------------------------


def test_only_a_lock_of_this_boot_and_this_very_folder_is_asked(fresh: Path) -> None:
    folder = here.lock_folder()
    assert folder is not None
    assert folder.parent == fresh / "holdfast"
    assert folder.name.startswith(SystemClock().boot_id())
    lock = WorkerLock(folder)
    assert here.lock_at(str(lock.path)) == lock.path
    assert (
        here.lock_at(f"/elsewhere/{folder.name}/{lock.path.name}") == lock.path
    )  # mounted under another name
    other_boot = folder.with_name("0" + folder.name[1:] if folder.name[0] != "0" else "1" + folder.name[1:])
    for registered in (
        str(other_boot / lock.path.name), str(fresh / lock.path.name), lock.path.name, "",
        str(folder / "precious"), str(folder / ".." / "worker-1.lock"), f"{folder}/worker-1.lock/../../precious",
    ):  # fmt: skip
        assert here.lock_at(registered) is None
    lock.close()


def test_the_copy_of_a_folder_of_locks_is_another_folder(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a copied container nobody holds what its workers hold here: that must not be their death."""
    folder = here.lock_folder()
    assert folder is not None
    lock = WorkerLock(folder)
    copied = fresh.with_name("copied")
    shutil.copytree(fresh, copied)
    copied.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(copied))
    here.lock_folder.cache_clear()
    assert here.lock_folder() != folder
    assert here.lock_at(str(lock.path)) is None
    lock.close()


@pytest.mark.parametrize("how", ["open to others", "a link", "a file"])
def test_a_folder_that_others_can_write_to_holds_no_locks(
    fresh: Path, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(here.tempfile, "gettempdir", lambda: str(fresh))
    for home in (fresh / "holdfast", fresh / f"holdfast-{os.geteuid()}"):
        if how == "a link":
            home.symlink_to(fresh)
        elif how == "a file":
            home.touch()
        else:
            home.mkdir()
            home.chmod(0o777)
    with caplog.at_level(logging.WARNING):
        assert here.lock_folder() is None
        assert here.lock_folder() is None
    (said,) = [record.getMessage() for record in caplog.records]
    assert "that a worker died is noticed when its lease ends" in said
    assert "remove it" in said
    assert here.lock_at("/anywhere/worker-1.lock") is None


def test_the_folder_for_temporary_files_serves_where_no_runtime_folder_is_ours(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(here.tempfile, "gettempdir", lambda: str(fresh))
    for given in ("", "relative", str(fresh / "nowhere")):
        monkeypatch.setenv("XDG_RUNTIME_DIR", given)
        here.lock_folder.cache_clear()
        folder = here.lock_folder()
        assert folder is not None
        assert folder.parent == fresh / f"holdfast-{os.geteuid()}"
        assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_locks_that_are_free_for_a_day_are_removed_and_held_or_fresh_ones_stay(fresh: Path) -> None:
    folder = here.lock_folder()
    assert folder is not None
    held, fresh_one, old = WorkerLock(folder), folder / "worker-2.lock", folder / "worker-1.lock"
    before = folder.with_name("an-earlier-boot")
    before.mkdir()
    past = time.time() - here.FORGOTTEN_S - 60
    for path in (fresh_one, old, folder / "precious", before / "worker-3.lock"):
        path.touch()
    for path in (held.path, old, folder / "precious", before / "worker-3.lock"):
        os.utime(path, (past, past))
    here.lock_folder.cache_clear()
    assert here.lock_folder() == folder
    assert sorted(each.name for each in folder.iterdir()) == sorted(
        [held.path.name, "worker-2.lock", "precious"]
    )
    assert not before.exists()
    held.close()


def test_a_worker_without_a_lock_serves_all_the_same(hosts: Hosts, tmp_path: Path) -> None:
    """The folder went away after it was found, as a runtime folder does at a logout."""
    hosts.start_tally(5)
    code = (
        "import asyncio, shutil, sys\nfrom holdfast.store.postgres import here\n"
        "found = here.lock_folder()\nshutil.rmtree(found.parent)\n"
        "from tests.processes.serve import main\nasyncio.run(main(sys.argv[1], {'until_idle': True}))\n"
    )
    apart = tmp_path / "apart"
    apart.mkdir(0o700)
    done = subprocess.run(
        [sys.executable, "-c", code, hosts.url], capture_output=True, text=True, check=False, timeout=50,
        env={**os.environ, "XDG_RUNTIME_DIR": str(apart)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "has no lock that tells of its death" in done.stderr
    hosts.check_tally(5, 0)
