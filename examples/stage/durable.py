"""Files that survive a crash: whole or not at all, and on the disk before anyone is told so."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

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


def sha256_of(path: Path) -> str:
    """The hash of a file of any size."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def keep(temporary: Path, folder: Path, suffix: str) -> str:
    """Move a finished file into `folder` under the hash of its content, durably; its name there.

    A second call with the same bytes finds its file and changes nothing.
    """
    name = f"{sha256_of(temporary)[:32]}{suffix}"
    sync(temporary)
    os.replace(temporary, folder / name)
    sync(folder)
    return name
