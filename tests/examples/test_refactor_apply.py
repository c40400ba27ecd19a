"""One change, in and out of the tree, whatever cuts it short."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from examples.refactor import apply as applying
from examples.refactor import files
from examples.refactor.apply import Conflict, apply, put_half_done_back, undo
from examples.refactor.engines import Refused
from examples.refactor.model import Change, Finding, Job
from examples.refactor.rules import engine_of
from examples.stage import durable

UP = Change(number=1, rule="C4", path="shop/prices.py", places=1)
ROOT = Path(__file__).parents[2]


class Shouting:
    """An engine that writes in capitals."""

    def find(self, job: Job, rules: object, paths: object) -> list[Finding]:
        return []

    def rewrite(self, job: Job, change: Change, source: bytes) -> bytes:
        return source.upper()


class Refusing(Shouting):
    def rewrite(self, job: Job, change: Change, source: bytes) -> bytes:
        raise Refused("not this one")


def path_of(job: Job) -> Path:
    return Path(job.tree, UP.path)


def test_ruff_rewrites_the_file_and_both_hashes_are_told(job: Job) -> None:
    before = files.hash_tree(Path(job.tree))
    applied = apply(job, UP, engine_of(UP.rule))
    after = files.hash_tree(Path(job.tree))
    assert applied.changed and applied.lines_added == applied.lines_removed == 1
    assert b'{"apple": 3' in path_of(job).read_bytes()
    assert (applied.before, applied.after) == (before[UP.path], after[UP.path])
    assert {name for name in after if before[name] != after[name]} == {UP.path}


def test_undo_puts_every_byte_and_the_mode_back(job: Job) -> None:
    path = path_of(job)
    path.write_bytes(b"x = dict(a=1)\r\n\xef\xbb\xbf# odd\r\n")
    path.chmod(0o755)
    original = path.read_bytes()
    apply(job, UP, Shouting())
    assert path.read_bytes() != original
    assert undo(job, UP) == durable.sha256(original)
    assert path.read_bytes() == original
    assert path.stat().st_mode & 0o777 == 0o755


def test_undo_twice_is_undo_once(job: Job) -> None:
    original = path_of(job).read_bytes()
    apply(job, UP, Shouting())
    undo(job, UP)
    undo(job, UP)
    assert path_of(job).read_bytes() == original


def test_apply_twice_ends_with_the_bytes_of_apply_once(job: Job) -> None:
    first = apply(job, UP, engine_of(UP.rule))
    assert apply(job, UP, engine_of(UP.rule)) == first


def test_a_refusal_leaves_the_tree_as_it_was(job: Job) -> None:
    before = files.hash_tree(Path(job.tree))
    applied = apply(job, UP, Refusing())
    assert not applied.changed and applied.refused == "not this one"
    assert files.hash_tree(Path(job.tree)) == before


def test_a_file_that_somebody_else_changed_is_not_overwritten(job: Job) -> None:
    apply(job, UP, Shouting())
    path_of(job).write_text("their work\n")
    with pytest.raises(Conflict, match="changed by somebody else"):
        undo(job, UP)
    assert path_of(job).read_text() == "their work\n"


KILLED = """
import os, signal, sys
from examples.refactor import apply, rules
from examples.refactor.model import Change, Job

job, change, instant = Job(**{job}), Change(**{change}), {instant!r}
replace = os.replace

def dying(source, target):
    ours = os.fspath(target).endswith(change.path)
    if ours and instant == "before the rename":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
    if ours and instant == "after the rename":
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = dying
apply.apply(job, change, rules.engine_of(change.rule))
"""


@pytest.mark.parametrize("instant", ["before the rename", "after the rename"])
def test_a_kill_between_write_and_record_is_repaired(job: Job, instant: str) -> None:
    tree = Path(job.tree)
    original = files.hash_tree(tree)
    script = KILLED.format(job=asdict(job), change=asdict(UP), instant=instant)
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    temporary = path_of(job).with_name(f".prices.py{durable.TEMPORARY}")
    assert temporary.exists() == (instant == "before the rename")

    assert put_half_done_back(job, UP)
    assert files.hash_tree(tree) == original
    assert not temporary.exists()
    assert apply(job, UP, engine_of(UP.rule)).before == original[UP.path]


def test_the_bytes_to_put_back_are_stored_before_the_file_is_touched(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    write = durable.write

    def watched(path: Path, content: bytes, mode: int | None = None) -> None:
        seen.append(path.name)
        write(path, content, mode)

    monkeypatch.setattr(applying.durable, "write", watched)
    apply(job, UP, Shouting())
    assert seen == ["before", "after", "record.json", "prices.py"]


def test_a_copy_is_whole_or_not_there(project: Path, tmp_path: Path) -> None:
    target = tmp_path / "work" / "tree"
    half = target.with_name("tree.partial")
    half.mkdir(parents=True)
    (half / "left-over").write_text("from a copy that was cut short")
    files.copy_tree(project, target)
    assert files.hash_tree(target) == files.hash_tree(project)
    (target / "README.txt").write_text("changed")
    files.copy_tree(project, target)  # a second call finds it done
    assert (target / "README.txt").read_text() == "changed"


def test_a_files_bytes_are_on_the_disk_before_its_name_is_and_the_name_before_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    fsync, replace = os.fsync, os.replace

    def syncing(descriptor: int) -> None:
        seen.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "bytes")
        fsync(descriptor)

    def renaming(source: Path, target: Path) -> None:
        seen.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", renaming)
    durable.write(tmp_path / "a", b"x")
    assert seen == ["bytes", "name", "folder"]
