"""The figures are those of the whole tree of processes, and cheap to have."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from holdfast import Context, Worker, agent, monitor
from holdfast.model import Level, RunState
from holdfast.monitor import Monitor
from holdfast.rules.pressure import Thresholds
from holdfast.throttle.host import Host
from tests.faults import Engine

CHILD = "import sys; block = bytearray(64 << 20); print('ready', flush=True); sys.stdin.read()"
GRANDPARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(child.stdout.readline().strip(), flush=True)
sys.stdin.read()
child.communicate()
"""


@agent
async def quick(ctx: Context) -> str:
    """Is done at once."""
    return "done"


@pytest.fixture
def tree() -> Iterator[subprocess.Popen[str]]:
    """A child of this process with a child of its own, which holds 64 MiB."""
    process = subprocess.Popen(
        [sys.executable, "-c", GRANDPARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    yield process
    process.communicate()


def test_the_whole_tree_is_counted(tree: subprocess.Popen[str], tmp_path: Path) -> None:
    monitor = Monitor(Thresholds(), tmp_path)
    sample = monitor.sample()
    here = psutil.Process()
    assert sample.processes == 1 + len(here.children(recursive=True)) >= 3
    assert sample.memory_mb > here.memory_info().rss / 2**20 + 64
    assert sample.shared
    tree.communicate()
    assert monitor.sample().processes == sample.processes - 2


def test_the_kernels_list_and_psutils_agree(
    tree: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_list = Monitor(Thresholds()).sample().processes
    monkeypatch.setattr(Path, "exists", lambda self: False)  # a kernel without the list of children, or macOS
    assert Monitor(Thresholds()).sample().processes == with_list


def test_cpu_is_counted_from_sample_to_sample() -> None:
    monitor = Monitor(Thresholds())
    assert monitor.sample().cpu_percent == 0
    began_s, until = time.monotonic(), time.process_time() + 0.2
    while time.process_time() < until:
        pass
    share = 20 / (time.monotonic() - began_s)  # in percent: others may have had the core meanwhile
    assert monitor.sample().cpu_percent > share / 2


def test_a_process_that_ends_while_it_is_measured_counts_as_nothing(tree: subprocess.Popen[str]) -> None:
    monitor = Monitor(Thresholds())
    before = monitor.sample()
    known = {pid: process for pid, process in monitor._own.processes.items() if pid != os.getpid()}
    tree.communicate()
    monitor._own.processes |= known
    after = monitor.sample()
    assert after.processes == before.processes - 2
    assert after.memory_mb < before.memory_mb


def test_disk_is_what_is_free_where_the_store_is(tmp_path: Path) -> None:
    free_mb = shutil.disk_usage(tmp_path).free / 2**20
    assert Monitor(Thresholds(), tmp_path).sample().disk_mb == pytest.approx(free_mb, rel=0.05)
    assert Monitor(Thresholds(), tmp_path / "gone" / "store.db").sample().disk_mb == pytest.approx(
        free_mb, rel=0.05
    )


def test_a_level_is_the_verdict_of_the_figures() -> None:
    assert Monitor(Thresholds(disk_mb=None)).sample().level is Level.OK
    assert Monitor(Thresholds(disk_mb=None, memory_mb=(1, 1_000_000))).sample().level is Level.WARNING
    assert Monitor(Thresholds(disk_mb=None, memory_mb=(0.5, 1))).sample().level is Level.CRITICAL
    assert Monitor(Thresholds(disk_mb=(1e12, 1e12))).sample().level is Level.CRITICAL


def stalled(folder: Path, percent: float) -> None:
    """Write what the kernel tells of the machine."""
    for name in ("cpu", "memory", "io"):
        line = f"avg10={percent:.2f} avg60=0.00 avg300=0.00 total=1"
        (folder / name).write_text(f"some {line}\nfull {line}\n")


async def test_a_worker_begins_nothing_while_its_machine_waits_for_memory_and_says_so(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stalled(tmp_path, 60.0)
    monkeypatch.setattr(monitor, "Host", lambda: Host(tmp_path))
    async with Worker(engine.store, [quick], name="w"):
        async with asyncio.timeout(20):
            while "begins nothing" not in caplog.text:  # noqa: ASYNC110 - a line of a log
                await asyncio.sleep(0.05)
        handle = await engine.client.start(quick, id="r")
        await asyncio.sleep(1)
        assert (await handle.status()).state is RunState.QUEUED
        assert (await handle.detail()).pressed == "this machine waits for memory 60 % of the time"
        stalled(tmp_path, 0.0)
        assert await handle.result() == "done"
    assert "worker w begins nothing while under pressure: this machine waits for memory 60 %" in caplog.text
    assert "worker w begins runs again" in caplog.text


def test_a_level_is_kept_while_the_figure_wavers(tmp_path: Path) -> None:
    monitor = Monitor(Thresholds(disk_mb=None), tmp_path)
    figure = monitor.sample().memory_mb
    monitor._thresholds = Thresholds(disk_mb=None, memory_mb=(figure * 0.99, 1e9))
    assert monitor.sample().level is Level.WARNING
    monitor._thresholds = Thresholds(disk_mb=None, memory_mb=(figure * 1.05, 1e9))
    assert monitor.sample().level is Level.WARNING
    monitor._thresholds = Thresholds(disk_mb=None, memory_mb=(figure * 1.5, 1e9))
    assert monitor.sample().level is Level.OK


def test_a_sample_a_second_costs_little() -> None:
    monitor = Monitor(Thresholds())
    monitor.sample()
    began = time.process_time()
    for _ in range(50):
        monitor.sample()
    assert (time.process_time() - began) / 50 < 0.002, "over 0.2 % of a core"


def test_importing_the_monitor_does_not_import_psutil() -> None:
    program = "import sys, holdfast.monitor; sys.exit('psutil' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
