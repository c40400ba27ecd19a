"""A monitor on any process: its whole tree measured, judged, and held back by means that are real."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from holdfast import Monitor, Thresholds
from holdfast.errors import ProcessNotFound, Refused, UsageError
from holdfast.model import Level

NOTHING = Thresholds(disk_mb=None, processes=None)
WARNS = Thresholds(disk_mb=None, processes=(1, 1000))
CRITICAL = Thresholds(disk_mb=None, processes=(1, 1))

FAMILY = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
child.stdin.close()
child.wait()
"""


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process with a child, both waiting; the process and the child's pid."""
    parent = subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    yield parent, child
    for pid in (child, parent.pid):
        try:
            psutil.Process(pid).kill()
        except psutil.Error:
            pass
    parent.communicate()


Family = tuple[subprocess.Popen[str], int]


def test_a_tree_is_measured_with_its_children(family: Family) -> None:
    parent, child = family
    monitor = Monitor(Thresholds(disk_mb=None, processes=(2, 1000)))
    sample = monitor.check(parent.pid)
    assert (sample.processes, sample.level, sample.shared) == (2, Level.WARNING, False)
    assert sample.why == "2 processes"
    assert sample.memory_mb > 5
    assert monitor.check(child).processes == 1
    assert monitor.check(child).level is Level.OK  # each has a level of its own


def test_a_process_that_is_not_there_is_not_found(family: Family) -> None:
    parent, child = family
    monitor = Monitor(NOTHING)
    for nobody in (2**22 + 7, -1, 2**70):
        with pytest.raises(ProcessNotFound, match=str(nobody)):
            monitor.check(nobody)
    monitor.check(parent.pid)
    psutil.Process(child).kill()
    parent.kill()
    while psutil.Process(parent.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    with pytest.raises(ProcessNotFound):  # though nobody has read its end yet
        monitor.check(parent.pid)


async def test_a_good_verdict_does_nothing(family: Family) -> None:
    done = await Monitor(NOTHING).enforce(family[0].pid)
    assert (done.sample.level, done.niced, done.stopped_s) == (Level.OK, (), 0.0)
    assert psutil.Process(family[0].pid).nice() == psutil.Process().nice()


async def test_a_warning_makes_the_whole_tree_stand_back_once(family: Family) -> None:
    parent, child = family
    monitor = Monitor(WARNS)
    done = await monitor.enforce(parent.pid)
    assert sorted(done.niced) == sorted((parent.pid, child))
    assert [psutil.Process(pid).nice() for pid in (parent.pid, child)] == [10, 10]
    assert (await monitor.enforce(parent.pid)).niced == ()


async def states(pids: tuple[int, ...], wanted: str) -> None:
    while {psutil.Process(pid).status() for pid in pids} != {wanted}:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def test_at_critical_the_whole_tree_is_stopped_and_goes_on(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, child = family
    enforcing = asyncio.create_task(Monitor(CRITICAL).enforce(parent.pid))
    async with asyncio.timeout(20):
        await states((parent.pid, child), psutil.STATUS_STOPPED)
        assert (await enforcing).stopped_s == 1.0
    assert psutil.STATUS_STOPPED not in {psutil.Process(pid).status() for pid in (parent.pid, child)}


async def test_what_is_stopped_goes_on_when_the_enforcing_is_cancelled(family: Family) -> None:
    parent, child = family
    enforcing = asyncio.create_task(Monitor(CRITICAL).enforce(parent.pid))
    async with asyncio.timeout(20):
        await states((parent.pid, child), psutil.STATUS_STOPPED)
        enforcing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await enforcing
        await states((parent.pid, child), psutil.STATUS_SLEEPING)


async def test_what_somebody_else_stopped_stays_so(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    parent, child = family
    psutil.Process(child).suspend()
    async with asyncio.timeout(20):
        await states((child,), psutil.STATUS_STOPPED)
        await Monitor(CRITICAL).enforce(parent.pid)
    assert psutil.Process(child).status() == psutil.STATUS_STOPPED


async def test_nobody_stops_himself() -> None:
    for pid in (os.getpid(), os.getppid()):
        with pytest.raises(UsageError, match="cannot go on"):
            await Monitor(CRITICAL).enforce(pid)


async def test_a_process_of_somebody_else_is_refused_and_let_go_on(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, child = family
    suspend = psutil.Process.suspend

    def forbidden(process: psutil.Process) -> None:
        if process.pid == child:
            raise psutil.AccessDenied(child)
        suspend(process)

    monkeypatch.setattr(psutil.Process, "suspend", forbidden)
    with pytest.raises(Refused, match=f"no permission over process {child}"):
        await Monitor(CRITICAL).enforce(parent.pid)
    async with asyncio.timeout(20):
        await states((parent.pid,), psutil.STATUS_SLEEPING)
