"""`holdfast migrate`: how far a store is, and brought up to date, for both databases."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from holdfast.store.postgres import schema as postgres
from holdfast.store.sqlite import schema as sqlite
from tests.postgres.server import Databases

NEWEST = {"sqlite": len(sqlite.known()), "postgres": len(postgres.known())}


def migrate(url: str, *options: str) -> tuple[int, dict[str, object], str]:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "migrate", *options, "--json", "--store", url],
        capture_output=True,
        text=True,
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        databases: Databases = request.getfixturevalue("databases")
        return databases.empty()
    (tmp_path / "runs.db").touch()
    return f"sqlite:///{tmp_path}/runs.db"


def test_check_changes_nothing_and_its_code_says_what_is_left(url: str) -> None:
    newest = NEWEST[url.partition("://")[0].replace("postgresql", "postgres")]
    for _ in range(2):
        code, told, _ = migrate(url, "--check")
        assert (code, told["version"], told["newest"]) == (6, 0, newest)
    code, told, _ = migrate(url)
    assert (code, told["version"]) == (0, newest)
    code, told, _ = migrate(url, "--check")
    assert (code, told["version"]) == (0, newest)


def test_a_newer_schema_is_refused_by_check_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    (tmp_path / "runs.db").touch()
    assert migrate(url)[0] == 0
    newer = apsw.Connection(str(tmp_path / "runs.db"))
    newer.execute("INSERT INTO holdfast_schema VALUES (9999, 'later', 'x', 0)")
    newer.close()
    code, _, says = migrate(url, "--check")
    assert code == 7
    assert "newer holdfast" in says
