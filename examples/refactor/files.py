"""Files that survive a crash: whole or not at all, and on the disk before anyone is told so."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

LEFT_OUT = frozenset(
    {
        ".git", ".hg", ".svn", ".venv", ".tox", ".nox", "node_modules", "__pycache__", ".holdfast",
        ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".demo",
    }
)  # fmt: skip
TEMPORARY = ".holdfast-new"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, durable: a rename is only as safe as its folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, content: bytes, mode: int | None = None) -> None:
    """Replace `path` atomically and durably; after a crash it holds the old bytes or the new, never a mixture."""
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        if mode is not None:
            os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    sync(path.parent)


def remove_temporary(path: Path) -> None:
    """Remove what a `write` that was cut short may have left beside `path`."""
    path.with_name(f".{path.name}{TEMPORARY}").unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Add one line that is on the disk when this returns, and never half overwrites another writer's."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
