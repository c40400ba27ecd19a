"""What disks do: power cuts, no room, no permission, a file that goes away, containers on one file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes.full_scene import STEPS
from tests.processes.harness import ROOT, Scene, ended, lines, serve, stop, wait_until
from tests.processes.namespaces import in_namespace, need_namespaces, on_small_disk


def _cut_power(folder: Path, cuts: int, *synchronous: str) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.processes.power_scene", str(folder), str(cuts), *synchronous]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    told: dict[str, int] = json.loads(done.stdout)
    return told


def test_a_power_cut_loses_nothing_acknowledged_and_leaves_a_consistent_store(tmp_path: Path) -> None:
    told = _cut_power(tmp_path, int(os.environ.get("CUTS", "300")))
    assert (told["inconsistent"], told["lost"]) == (0, 0), told


def test_the_power_cut_test_can_fail(tmp_path: Path) -> None:
    assert _cut_power(tmp_path, 200, "NORMAL")["lost"] > 0


@pytest.mark.parametrize("lease_s", [30.0, 1.5], ids=["within the lease", "past the lease"])
def test_a_full_disk_makes_runs_wait_and_loses_nothing(scene: Scene, lease_s: float) -> None:
    need_namespaces()
    disk = scene.folder / "disk"
    disk.mkdir()
    done = on_small_disk(disk, "8m", f"$PYTHON -m tests.processes.full_scene {disk} {lease_s}")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["stood_at"] == told["still_at"]
    assert (told["total"], told["failures"], told["crashes"]) == (sum(range(STEPS)), 0, 0)
    assert "Traceback" not in done.stderr
    acked = lines(scene.folder, "acked")
    assert len(set(acked)) == 1 + STEPS + sum(n % 7 == 3 for n in range(STEPS))


def test_a_read_only_folder_is_one_clear_error(scene: Scene) -> None:
    need_namespaces()
    script = (
        f"mount -t tmpfs -o ro tmpfs {scene.folder}\n"
        f"$PYTHON -m holdfast --store {scene.folder}/holdfast.db ls || $PYTHON -m holdfast "
        f"start tests/processes/agents.py:crasher --store {scene.folder}/holdfast.db"
    )
    process = in_namespace(script)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 7, err
    assert "Traceback" not in err
    assert "read-only" in err.lower()
    assert str(scene.folder) in err


def test_a_store_deleted_in_use_stops_its_worker_with_the_reason(scene: Scene) -> None:
    scene.start_tally(2000, 0.01)
    worker = serve(scene.url, lease=1.5)
    wait_until(lambda: len(lines(scene.folder, "acked")) > 3)
    for file in scene.folder.glob("holdfast.db*"):
        if file.is_file():
            file.unlink()
    err = stop(worker, 0)
    assert worker.returncode != 0
    assert "StoreGone" in err
    assert "was deleted while in use" in err
    assert len(lines(scene.folder, "acked")) < 2000


def test_two_containers_on_one_file_know_each_others_death(scene: Scene) -> None:
    need_namespaces()
    scene.start_tally(60, 0.03)
    script = "exec $PYTHON -m tests.processes.serve {} '{}'"
    first = in_namespace(script.format(scene.url, "{}"), "--pid", "--fork", "--mount-proc", "--kill-child")
    wait_until(lambda: len(lines(scene.folder, "acked")) > 10)
    options = json.dumps({"until_idle": True})
    second = in_namespace(
        script.format(scene.url, options), "--pid", "--fork", "--mount-proc", "--kill-child"
    )
    wait_until(lambda: len(lines(scene.folder, "acked")) > 20)
    assert scene.run().token == 1, "a live worker in another container was taken for dead"
    stop(first)
    assert ended(second) == 0
    scene.check_tally(60, kills=1)
    assert scene.run().attempts == 2
