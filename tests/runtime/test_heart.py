"""A worker lets go in time, tells it once, and its lock dies with it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.errors import StoreUnavailable
from holdfast.heart import STALL_END_S, STALL_EXIT_CODE, STALL_WARNING_S, Heart, WorkerLock
from holdfast.model import Level, Sample

S = 1_000_000


class MovedClock:
    def __init__(self) -> None:
        self.us = 1_000 * S

    def wall_us(self) -> int:
        return self.us

    def boot_us(self) -> int:
        return self.us

    def boot_id(self) -> str:
        return "boot"


class Leases:
    """The part of a store that a heart sees: it can be down, slow, or say that the generation is retired."""

    def __init__(self, clock: MovedClock) -> None:
        self.clock = clock
        self.renewals: list[tuple[int, int, Sample | None]] = []
        self.tries = 0
        self.down = False
        self.retired = False
        self.takes_us = 0

    def renew_lease(self, worker: int, lease_us: int, sample: Sample | None) -> bool:
        self.tries += 1
        self.clock.us += self.takes_us
        if self.down:
            raise StoreUnavailable("the disk is gone")
        self.renewals.append((worker, lease_us, sample))
        return not self.retired


class Figures:
    def __init__(self, level: Level = Level.OK) -> None:
        self.taken = 0
        self.level = level

    def sample(self) -> Sample:
        self.taken += 1
        return Sample(cpu_percent=1, memory_mb=2, disk_mb=3, processes=4, level=self.level)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def leases(clock: MovedClock) -> Leases:
    return Leases(clock)


@pytest.fixture
def lost() -> list[str]:
    return []


@pytest.fixture
def heart(clock: MovedClock, leases: Leases, lost: list[str]) -> Heart:
    return Heart(leases, 7, clock=clock, on_lost=lambda: lost.append("lost"), chance=lambda: 1.0)


def live(heart: Heart, clock: MovedClock, seconds: float) -> None:
    """Let the heart's rounds happen for so long, each after the pause that it asked for."""
    until_us = clock.us + round(seconds * S)
    while clock.us < until_us:
        clock.us += max(1, round(heart.tick() * S))


# --- the lease ------------------------------------------------------------------------------------------------


def test_the_lease_is_renewed_each_10_s(heart: Heart, clock: MovedClock, leases: Leases) -> None:
    live(heart, clock, 65)
    assert [worker for worker, _, _ in leases.renewals] == [7] * 6
    assert {lease_us for _, lease_us, _ in leases.renewals} == {30 * S}
    assert heart.trusted


def test_trust_ends_a_margin_before_the_lease_counted_from_the_request(
    heart: Heart, clock: MovedClock, leases: Leases
) -> None:
    clock.us += 10 * S
    sent_us = clock.us
    leases.takes_us = 3 * S
    heart.tick()
    clock.us = sent_us + 25 * S - 1
    assert heart.trusted
    clock.us += 1
    assert not heart.trusted


def test_the_first_lease_is_trusted_from_the_making_of_the_heart(heart: Heart, clock: MovedClock) -> None:
    clock.us += 25 * S - 1
    assert heart.trusted
    clock.us += 1
    assert not heart.trusted


def test_a_store_that_is_down_for_a_while_costs_nothing(
    heart: Heart, clock: MovedClock, leases: Leases, lost: list[str]
) -> None:
    leases.down = True
    live(heart, clock, 20)
    assert leases.tries >= 4
    leases.down = False
    live(heart, clock, 60)
    assert heart.trusted and lost == []


def test_a_store_that_stays_down_loses_the_lease_once(
    heart: Heart, clock: MovedClock, leases: Leases, lost: list[str]
) -> None:
    leases.down = True
    live(heart, clock, 300)
    assert lost == ["lost"]
    assert not heart.trusted
    assert leases.tries <= 15, "the pauses between tries grow"


def test_a_lost_lease_is_never_renewed(
    heart: Heart, clock: MovedClock, leases: Leases, lost: list[str]
) -> None:
    clock.us += 40 * S  # stopped and continued
    live(heart, clock, 60)
    assert leases.renewals == []
    assert lost == ["lost"]


def test_a_retired_generation_is_lost_at_once(
    heart: Heart, clock: MovedClock, leases: Leases, lost: list[str]
) -> None:
    leases.retired = True
    clock.us += 10 * S
    heart.tick()
    assert lost == ["lost"] and not heart.trusted


def test_the_loop_notices_the_loss_while_the_renewal_hangs(
    heart: Heart, clock: MovedClock, lost: list[str]
) -> None:
    clock.us += 26 * S
    heart.beat()
    heart.beat()
    heart.tick()
    assert lost == ["lost"]


def test_nothing_is_lost_after_stop(heart: Heart, clock: MovedClock, lost: list[str]) -> None:
    heart.start()
    heart.stop()
    heart.stop()
    clock.us += 60 * S
    heart.beat()
    assert lost == [] and not heart.trusted


def test_an_error_that_is_not_the_stores_does_not_stop_the_heart(clock: MovedClock, lost: list[str]) -> None:
    class Broken:
        def renew_lease(self, worker: int, lease_us: int, sample: Sample | None) -> bool:
            raise ZeroDivisionError

    heart = Heart(Broken(), 7, clock=clock, on_lost=lambda: lost.append("lost"))
    live(heart, clock, 60)
    assert lost == ["lost"]


# --- samples --------------------------------------------------------------------------------------------------


def test_a_sample_a_second_goes_with_the_renewals(clock: MovedClock, leases: Leases) -> None:
    figures = Figures(Level.WARNING)
    heart = Heart(leases, 7, clock=clock, monitor=figures, on_lost=lambda: None)
    assert heart.sample is None
    live(heart, clock, 31)
    assert 29 <= figures.taken <= 33
    assert heart.sample is not None and heart.sample.level is Level.WARNING
    assert all(sample is not None and sample.processes == 4 for _, _, sample in leases.renewals)


def test_figures_are_told_soon_after_the_start_and_at_once_when_the_verdict_changes(
    clock: MovedClock, leases: Leases
) -> None:
    figures = Figures(Level.OK)
    heart = Heart(leases, 7, clock=clock, monitor=figures, on_lost=lambda: None)
    live(heart, clock, 3)
    assert len(leases.renewals) == 1
    figures.level = Level.CRITICAL
    live(heart, clock, 2)
    assert [sample.level for _, _, sample in leases.renewals if sample] == [Level.OK, Level.CRITICAL]


def test_figures_that_cannot_be_had_do_not_cost_the_lease(
    clock: MovedClock, leases: Leases, lost: list[str]
) -> None:
    class Broken:
        def sample(self) -> Sample:
            raise OSError("no /proc")

    heart = Heart(leases, 7, clock=clock, monitor=Broken(), on_lost=lambda: lost.append("lost"))
    live(heart, clock, 60)
    assert heart.trusted and lost == []


# --- the loop -------------------------------------------------------------------------------------------------


@pytest.fixture
def ended() -> list[int]:
    return []


@pytest.fixture
def watching(clock: MovedClock, leases: Leases, ended: list[int]) -> Iterator[Heart]:
    heart = Heart(leases, 7, clock=clock, on_lost=lambda: None, end_process=ended.append)
    yield heart
    heart.stop()


async def watched(heart: Heart) -> None:
    """Begin to watch this loop; the rounds are the test's."""
    heart._watch.begin()
    heart.beat()
    heart.tick()


async def test_a_loop_that_does_not_answer_is_warned_of_with_the_run_and_the_line(
    watching: Heart, clock: MovedClock
) -> None:
    async def blocks() -> None:
        await watched(watching)
        live_in_a_thread(watching, clock, STALL_WARNING_S + 1)

    await asyncio.create_task(blocks(), name="run invoice-7")
    warning = watching.take_warning()
    assert warning is not None
    assert "run invoice-7 holds it" in warning
    assert "test_heart.py" in warning or "threading.py" in warning
    assert watching.take_warning() is None


def live_in_a_thread(heart: Heart, clock: MovedClock, seconds: float) -> None:
    thread = threading.Thread(target=live, args=(heart, clock, seconds))
    thread.start()
    thread.join()


async def test_a_loop_that_answers_is_left_alone(
    watching: Heart, clock: MovedClock, ended: list[int]
) -> None:
    await watched(watching)
    for _ in range(STALL_END_S * 2):
        watching.beat()
        live(watching, clock, 1)
    assert watching.take_warning() is None and ended == []


async def test_a_loop_stalled_for_300_s_ends_the_process_with_the_stack(
    watching: Heart, clock: MovedClock, ended: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    await watched(watching)
    live_in_a_thread(watching, clock, STALL_END_S - 5)
    assert ended == []
    live_in_a_thread(watching, clock, 10)
    assert ended[0] == STALL_EXIT_CODE
    told = capsys.readouterr().err
    assert "has not answered for 300 s" in told
    assert "in live_in_a_thread" in told


async def test_a_process_that_stood_still_is_not_taken_for_a_stalled_loop(
    watching: Heart, clock: MovedClock, ended: list[int]
) -> None:
    await watched(watching)
    clock.us += 3_600 * S  # suspended for an hour
    watching.tick()
    assert ended == [] and watching.take_warning() is None


async def test_a_running_heart_renews_from_its_own_thread_while_the_loop_is_blocked() -> None:
    class Quick:
        def __init__(self) -> None:
            self.threads: set[str] = set()
            self.renewed = threading.Event()

        def renew_lease(self, worker: int, lease_us: int, sample: Sample | None) -> bool:
            self.threads.add(threading.current_thread().name)
            self.renewed.set()
            return True

    store = Quick()
    heart = Heart(store, 1, renew_s=0.02, on_lost=lambda: None)
    heart.start()
    assert store.renewed.wait(5), "nothing was renewed while the loop was blocked here"
    heart.stop()
    assert store.threads == {"holdfast-heart"}


# --- the lock -------------------------------------------------------------------------------------------------


def is_free(path: Path) -> bool:
    file = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(file)


def test_the_lock_is_held_until_it_is_closed(tmp_path: Path) -> None:
    lock = WorkerLock(tmp_path / "locks")
    assert lock.path.parent == tmp_path / "locks"
    assert not is_free(lock.path)
    lock.close()
    lock.close()
    assert not lock.path.exists()


def test_each_lock_has_a_file_of_its_own(tmp_path: Path) -> None:
    one, two = WorkerLock(tmp_path), WorkerLock(tmp_path)
    assert one.path != two.path
    one.close()
    assert not is_free(two.path)
    two.close()


def test_a_program_started_by_the_worker_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = WorkerLock(tmp_path)
    path = lock.path
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    try:
        lock.forget()
        assert becomes_free(path)
    finally:
        child.communicate(b"\n")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = WorkerLock(tmp_path)
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go_write)
        os.read(go_read, 1)  # ends with its parent's pipe
        os._exit(0)
    os.close(go_read)
    try:
        assert not is_free(lock.path), "the parent's lock ended with the fork"
        lock.forget()
        assert becomes_free(lock.path)
    finally:
        os.close(go_write)
        os.waitpid(child, 0)


HOLDER = """
import sys
from pathlib import Path
from holdfast.heart import WorkerLock
lock = WorkerLock(Path(sys.argv[1]))
print(lock.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.communicate()


def becomes_free(path: Path, within_s: float = 1.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if is_free(path):
            return True
        threading.Event().wait(0.002)
    return is_free(path)


def test_the_lock_of_a_killed_process_is_free_within_a_second(
    holder: tuple[subprocess.Popen[str], Path],
) -> None:
    process, path = holder
    assert not is_free(path)
    process.send_signal(signal.SIGKILL)
    assert becomes_free(path)


def test_the_lock_of_a_stopped_process_stays_held(holder: tuple[subprocess.Popen[str], Path]) -> None:
    process, path = holder
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert not is_free(path)
    process.send_signal(signal.SIGCONT)
