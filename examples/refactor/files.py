"""The files of a codebase: found, hashed, copied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from examples.stage.durable import TEMPORARY, sha256, sync

LEFT_OUT = frozenset(
    {
        ".git", ".hg", ".svn", ".venv", ".tox", ".nox", "node_modules", "__pycache__", ".holdfast",
        ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".demo",
    }
)  # fmt: skip


def left_out(folder: str, names: list[str]) -> set[str]:
    """The names in a folder that are no part of a codebase: caches, version control, environments."""
    return {name for name in names if name in LEFT_OUT or Path(folder, name, "pyvenv.cfg").exists()}


def walk(tree: Path) -> Iterator[str]:
    """Every file of a codebase, as a relative path with forward slashes; no links, no caches."""
    for folder, names, files in os.walk(tree):
        names[:] = sorted(set(names) - left_out(folder, names))
        for name in sorted(files):
            path = Path(folder, name)
            if path.is_symlink() or name.endswith((".pyc", TEMPORARY)):
                continue
            yield path.relative_to(tree).as_posix()


def hash_tree(tree: Path) -> dict[str, str]:
    """The record of a tree: each file and the sha256 of its bytes."""
    return {path: sha256((tree / path).read_bytes()) for path in walk(tree)}


def copy_durably(source: str, target: str) -> None:
    """Copy a file, with its mode and times, onto the disk."""
    shutil.copy2(source, target)
    sync(Path(target))


def copy_tree(source: Path, target: Path) -> None:
    """Copy a codebase; `target` appears whole and durable or not at all, so a second call finds it done."""
    if target.exists():
        return
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, partial, symlinks=True, ignore=left_out, copy_function=copy_durably)
    for folder, _, _ in os.walk(partial):
        sync(Path(folder))
    os.replace(partial, target)
    sync(target.parent)
