"""Which file systems may hold the store: SQLite's locks and shared memory need a local one."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from holdfast.errors import StoreRefused, StoreUnavailable

NETWORK_TYPES = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.glusterfs", "lustre",
        "afs", "afpfs", "webdav", "davfs", "fuse.davfs2", "fuse.sshfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone",
        "fuse.gcsfuse", "fuse.nfs", "gpfs", "beegfs", "orangefs", "ocfs2", "gfs2", "ncpfs", "coda",
    }
)  # fmt: skip
"""Types whose locks or whose shared memory do not reach every host that can see the file."""


def mount_type(mountinfo: str, path: str) -> str | None:
    """The type of the file system that holds the absolute `path`, by the text of `/proc/self/mountinfo`."""
    best, kind = "", None
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields, source = before.split(), after.split()
        if not separator or len(fields) < 5 or not source:
            continue
        point = _unescape(fields[4])
        # A later line of the same mount point hides the earlier one.
        if _holds(point, path) and len(point) >= len(best):
            best, kind = point, source[0]
    return kind


def _holds(point: str, path: str) -> bool:
    return point == "/" or path == point or path.startswith(point.rstrip("/") + "/")


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def refuse_network(kind: str | None, path: Path) -> None:
    """Raise StoreRefused when `kind` is a network file system."""
    if kind is not None and kind.lower() in NETWORK_TYPES:
        raise StoreRefused(
            f"{path} is on a network file system ({kind}): SQLite's locks do not hold there, and the store would be "
            "corrupted by a second host; put it on a local disk"
        )


def check_place(path: Path) -> None:
    """Raise StoreUnavailable or StoreRefused when no store can live at the absolute `path`, saying why."""
    if path.is_dir():
        raise StoreUnavailable(f"{path} is a folder; name a file in it, such as {path / 'holdfast.db'}")
    folder = path.parent
    if not folder.is_dir():
        raise StoreUnavailable(
            f"the folder {folder} does not exist; create it, or name another place for the store"
        )
    refuse_network(_type_of(folder.resolve()), path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreUnavailable(
            f"the folder {folder} is read-only for this user: the store keeps files beside {path.name}; "
            "allow writing there, or name another place"
        )
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise StoreUnavailable(f"{path} is not a regular file; name another place for the store")
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise StoreUnavailable(f"{path} is read-only for this user; allow reading and writing it")


def create_private(path: Path) -> None:
    """Create the file for its owner alone; SQLite gives its companions the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass  # it is there already
    except OSError as error:
        raise StoreUnavailable(f"cannot create {path}: {error.strerror}") from error


def identity(path: str) -> tuple[int, int] | None:
    """Device and inode of the file, None when it is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _type_of(folder: Path) -> str | None:
    if sys.platform == "linux":
        try:
            return mount_type(Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape"), str(folder))
        except OSError:
            return None
    import psutil

    mounts = [each for each in psutil.disk_partitions(all=True) if _holds(each.mountpoint, str(folder))]
    return max(mounts, key=lambda each: len(each.mountpoint)).fstype if mounts else None
