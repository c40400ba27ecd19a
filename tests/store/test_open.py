"""Opening: by which URL, at which place, and what is refused with which reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import StoreCorrupt, StoreRefused, StoreUnavailable, UsageError
from holdfast.store import open_store
from holdfast.store.sqlite import SQLiteStore, connection, filesystem, schema
from tests.store.shapes import HOUR_US, new_run, new_worker


async def test_a_url_with_three_slashes_is_relative_and_with_four_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("sqlite:///runs.db").url == f"sqlite:///{tmp_path}/runs.db"
    assert open_store(f"sqlite:///{tmp_path}/other.db").url == f"sqlite:///{tmp_path}/other.db"
    assert open_store("runs.db").url == open_store(Path("runs.db")).url == f"sqlite:///{tmp_path}/runs.db"


async def test_the_url_of_a_store_opens_it_again(tmp_path: Path) -> None:
    async with open_store(tmp_path / "runs.db") as store:
        await store.create_run(new_run())
    async with open_store(store.url) as again:
        assert (await again.get_run("r")).agent == "a"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://:memory:", "would forget everything"),
        ("sqlite:///:memory:", "would forget everything"),
        (":memory:", "would forget everything"),
        ("sqlite://", "would forget everything"),
        ("sqlite://runs.db", "write sqlite:///runs.db"),
        ("mysql://here/db", "known are: postgresql, sqlite"),
    ],
)
def test_a_url_that_means_no_file_is_refused_with_the_way_out(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_store(url)


def test_a_driver_that_is_not_installed_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("holdfast.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as where it is not installed
    with pytest.raises(StoreRefused, match=r"pip install 'holdfast\[postgres\]'"):
        open_store("postgresql://here/db")


def test_importing_the_store_package_loads_no_database_library() -> None:
    code = "import sys, holdfast.store; assert not {'apsw', 'sqlite3', 'psycopg'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_a_missing_folder_a_folder_and_a_device_are_named(tmp_path: Path) -> None:
    for place, says in (
        (tmp_path / "no" / "runs.db", "does not exist"),
        (tmp_path, "is a folder"),
        (Path("/dev/null"), "not a regular file"),
    ):
        with pytest.raises(StoreUnavailable, match=says):
            await open_store(place).open()


def test_a_read_only_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever runs this may be root, for whom every folder is writable: ask as the kernel would answer others.
    monkeypatch.setattr(filesystem.os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(StoreUnavailable, match=f"the folder {tmp_path} is read-only"):
        filesystem.check_place(tmp_path / "runs.db")


async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to look like one\n" * 50)
    with pytest.raises(StoreCorrupt, match="no SQLite database"):
        await open_store(path).open()
    assert path.read_text().startswith("not a database")


async def test_a_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with apsw.Connection(str(path)) as theirs:
        theirs.execute("CREATE TABLE theirs (x)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(StoreRefused, match="another program"):
        await open_store(path).open()
    assert path.read_bytes() == before


async def test_a_store_of_a_newer_holdfast_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with open_store(path):
        pass
    newer = apsw.Connection(str(path))
    newer.execute("INSERT INTO holdfast_schema VALUES (9999, 'later', 'x', 0)")
    newer.close()
    with pytest.raises(StoreRefused, match="newer holdfast"):
        await open_store(path).open()


async def test_a_store_made_by_other_migrations_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with open_store(path):
        pass
    other = apsw.Connection(str(path))
    other.execute("UPDATE holdfast_schema SET sha256 = 'x' WHERE version = 1")
    other.close()
    with pytest.raises(StoreCorrupt, match="migration 0001_spine"):
        await open_store(path).open()


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "3.7.0"])
def test_a_sqlite_with_the_wal_reset_bug_is_refused(version: str) -> None:
    with pytest.raises(StoreRefused, match=version):
        connection.check_library(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.54.1", "4.0.0"])
def test_a_sqlite_without_the_wal_reset_bug_is_taken(version: str) -> None:
    connection.check_library(version)


async def test_the_file_and_its_companions_are_for_their_owner_alone(tmp_path: Path) -> None:
    async with open_store(tmp_path / "runs.db") as store:
        await store.create_run(new_run())
        files = sorted(each for each in tmp_path.iterdir() if each.is_file())
        assert [each.name for each in files] == ["runs.db", "runs.db-shm", "runs.db-wal"]
        assert {each.stat().st_mode & 0o777 for each in files} == {0o600}


async def test_every_connection_is_durable(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "runs.db", clock=SystemClock()) as store:
        assert store.renew_lease(await store.register_worker(new_worker(), HOUR_US), HOUR_US, None)
        await store.list_workers()
        engine = store._engine
        assert engine._lease is not None and engine._readers
        for each in (engine._writer, engine._watcher, engine._lease, *engine._readers):
            assert each.value("PRAGMA journal_mode") == "wal"
            assert each.value("PRAGMA synchronous") == 2  # FULL
            assert each.value("PRAGMA foreign_keys") == 1
            assert each.value("PRAGMA page_size") == connection.PAGE_BYTES


async def test_eight_processes_open_a_new_store_at_once(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from holdfast.store import open_store\n"
        "from tests.store.shapes import new_run\n"
        "async def main():\n"
        "    async with open_store(sys.argv[1]) as store:\n"
        "        await store.create_run(new_run(sys.argv[2]))\n"
        "asyncio.run(main())\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "runs.db"), f"r{n}"], stderr=subprocess.PIPE
        )
        for n in range(8)
    ]
    ended = [(each.communicate()[1].decode(), each.returncode) for each in started]
    assert ended == [("", 0)] * 8
    async with open_store(tmp_path / "runs.db") as store:
        for n in range(8):
            await store.get_run(f"r{n}")


def test_the_schema_is_the_sum_of_its_migrations(tmp_path: Path) -> None:
    opened, applied = tmp_path / "opened.db", tmp_path / "applied.db"
    schema.prepare(opened, SystemClock()).close()
    by_hand = apsw.Connection(str(applied))
    for each in schema.known():
        for _ in by_hand.execute(each.sql):
            pass
    by_hand.close()
    mine = _schema_of(opened)
    assert mine.pop("holdfast_schema").startswith("CREATE TABLE holdfast_schema")
    assert mine == _schema_of(applied)


def test_preparing_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    schema.prepare(path, SystemClock()).close()
    before = path.read_bytes()
    schema.prepare(path, SystemClock()).close()
    assert path.read_bytes() == before


def _schema_of(path: Path) -> dict[str, str]:
    opened = apsw.Connection(str(path))
    found = dict(opened.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall())
    opened.close()
    return found
