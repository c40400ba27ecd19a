"""How often the files of a control group are read: as often as what they tell can have changed, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.model import Usage
from holdfast.throttle.counters import BUSY_US, QUIET, SELDOM, SMALL_CHANGE, GroupCounters
from holdfast.throttle.ground import Ground

MB = 1_000_000
LIMIT = 100 * MB


class Folder:
    """What the kernel would say of a group, in ordinary files."""

    def __init__(self, place: Path) -> None:
        self._folder = place / "group"
        self._folder.mkdir()
        self.cpu_us = 0
        self.cpu(0)
        self.say("memory.current", f"{20 * MB}")
        self.say("memory.stat", "anon 1\ninactive_file 0\n")
        self.say("memory.events", "low 0\nmax 0\noom 0\noom_kill 0\n")
        self.stalled(0.0)
        self.say("io.stat", "8:0 rbytes=0 wbytes=0 rios=0\n")
        self.say("pids.current", "1")
        controllers = frozenset({"cpu", "memory", "pids", "io"})
        self.counters = GroupCounters(Ground(v2=place, v2_controllers=controllers), "group", list, LIMIT)

    def say(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)

    def cpu(self, more_us: int) -> None:
        self.cpu_us += more_us
        self.say("cpu.stat", f"usage_usec {self.cpu_us}\nuser_usec 1\n")

    def stalled(self, percent: float) -> None:
        self.say("memory.pressure", f"some avg10=9.00 total=1\nfull avg10={percent:.2f} avg60=0.00 total=1\n")

    def looks_until(self, attribute: str, value: object) -> int:
        """How many looks it takes until it is told; little happens meanwhile."""
        for look in range(1, SELDOM * QUIET + 2):
            self.cpu(BUSY_US - 1 if look > 1 else 0)
            if getattr(self.counters.usage(), attribute) == value:
                return look
        raise AssertionError(f"{attribute} is not told")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.counters.usage()
    return made


def test_the_first_look_tells_all(tmp_path: Path):
    folder = Folder(tmp_path)
    folder.say("pids.current", "3")
    folder.say("memory.events", "oom_kill 2\n")
    folder.say("memory.stat", f"inactive_file {5 * MB}\n")
    folder.stalled(1.5)
    folder.say("io.stat", "8:0 rbytes=7 wbytes=8\n")
    assert folder.counters.usage() == Usage(
        cpu_us=0,
        memory_bytes=15 * MB,
        processes=3,
        read_bytes=7,
        written_bytes=8,
        oom_kills=2,
        memory_stall=1.5,
    )


def test_cpu_time_and_memory_are_told_at_each_look(folder: Folder):
    for look in range(1, 2 * SELDOM * QUIET):
        folder.cpu(1)
        folder.say("memory.current", f"{20 * MB + look}")
        usage = folder.counters.usage()
        assert (usage.cpu_us, usage.memory_bytes) == (look, 20 * MB + look)


def test_what_was_started_is_counted_at_the_next_look(folder: Folder):
    """Nobody starts an interpreter, or forks without end, for less CPU time."""
    folder.cpu(BUSY_US)
    folder.say("pids.current", "9")
    assert folder.counters.usage().processes == 9


def test_the_processes_of_who_does_nothing_are_counted_each_tenth_look(folder: Folder):
    folder.say("pids.current", "9")
    folder.cpu(BUSY_US - 1)
    assert folder.looks_until("processes", 9) == SELDOM


@pytest.mark.parametrize("attribute", ["oom_kills", "memory_stall", "written_bytes"])
@pytest.mark.parametrize(
    ("state", "looks"),
    [("idle", SELDOM * QUIET), ("busy", SELDOM), ("near its limit", SELDOM), ("waits for memory", SELDOM)],
)
def test_what_hardly_changes_is_read_each_tenth_look_and_of_an_idle_group_each_thirtieth(
    tmp_path: Path, attribute: str, state: str, looks: int
):
    """Who waits for memory, or is near his limit, may have been put to sleep by the kernel: he is not idle."""
    folder = Folder(tmp_path)
    folder.stalled(3.0 if state == "waits for memory" else 0.0)
    folder.counters.usage()
    folder.cpu(BUSY_US if state == "busy" else BUSY_US - 1)
    folder.say("memory.current", f"{LIMIT * 0.85 if state == 'near its limit' else 20 * MB:.0f}")
    folder.say("memory.events", "oom_kill 1\n")
    folder.stalled(9.0)
    folder.say("io.stat", "8:0 rbytes=1 wbytes=1\n")
    told = {"oom_kills": 1, "memory_stall": 9.0, "written_bytes": 1}
    assert folder.looks_until(attribute, told[attribute]) == looks


@pytest.mark.parametrize("change", [SMALL_CHANGE, -SMALL_CHANGE])
def test_when_memory_comes_or_goes_what_of_it_is_files_is_read_at_once(folder: Folder, change: int):
    """Whoever wrote a large file would look like a leak, and one that is forgotten like memory given back."""
    folder.say("memory.stat", f"inactive_file {3 * MB}\n")
    folder.say("memory.current", f"{20 * MB + change}")
    assert folder.counters.usage().memory_bytes == 17 * MB + change


def test_a_kill_for_want_of_memory_can_be_asked_for_at_once(folder: Folder):
    folder.say("memory.events", "oom_kill 1\n")
    assert folder.counters.usage().oom_kills == 0
    assert folder.counters.oom_kills() == 1
