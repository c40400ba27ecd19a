"""The watch: what is measured is true, the whole ladder acts on a real run and is taken back, history is bounded."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.clock import SystemClock
from holdfast.errors import Refused
from holdfast.model import HostStall, Level, TreeSample, Usage
from holdfast.rules.ladder import Rung
from holdfast.rules.limits import Limits
from holdfast.rules.pressure import Thresholds
from holdfast.throttle import Group, Groups, probe
from holdfast.throttle.counters import SHARES_EVERY_S, TreeMemory
from holdfast.throttle.history import History
from holdfast.throttle.host import Host
from holdfast.throttle.processes import Process, look_at
from holdfast.throttle.signals import Stopper
from holdfast.throttle.space import Space, counted, folder_bytes
from holdfast.throttle.watch import Gauge, Watch
from holdfast.workspace import remove
from tests.throttle.trees import ground_of, python, started, state_of, until

Make = Callable[..., Group]
MB = 1_000_000


class Steps(SystemClock):
    """A clock that goes on a second each time it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = 0

    def boot_us(self) -> int:
        self.now_us += 1_000_000
        return self.now_us


# --- what is measured ---------------------------------------------------------------------------------------

SHORT_LIVED = """
import os, resource, subprocess, sys
for _ in range(15):
    subprocess.run([sys.executable, "-I", "-S", "-c", "sum(range(400_000))"])
own, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(own.ru_utime + own.ru_stime + theirs.ru_utime + theirs.ru_stime, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["here", "v1", "none"])
def test_children_too_short_lived_to_be_seen_count(kind: str, make: Make):
    group = make(kind)
    gauge = Gauge(group)
    gauge.sample()
    with started(group, python(SHORT_LIVED), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as root:
        assert root.stdout is not None
        used_s = float(root.stdout.readline())
        sample = gauge.sample()
        assert sample.cpu_percent * sample.span_us / 1e8 == pytest.approx(used_s, rel=0.2, abs=0.1)


SHARING = """
import os, sys, time
common = bytearray(b"x") * 40_000_000
for _ in range(4):
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
print("forked", flush=True)
time.sleep(20)
"""


@pytest.mark.parametrize("kind", ["here", "none"])
def test_memory_that_several_share_counts_once(kind: str, make: Make):
    group = make(kind)
    with started(group, python(SHARING), stdout=subprocess.PIPE) as root:
        assert root.stdout is not None
        root.stdout.readline()
        sample = Gauge(group).sample()
        assert sample.processes == 5
        assert 40 * MB < sample.memory_bytes < 100 * MB


def test_between_two_counts_of_shared_memory_growth_is_seen():
    now = [0.0]
    memory = TreeMemory(clock=lambda: now[0])
    own = look_at(os.getpid())
    assert own is not None
    first = memory.of([own])
    assert 0 < first <= own.memory_bytes
    grown = replace(own, memory_bytes=own.memory_bytes + 50 * MB)
    now[0] = SHARES_EVERY_S / 2
    assert memory.of([grown]) == first + 50 * MB
    now[0] = SHARES_EVERY_S
    assert memory.of([grown]) < first + 25 * MB, "counted anew: it was not so"


def test_a_large_file_written_is_not_memory_used(make: Make, tmp_path: Path):
    if "memory" not in ground_of("here").v1:
        pytest.skip("NOT TRIED: no memory controller here")
    group = make("here")
    writes = (
        "import sys, time\nfile = open(sys.argv[1], 'wb')\nfor _ in range(40): file.write(bytes(1_000_000))\n"
        "file.flush(); print('done', flush=True); sys.stdin.read()"
    )
    with started(
        group, python(writes, str(tmp_path / "large")), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as root:
        assert root.stdout is not None
        root.stdout.readline()
        assert Gauge(group).sample().memory_bytes < 30 * MB


def test_written_bytes_are_told(make: Make, tmp_path: Path):
    """By what the processes say: not every kernel's groups count them."""
    for kind in ("here", "none"):
        group = make(kind)
        writes = (
            "import os, sys\nfile = open(sys.argv[1], 'wb')\nfile.write(bytes(3_000_000)); file.flush()\n"
            "os.fsync(file.fileno()); print('done', flush=True); sys.stdin.read()"
        )
        with started(
            group, python(writes, str(tmp_path / kind)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as root:
            assert root.stdout is not None
            root.stdout.readline()
            written = Gauge(group).sample().written_bytes
            assert written is not None and written >= 3_000_000


def test_the_hosts_pressure_is_told():
    host = Host()
    stall = host.stall()
    if stall is None:
        pytest.skip("NOT TRIED: no /proc/pressure here")
    assert 0 <= stall.cpu <= 100 and 0 <= stall.memory <= 100 and 0 <= stall.disk <= 100
    host.close()
    assert host.stall() is None


def test_a_host_that_does_not_tell_its_pressure_has_none(tmp_path: Path):
    assert Host(tmp_path).stall() is None
    (tmp_path / "cpu").write_text("some avg10=1.25 avg60=0 avg300=0 total=9\n")
    for name in ("memory", "io"):
        (tmp_path / name).write_text("some avg10=9.00 avg60=0 total=1\nfull avg10=2.50 avg60=0 total=9\n")
    assert Host(tmp_path).stall() == HostStall(1.25, 2.5, 2.5)


def test_a_folder_is_its_allocated_bytes_once(tmp_path: Path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "one").write_bytes(b"x" * 100_000)
    (tmp_path / "deep" / "er" / "two").write_bytes(b"x" * 50_000)
    before = folder_bytes(tmp_path)
    assert before is not None and 150_000 <= before < 200_000
    (tmp_path / "again").hardlink_to(tmp_path / "one")
    (tmp_path / "elsewhere").symlink_to("/")
    after = folder_bytes(tmp_path)
    assert after is not None and after < before + 20_000
    assert folder_bytes(tmp_path / "not there") is None


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


def test_a_folder_is_counted_however_deep_it_is(tmp_path: Path):
    before, folder = open_files(), os.open(tmp_path, os.O_RDONLY)
    for _ in range(3_000):  # more than a path can name, or files are open
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    empty = folder_bytes(tmp_path) or 0
    file = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=folder)
    os.write(file, b"x" * 600_000)
    os.fsync(file)
    os.close(file)
    os.close(folder)
    assert (folder_bytes(tmp_path) or 0) >= empty + 600_000
    looking = counted(tmp_path)
    next(looking)
    del looking
    assert open_files() == before
    assert remove(tmp_path / "d")


def test_of_a_folder_with_too_many_files_it_is_said_that_there_are_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for n in range(20):
        (tmp_path / "deep" / str(n)).mkdir(parents=True)
        (tmp_path / "deep" / str(n) / "file").write_bytes(b"x" * 10_000)
    *_, whole = counted(tmp_path)
    *_, some = counted(tmp_path, most_files=30)
    *_, just = counted(tmp_path, most_files=41)
    assert whole is not None and some is not None
    assert (whole.at_least, some.at_least) == (False, True)
    assert 0 < some.bytes < whole.bytes
    assert just == whole
    monkeypatch.setattr("holdfast.throttle.space.MOST_FILES", 30)
    space = Space(tmp_path, clock=lambda: 0.0)
    assert (space.size(0), space.at_least) == (some.bytes, True)


@pytest.mark.parametrize("after", range(1, 7))
def test_a_folder_that_is_moved_while_it_is_counted_leads_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
):
    monkeypatch.setattr("holdfast.throttle.space._TOGETHER", 1)
    inside, outside = tmp_path / "workspace", tmp_path / "outside"
    (inside / "a" / "b" / "c").mkdir(parents=True)
    (inside / "z").mkdir()
    (inside / "z" / "file").write_bytes(b"x" * 100_000)
    (outside / "deep").mkdir(parents=True)
    for place in (outside, outside / "deep"):
        (place / "large").write_bytes(b"x" * 600_000)
    looking = counted(inside)
    for _ in range(after):
        next(looking)
    (inside / "a" / "b").rename(outside / "b")
    *_, last = looking
    assert last is not None and 100_000 <= last.bytes < 600_000, "all that is there still, and nothing else"


class Slow:
    """A clock by which each look at it, and so each file, takes a while."""

    def __init__(self, look_s: float) -> None:
        self.now_s = 0.0
        self.look_s = look_s

    def __call__(self) -> float:
        self.now_s += self.look_s
        return self.now_s


def test_a_folder_without_a_limit_is_looked_through_now_and_then(tmp_path: Path):
    now = [0.0]
    space = Space(tmp_path, clock=lambda: now[0])
    first = space.size(0)
    (tmp_path / "file").write_bytes(b"x" * 600_000)
    now[0] = 4.0
    assert space.size(600_000) == first, "not due"
    now[0] = 6.0
    assert (space.size(600_000) or 0) >= 600_000


def test_a_small_folder_with_a_limit_is_looked_through_each_time(tmp_path: Path):
    space = Space(tmp_path, clock=lambda: 0.0)
    assert space.size(0, 1_000_000) is not None
    for n in (1, 2, 3):
        (tmp_path / str(n)).write_bytes(b"x" * 600_000)
        assert (space.size(0, 1_000_000) or 0) >= n * 600_000


def test_a_folder_that_was_away_is_looked_through_as_soon_as_it_is_back(tmp_path: Path):
    space = Space(tmp_path / "away", clock=lambda: 0.0)
    assert space.size(0) is None
    (tmp_path / "away").mkdir()
    assert space.size(0) is not None


def test_the_time_a_disk_hung_does_not_put_off_the_next_look(tmp_path: Path):
    """It did by two hundred times as long: a server that was gone for a minute hid a folder for three hours."""
    clock = Slow(60.0)
    space = Space(tmp_path, clock=clock)
    while (first := space.size(0)) is None:
        pass
    clock.look_s, clock.now_s = 0.0, clock.now_s + 60.0
    (tmp_path / "file").write_bytes(b"x" * 600_000)
    assert (space.size(0) or 0) >= first + 600_000


@pytest.mark.parametrize("by", ["written", "gone from the disk"])
def test_a_large_folder_is_looked_through_at_once_when_it_may_be_over_its_limit(tmp_path: Path, by: str):
    clock, free = Slow(0.004), [10_000_000]
    space = Space(tmp_path, clock=clock, free=lambda folder: free[0])
    first = space.size(0, 1_000_000)
    assert first is not None
    (tmp_path / "file").write_bytes(b"x" * 600_000)
    clock.look_s, clock.now_s = 0.0, clock.now_s + 1.0
    assert space.size(0, 1_000_000) == first, "not due"
    for grown in (600_000, 1_200_000):
        free[0] = 10_000_000 - (grown if by == "gone from the disk" else 0)
        seen = space.size(grown if by == "written" else 0, 1_000_000)
        assert seen is not None
        assert (seen >= 600_000) == (grown > 1_000_000), "looked through only when it may be over"


def test_a_look_through_a_large_folder_is_taken_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder of a million files takes seconds, and other runs wait to be looked at."""
    monkeypatch.setattr("holdfast.throttle.space._TOGETHER", 1)
    for n in range(30):
        (tmp_path / str(n)).write_bytes(b"x" * 10_000)
    clock = Slow(0.005)
    space = Space(tmp_path, clock=clock)
    slices = 0
    while space.size(0, 1_000_000) is None:
        slices += 1
        assert slices < 30
    assert slices >= 5
    assert space.size(0, 1_000_000) == folder_bytes(tmp_path)
    cost_s = clock.now_s
    (tmp_path / "more").write_bytes(b"x" * 10_000)
    clock.look_s, clock.now_s = 0.0, cost_s + 100 * 0.1
    assert space.size(0, 1_000_000) != folder_bytes(tmp_path), "half a percent of a core is spent"
    clock.now_s = cost_s + 1000 * 0.1
    assert space.size(0, 1_000_000) == folder_bytes(tmp_path)


# --- what is done -------------------------------------------------------------------------------------------

TICKS = """
import sys, time
while True:
    print(time.monotonic(), flush=True)
    time.sleep(0.01)
"""

AGENT_WITH_TOOL = """
import subprocess, sys, time
tool = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=open(sys.argv[2], "w"))
while True:
    print("agent", flush=True)
    time.sleep(0.01)
"""


def grows(file: Path, length_s: float = 0.3) -> bool:
    before = file.stat().st_size
    time.sleep(length_s)
    return file.stat().st_size > before


def test_what_is_frozen_stands_still_and_goes_on_when_thawed(groups: Groups, tmp_path: Path):
    group = groups.create("still")
    ticks = tmp_path / "ticks"
    with ticks.open("w") as out, started(group, python(TICKS), stdout=out):
        until(lambda: ticks.stat().st_size)
        group.freeze()
        assert not grows(ticks)
        group.thaw()
        until(lambda: grows(ticks, 0.05))


FORKING = """
import os, time
for _ in range(60):                      # so many, and no more
    if os.fork() == 0:
        while True:
            os.write(1, b".")
            time.sleep(0.02)
    time.sleep(0.002)
time.sleep(20)
"""


def test_who_is_born_while_the_others_are_stopped_stands_still_too(groups: Groups, tmp_path: Path):
    group = groups.create("forking")
    out = tmp_path / "out"
    with out.open("w") as file, started(group, python(FORKING), stdout=file):
        until(lambda: out.stat().st_size)
        group.freeze()
        assert 1 < len(group.pids()) < 61, "frozen too late to prove anything"
        assert not grows(out)


def test_whoever_appears_between_two_looks_is_stopped_by_the_next():
    sleepers = [subprocess.Popen(["sleep", "60"]) for _ in range(3)]
    asked = []

    def members() -> list[Process]:
        asked.append(1)
        return [one for one in map(look_at, [each.pid for each in sleepers[: len(asked)]]) if one is not None]

    try:
        stopper = Stopper(members)
        stopper.freeze(())
        until(lambda: [state_of(one.pid) for one in sleepers] == ["T"] * 3, 3)
        stopper.thaw()
        until(lambda: [state_of(one.pid) for one in sleepers] == ["S"] * 3)
    finally:
        for one in sleepers:
            one.kill()
            one.wait()


def test_what_somebody_else_had_stopped_stays_so():
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        sleeper.send_signal(signal.SIGSTOP)
        until(lambda: state_of(sleeper.pid) == "T")
        stopper = Stopper(lambda: [one for one in [look_at(sleeper.pid)] if one is not None])
        stopper.freeze(())
        stopper.thaw()
        time.sleep(0.05)
        assert state_of(sleeper.pid) == "T"
    finally:
        sleeper.kill()
        sleeper.wait()


def test_the_spared_go_on_while_their_tools_stand_still(groups: Groups, tmp_path: Path):
    group = groups.create("spared")
    agent, tool = tmp_path / "agent", tmp_path / "tool"
    with (
        agent.open("w") as out,
        started(group, python(AGENT_WITH_TOOL, TICKS, str(tool)), stdout=out) as root,
    ):
        until(lambda: tool.exists() and tool.stat().st_size)
        first = [pid for pid in group.pids() if pid == root.pid] or [min(group.pids())]
        group.freeze(spare=first)
        assert not grows(tool)
        assert grows(agent)
        group.thaw()
        until(lambda: grows(tool, 0.05))
        group.freeze(spare=first)
        assert group.kill() == ()


def test_the_whole_ladder_acts_on_a_real_run_and_is_taken_back(groups: Groups, tmp_path: Path):
    """Too little disk is left: told, slowed, frozen, asked to park; then there is room again."""
    free = [10.0]
    group = groups.create("ladder")
    watch = Watch(
        group,
        groups.abilities,
        Thresholds(disk_mb=(100.0, 50.0), processes=None),
        workspace=tmp_path,
        clock=Steps(),
    )
    assert watch.gauge._space is not None
    watch.gauge._space.free = lambda: round(free[0] * 1024 * 1024)  # type: ignore[method-assign]
    ticks = tmp_path / "ticks"
    with ticks.open("w") as out, started(group, python(TICKS), stdout=out):
        until(lambda: ticks.stat().st_size)
        taken: list[Rung] = []
        while Rung.FREEZE not in taken:
            seen = watch.look()
            taken += [move.rung for move in seen.moves if move.taken]
        assert seen.level is Level.CRITICAL
        assert taken == [Rung.EVENT, Rung.HINT, Rung.WEIGHT, Rung.QUOTA, Rung.FREEZE]
        assert not grows(ticks)
        while Rung.PARK not in taken:
            taken += [move.rung for move in watch.look().moves if move.taken]
        until(lambda: grows(ticks, 0.05))  # or it would never come to a safe point
        free[0] = 1_000.0
        back = [move.rung for _ in range(12) for move in watch.look().moves if not move.taken]
        assert back == [Rung.PARK, Rung.FREEZE, Rung.QUOTA, Rung.WEIGHT, Rung.HINT, Rung.EVENT]
        assert watch.look().level is Level.OK
        until(lambda: grows(ticks, 0.05))


@pytest.mark.parametrize("kind", ["here", "none"])
def test_a_busy_loop_over_its_threshold_is_throttled_to_it(kind: str, make: Make):
    group = make(kind)
    # By a clock that goes on a second at each look. The thresholds are so low that the little which a machine busy with
    # others leaves to a run of smaller weight is above them, too.
    watch = Watch(
        group,
        Groups(ground=ground_of(kind)).abilities,
        Thresholds(cpu_percent=(0.005, 0.01), disk_mb=None, processes=None),
        clock=Steps(),
    )
    with started(group, python("while True: pass")):
        taken: list[Rung] = []
        for _ in range(150):
            taken += [move.rung for move in watch.look().moves if move.taken]
            if Rung.QUOTA in taken:
                break
            time.sleep(0.1)
        assert taken == [Rung.EVENT, Rung.HINT, Rung.WEIGHT, Rung.QUOTA]
        time.sleep(0.3)
        before_us, began_s = group.usage().cpu_us, time.monotonic()
        time.sleep(2)
        assert (group.usage().cpu_us - before_us) / 1e6 / (time.monotonic() - began_s) <= 0.03


# --- history ------------------------------------------------------------------------------------------------


def plain(
    at_us: int, span_us: int, cpu: float = 10.0, memory: int = 5, written: int | None = 1
) -> TreeSample:
    return TreeSample(
        at_us=at_us, span_us=span_us, cpu_percent=cpu, memory_bytes=memory, processes=1, written_bytes=written
    )


@given(
    st.integers(2, 20),
    st.lists(
        st.tuples(st.integers(1, 10**7), st.floats(0, 800), st.integers(0, 10**10), st.integers(0, 10**6)),
        max_size=300,
    ),
)
def test_a_history_covers_a_whole_life_in_bounded_room(most: int, steps: list[tuple[int, float, int, int]]):
    history, at_us = History(most), 0
    for span_us, cpu, memory, written in steps:
        at_us += span_us
        history.add(plain(at_us, span_us, cpu, memory, written))
    samples = history.samples()
    assert len(samples) <= most
    assert sum(one.span_us for one in samples) == at_us
    ends = [one.at_us for one in samples]
    assert ends == sorted(ends) and (not ends or ends[-1] == at_us)
    for before, one in zip([0, *ends], samples, strict=False):
        assert one.at_us - one.span_us == before, "a gap"
    assert max((one.memory_bytes for one in samples), default=0) == max(
        (step[2] for step in steps), default=0
    )
    assert sum(one.written_bytes or 0 for one in samples) == sum(step[3] for step in steps)
    busy = sum(one.cpu_percent * one.span_us for one in samples)
    assert busy == pytest.approx(sum(span * cpu for span, cpu, _, _ in steps), rel=1e-6, abs=1e-3)


def test_a_day_at_a_sample_a_second_stays_even():
    history = History(512)
    for second in range(1, 86_401):
        history.add(plain(second * 1_000_000, 1_000_000))
    samples = history.samples()
    assert 256 <= len(samples) <= 512
    assert {round(one.span_us / 1e6) for one in samples[:-1]} == {256}


def second_long(n: int) -> TreeSample:
    return plain((n + 1) * 1_000_000, 1_000_000)


def test_a_history_goes_on_after_what_was_kept_and_stays_as_fine():
    first = History()
    for n in range(1000):
        first.add(second_long(n))
    kept = first.samples()
    second = History.after(kept)
    assert second.samples() == kept
    for n in range(1000, 3000):
        second.add(second_long(n))
    assert len(second.samples()) < 512
    assert sum(one.span_us for one in second.samples()) == 3000 * 1_000_000
    young = History.after([second_long(n) for n in range(20)])
    young.add(second_long(20))
    assert len(young.samples()) == 21, "as fine as at first"


def test_a_history_of_none_keeps_none():
    history = History(0)
    history.add(second_long(0))
    assert history.samples() == ()


# --- held back by a person -----------------------------------------------------------------------------------


class Recording:
    """A group that only writes down what is asked of it, with a load that is set."""

    limits = Limits(memory="100MB", cpu=2)

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []
        self.memory_bytes = 1_000_000
        self.refuses = self.refuses_memory = False

    def usage(self) -> Usage:
        return Usage(cpu_us=0, memory_bytes=self.memory_bytes, processes=1)

    def set_weight(self, share: float) -> None:
        if self.refuses:
            raise Refused("not now")
        self.asked.append(("weight", share))

    def set_cpu(self, cores: float | None) -> None:
        self.asked.append(("cpu", cores))

    def set_memory_brake(self, count_bytes: int | None) -> None:
        if self.refuses_memory:
            raise Refused("no memory")
        self.asked.append(("brake", count_bytes))

    def freeze(self, spare: object = ()) -> None: ...

    def thaw(self) -> None: ...

    def kill(self) -> tuple[int, ...]:
        return ()


HELD = [("weight", 0.1), ("cpu", 0.5), ("brake", 90_000_000)]
FREE = [("weight", 1.0), ("cpu", None), ("brake", None)]


def watching(group: Recording) -> Watch:
    return Watch(group, probe(), Thresholds(disk_mb=None, processes=None), clock=Steps())  # type: ignore[arg-type]


def told(group: Recording) -> list[tuple[str, object]]:
    said, group.asked = group.asked, []
    return said


def test_who_is_held_back_is_so_from_the_next_look_on_until_let_go():
    group = Recording()
    watch = watching(group)
    watch.look()
    watch.hold(True)
    assert told(group) == []
    watch.look()
    assert told(group) == HELD
    watch.hold(True)
    watch.look()
    assert told(group) == []
    watch.hold(False)
    watch.look()
    assert told(group) == FREE


def test_what_the_ladder_takes_back_stays_while_a_person_holds_and_the_other_way_round():
    group = Recording()
    watch = watching(group)
    watch.hold(True)
    watch.look()
    told(group)
    group.memory_bytes = 90_000_000  # critical: the ladder climbs to its quota, and past it
    for _ in range(12):
        watch.look()
    assert set(told(group)) <= set(HELD)
    group.memory_bytes = 1_000_000
    for _ in range(30):
        watch.look()  # the ladder is down again
    assert set(told(group)) <= set(HELD)
    group.memory_bytes = 90_000_000
    for _ in range(12):
        watch.look()
    told(group)
    watch.hold(False)
    watch.look()
    assert set(told(group)) <= set(HELD)  # the ladder wants it still
    group.memory_bytes = 1_000_000
    for _ in range(30):
        watch.look()
    assert set(FREE) <= set(told(group))


def test_a_hold_that_is_refused_costs_no_look_and_is_tried_again(caplog: pytest.LogCaptureFixture):
    group = Recording()
    watch = watching(group)
    group.refuses = True
    watch.hold(True)
    for _ in range(3):
        assert watch.look().sample.processes == 1
    assert [record.message for record in caplog.records] == ["a run cannot be held back: not now"]
    group.refuses = False
    watch.look()
    assert told(group) == HELD


def test_of_a_hold_that_was_half_refused_nothing_stays_when_it_is_let_go():
    group = Recording()
    watch = watching(group)
    group.refuses_memory = True
    watch.hold(True)
    watch.look()
    assert told(group) == HELD[:2]
    group.refuses_memory = False
    watch.hold(False)
    watch.look()
    assert told(group) == FREE
    watch.look()
    assert told(group) == []
