"""Namespaces of the kernel: a disk of its own size, a folder that is read-only, a container's view of processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes.harness import ROOT

_AS_USER = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]


def need_namespaces() -> None:
    """Skip, loudly, where the kernel forbids namespaces of mounts and processes."""
    if shutil.which("unshare") is None:
        pytest.skip("SKIPPED LOUDLY: there is no `unshare` here, so no disk can be filled in isolation")
    tried = subprocess.run(
        ["unshare", *_AS_USER, "--mount", "--pid", "--fork", "sh", "-c", "mount -t tmpfs none /mnt"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tried.returncode != 0:
        pytest.skip(f"SKIPPED LOUDLY: this kernel forbids namespaces: {tried.stderr.strip()}")


def in_namespace(script: str, *flags: str) -> subprocess.Popen[str]:
    """Run a shell script in namespaces of its own (mounts always). `$PYTHON` is this interpreter."""
    return subprocess.Popen(
        ["unshare", *_AS_USER, "--mount", *flags, "sh", "-ec", script],
        cwd=ROOT, env={**os.environ, "PYTHON": sys.executable},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def on_small_disk(folder: Path, size: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script with a disk of this size mounted at `folder`."""
    process = in_namespace(f"mount -t tmpfs -o size={size} tmpfs {folder}\n{script}")
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
