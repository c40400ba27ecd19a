"""Artifacts in real processes: memory that does not grow with them, a disk that fills, a kill on the way in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes.harness import ROOT, Scene
from tests.processes.namespaces import need_namespaces, on_small_disk


def kept(folder: Path, mib: int, *cache_kib: str) -> dict[str, float]:
    """Keep an artifact of so many MiB in a process of its own, and read it back; what that process tells."""
    command = [sys.executable, "-m", "tests.processes.artifact_scene", str(folder), str(mib), *cache_kib]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    told: dict[str, float] = json.loads(done.stdout)
    assert told["right"]
    assert told["steps"] > 5, "the steps of another run went on meanwhile"
    return told


def test_memory_does_not_grow_with_the_artifact(tmp_path: Path) -> None:
    told = kept(
        tmp_path, 64, "2048"
    )  # with a small page cache of SQLite's: it grows to its size, and no further
    assert told["grew_mb"] < 40, told


@pytest.mark.torture
@pytest.mark.timeout(300)
def test_an_artifact_of_a_gigabyte_takes_no_more_memory(tmp_path: Path) -> None:
    told = kept(tmp_path, int(os.environ.get("MIB", "1024")))
    print(told)
    assert told["grew_mb"] < 120, told  # 64 MiB of it are the page cache
    assert told["step_p99_ms"] < 1000, told


def test_a_full_disk_makes_an_upload_wait_and_loses_nothing(scene: Scene) -> None:
    need_namespaces()
    disk = scene.folder / "disk"
    disk.mkdir()
    done = on_small_disk(disk, "40m", f"$PYTHON -m tests.processes.artifact_full_scene {disk}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "listed_when_full": 0, "right": True, "failures": 0, "attempts": 1,
    }  # fmt: skip
