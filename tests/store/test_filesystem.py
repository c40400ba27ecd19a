"""Which file system holds a path, by the kernel's own text; network ones are refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.errors import StoreRefused
from holdfast.store.sqlite import filesystem

MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /home rw,relatime shared:9 - nfs4 server:/home rw,vers=4.2
31 30 0:27 / /home/me/local rw,relatime shared:9 - xfs /dev/vdb rw
32 22 0:28 / /mnt/my\040share rw - cifs //server/share rw
33 22 0:29 / /mnt/ssh rw - fuse.sshfs me@there:/ rw
34 22 0:30 / /host rw - 9p share rw
35 22 0:31 / /over rw - ext4 /dev/vdc rw
36 35 0:32 / /over rw - nfs server:/over rw
37 22 0:33 / /homes rw - tmpfs tmpfs rw
a line that says nothing
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home", "nfs4"),
        ("/home/me", "nfs4"),
        ("/home/me/local/deep", "xfs"),
        ("/home/me/locals", "nfs4"),
        ("/homes/me", "tmpfs"),
        ("/mnt/my share/x", "cifs"),
        ("/mnt/ssh", "fuse.sshfs"),
        ("/host/runs", "9p"),
        ("/over/runs", "nfs"),  # the later mount hides the earlier one
    ],
)
def test_the_innermost_newest_mount_decides(path: str, kind: str) -> None:
    assert filesystem.mount_type(MOUNTS, path) == kind


def test_nothing_known_is_nothing_refused() -> None:
    assert filesystem.mount_type("", "/var") is None
    filesystem.refuse_network(None, Path("/var/runs.db"))


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "lustre", "fuse.sshfs", "afs"]
)
def test_a_network_file_system_is_refused_with_the_reason(kind: str) -> None:
    with pytest.raises(StoreRefused, match=rf"network file system \({kind}\)"):
        filesystem.refuse_network(kind, Path("/home/me/runs.db"))


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs"])
def test_a_local_file_system_is_taken(kind: str) -> None:
    filesystem.refuse_network(kind, Path("/var/runs.db"))


def test_opening_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "_type_of", lambda folder: "nfs4")
    with pytest.raises(StoreRefused, match="locks do not hold"):
        filesystem.check_place(tmp_path / "runs.db")
