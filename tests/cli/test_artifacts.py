"""Artifacts in the shell: listed, and written to the named file or nowhere."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.shell import Shell

MAKER = """
from __future__ import annotations
import holdfast

@holdfast.agent
async def maker(ctx: holdfast.Context) -> None:
    await ctx.artifact("report.txt", b"first")
    await ctx.artifact("report.txt", b"second")
    await ctx.artifact("../../escaped.txt", b"label")
    await ctx.artifact("binary", bytes(range(256)))
"""
SECOND = hashlib.sha256(b"second").hexdigest()


@pytest.fixture
def made(shell: Shell) -> Shell:
    (shell.folder / "maker.py").write_text(MAKER)
    shell("run", "maker.py:maker", "--id", "m1")
    return shell


def test_artifacts_are_listed(made: Shell) -> None:
    listed = made("artifacts", "m1", "--json").json
    assert [list(one) for one in listed] == [["id", "name", "size_bytes", "media_type", "at"]] * 4
    assert [one["name"] for one in listed] == ["report.txt", "report.txt", "../../escaped.txt", "binary"]
    assert listed[1]["id"] == SECOND
    table = made("artifacts", "m1").out
    assert "report.txt" in table and "text/plain" in table and SECOND[:12] in table
    assert made("artifacts", "nobody", code=5).out == ""


def test_an_artifact_comes_by_name_id_or_beginning_of_its_id(made: Shell) -> None:
    for which, wanted in (("report.txt", "second"), (SECOND, "second"), (SECOND[:8], "second")):
        assert made("artifact", "get", "m1", which).out == wanted
    got = made("artifact", "get", "m1", "report.txt", "-o", "out.txt", "--json").json
    assert (got["id"], got["file"]) == (SECOND, "out.txt")
    assert (made.folder / "out.txt").read_bytes() == b"second"
    assert "report.txt" in made("artifact", "get", "m1", "reprot.txt", code=5).err


def test_a_name_full_of_dots_writes_only_the_named_output(made: Shell) -> None:
    before = {path.name for path in made.folder.iterdir()}
    assert made("artifact", "get", "m1", "../../escaped.txt").out == "label"
    assert {path.name for path in made.folder.iterdir()} == before
    made("artifact", "get", "m1", "../../escaped.txt", "-o", "here")
    assert {path.name for path in made.folder.iterdir()} == before | {"here"}
    assert not (made.folder.parent.parent / "escaped.txt").exists()


def test_bytes_are_bytes_in_a_pipe_and_never_among_json(made: Shell) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "artifact", "get", "m1", "binary"],
        cwd=made.folder, env=made.environ, capture_output=True, timeout=50, check=True,
    )  # fmt: skip
    assert done.stdout == bytes(range(256))
    assert "-o FILE" in made("artifact", "get", "m1", "binary", "--json", code=2).err


def test_what_was_in_the_file_stays_until_all_is_there(made: Shell) -> None:
    import apsw

    (made.folder / "out").write_text("before")
    (made.folder / "elsewhere").write_text("behind the link")
    (made.folder / "link").symlink_to("elsewhere")
    made("artifact", "get", "m1", "report.txt", "-o", "link")
    assert (made.folder / "elsewhere").read_text() == "behind the link"
    assert (made.folder / "link").read_text() == "second"

    store = next((made.folder / ".holdfast").glob("*.db"))
    connection = apsw.Connection(str(store))
    connection.execute("UPDATE chunks SET body = x'00' WHERE size_bytes = 6")
    connection.close()
    assert "fails its checksum" in made("artifact", "get", "m1", "report.txt", "-o", "out", code=7).err
    assert (made.folder / "out").read_text() == "before"
    assert not [path for path in made.folder.iterdir() if path.name.endswith(".part")]


def test_an_output_that_cannot_be_is_one_clear_error(made: Shell) -> None:
    assert "no/such/out" in made("artifact", "get", "m1", "binary", "-o", "no/such/out", code=2).err
    (made.folder / "folder").mkdir()
    made("artifact", "get", "m1", "binary", "-o", "folder", code=2)


def test_the_json_of_a_run_without_artifacts_is_an_empty_list(shell: Shell) -> None:
    shell("run", "agents.py:hello", "--id", "h1")
    assert json.loads(shell("artifacts", "h1", "--json").out) == []
    assert Path(shell.folder, ".holdfast").exists()


def test_gc_takes_what_no_run_has_any_more(made: Shell) -> None:
    import apsw

    (path,) = (made.folder / ".holdfast").glob("*.db")
    connection = apsw.Connection(str(path))
    for left in (True, False):
        connection.execute("UPDATE contents SET touched_at_us = 0")
        if not left:
            made("delete", "m1", "--yes")
        made("gc", "--yes")
        ((chunks,),) = connection.execute("SELECT count(*) FROM chunks").fetchall()
        assert (chunks > 0) == left
    connection.close()
