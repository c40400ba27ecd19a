"""Before the first change: the workspace, the environment of the demo, and what they refuse."""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path

import pytest

from examples.refactor import fetch, files, steps
from holdfast import FatalError


def prepare(project: Path, workspace: Path | None, run_id: str = "r") -> Path:
    job = steps.prepare(
        str(project), None if workspace is None else str(workspace), None, None, False, run_id
    )
    return Path(job.tree)


def test_a_workspace_belongs_to_one_run(project: Path, tmp_path: Path) -> None:
    tree = prepare(project, tmp_path / "job")
    assert prepare(project, tmp_path / "job") == tree  # re-entry
    with pytest.raises(FatalError, match="belongs to the run r"):
        prepare(project, tmp_path / "job", "another")


def test_a_folder_with_something_in_it_is_no_workspace(project: Path, tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "theirs").write_text("x")
    with pytest.raises(FatalError, match="is not empty"):
        prepare(project, tmp_path / "job")


def test_without_a_workspace_there_is_one_beside_the_codebase_for_each_run(project: Path) -> None:
    assert prepare(project, None, "a") == project.with_name("shop-1.0.refactored-a") / "tree"
    assert prepare(project, None, "b") == project.with_name("shop-1.0.refactored-b") / "tree"


def test_a_codebase_is_tested_in_its_own_environment_if_it_has_one(project: Path) -> None:
    assert steps.own_python(project) == sys.executable
    own = project / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text("")
    assert steps.own_python(project) == str(own)


def test_every_package_of_the_demo_is_locked_by_hash_and_no_host_is_named() -> None:
    locks = sorted(fetch.REQUIREMENTS.glob("*.txt"))
    assert [lock.name for lock in locks] == ["bootstrap.txt", "codebase.txt", "environment.txt"]
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text and "index" not in text
        packages = text.replace("\\\n", " ").splitlines()
        assert packages and all("==" in one and "--hash=sha256:" in one for one in packages), lock


def python_in(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_demo_takes_the_newest_python_that_works_and_passes_dead_names_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    monkeypatch.setattr(os, "get_exec_path", lambda: [str(tmp_path / "shims"), str(tmp_path / "bin")])
    python_in(tmp_path / "shims", "python3.13", "exit 127")
    assert fetch.choose_python() is None
    python_in(tmp_path / "bin", "python3.12", "exit 0")
    assert fetch.choose_python() == str(tmp_path / "bin" / "python3.12")
    assert "this is 3.14" in fetch.no_python() and "--codebase" in fetch.no_python()


def test_an_archive_is_unpacked_whole_or_not_at_all(tmp_path: Path, project: Path) -> None:
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(project, arcname="shop-1.0")
    target = tmp_path / "codebase" / "shop-1.0"
    half = target.with_name("shop-1.0.partial")
    half.mkdir(parents=True)
    (half / "left-over").write_text("from one that was killed")
    fetch.unpack(archive, target)
    assert files.hash_tree(target) == files.hash_tree(project)
    assert list(target.parent.iterdir()) == [target]


def test_a_setup_that_fails_says_what_was_said(tmp_path: Path) -> None:
    with pytest.raises(fetch.SetupFailed, match="no such thing"):
        fetch.run([sys.executable, "-c", "raise SystemExit('no such thing')"])
