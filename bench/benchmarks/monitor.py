"""What it costs to watch a hundred runs, each with its own processes, once a second."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.ground import Broken, Ground
from bench.report import Findings, at_most
from holdfast.clock import SystemClock
from holdfast.model import Level, NewRun, NewWorker, Served, TreeSample
from holdfast.process.sampling import Sampling
from holdfast.process.sightings import Sightings
from holdfast.rules.limits import Limits
from holdfast.rules.pressure import Thresholds
from holdfast.rules.sampling import STORE_US
from holdfast.store import open_store
from holdfast.throttle import Ground as Standing
from holdfast.throttle import Group, Groups
from holdfast.throttle.host import Host
from holdfast.throttle.watch import Gauge, Watch

RUNS = 100
RUNS_APART = 20  # without control groups each run has an init of its own
SECONDS = 10
SECONDS_QUICK = 3

# A run that does a little: its memory changes from look to look, as a live one's does.
RUN = "import time\nwhile 1:\n  piece = bytearray(500_000)\n  time.sleep(0.7)\n  del piece\n  time.sleep(0.3)"
# A run that is busy: whatever is read more seldom of one that does little is read of it. 3 ms of each second, and a
# program started in it.
BUSY = "import subprocess, time\nwhile 1:\n  time.sleep(1)\n  subprocess.run(['/bin/true'])\n  sum(range(100_000))"


def measure(ground: Ground) -> Findings:
    """CPU time of the watching process, over its wall time, at one look a second."""
    found = Findings("monitor", f"{RUNS} runs with a live process each, looked at once a second")
    groups = Groups()
    if not {"memory", "processes"} & (set(groups.abilities.limits) - groups.abilities.watched):
        raise Broken(f"no control groups to measure in: {'; '.join(groups.abilities.troubles)}")
    seconds = SECONDS_QUICK if ground.quick else SECONDS
    samples, judged, busy, apart = [], [], [], []
    with _runs(groups, RUNS) as runs:
        gauges = [Gauge(run) for run in runs]
        watches = [Watch(run, groups.abilities, Thresholds()) for run in runs]
        for repeat in range(ground.repeats):
            samples.append(_share([gauge.sample for gauge in gauges], seconds))
            judged.append(_share([watch.look for watch in watches], seconds))
            ground.say(f"monitor {repeat + 1}/{ground.repeats}: {samples[-1]:.3f} %, {judged[-1]:.3f} %")
    with _runs(groups, RUNS, BUSY) as runs:
        watches = [Watch(run, groups.abilities, Thresholds()) for run in runs]
        for _ in range(ground.repeats):
            busy.append(_share([watch.look for watch in watches], seconds))
    walked = Groups(ground=Standing())
    with _runs(walked, RUNS_APART) as runs:
        gauges = [Gauge(run) for run in runs]
        for _ in range(ground.repeats):
            apart.append(_share([gauge.sample for gauge in gauges], seconds) * RUNS / RUNS_APART)
    goal = None if ground.quick else at_most(0.15)
    found.add("control groups: sampled, with history", samples, "%", goal)
    found.add("control groups: sampled, judged by the ladder", judged, "%", goal)
    found.add("control groups: the same, each run starts a program a second", busy, "%")
    found.add(f"no control groups ({RUNS_APART} runs × {RUNS // RUNS_APART})", apart, "%")
    stored: list[float] = []
    for number in range(ground.repeats):
        with ground.folder() as folder:
            stored.append(asyncio.run(_stored(folder, number)))
    found.add(f"stored, when all {RUNS} have changed, each {STORE_US / 1e6:g} s", stored, "%")
    return found


async def _stored(folder: Path, number: int) -> float:
    """Percent of a core that it takes to keep and store what is seen of the runs: the worst case, for all of them have
    something new each time, and no history is due."""
    serves = (Served(agent="a", version="0"),)
    async with open_store(f"sqlite:///{folder / 'store.db'}") as store:
        new = NewWorker(name="w", host="h", pid=1, capacity=RUNS, serves=serves, apart=serves)
        worker = await store.register_worker(new, 3_600_000_000)
        await store.create_runs(
            [NewRun(id=f"r{n}", agent="a", version="0", input=b"{}") for n in range(RUNS)]
        )
        clock, chance = SystemClock(), random.Random(number)
        seen = [Sightings(claim.run, clock) for claim in await store.claim(worker, serves, RUNS)]
        sampling, rounds, used_s = Sampling(store, lambda: seen), 20, 0.0
        for _ in range(rounds):
            samples = [
                TreeSample(
                    at_us=clock.boot_us(), span_us=1_000_000, cpu_percent=chance.uniform(0, 100),
                    memory_bytes=chance.randrange(10**7, 10**9), processes=chance.randrange(1, 9),
                )
                for _ in range(2 * RUNS)
            ]  # fmt: skip
            before_s = time.process_time()
            for n, sample in enumerate(samples):
                seen[n % RUNS].add(sample, Level.OK)
            await sampling.store()
            used_s += time.process_time() - before_s
        return 100 * used_s / rounds / (STORE_US / 1e6)


def _share(looks: list[Callable[[], object]], seconds: int) -> float:
    """Percent of a core, at one look of each a second. The first, which opens things, is not counted."""
    host = Host()
    for look in looks:
        look()
    used_s = 0.0
    began_s = time.monotonic()
    for second in range(1, seconds + 1):
        time.sleep(max(0.0, began_s + second - time.monotonic()))
        before_s = time.process_time()
        host.stall()
        for look in looks:
            look()
        used_s += time.process_time() - before_s
    host.close()
    return 100 * used_s / (time.monotonic() - began_s)


@contextlib.contextmanager
def _runs(groups: Groups, count: int, code: str = RUN) -> Iterator[list[Group]]:
    made: list[tuple[Group, subprocess.Popen[bytes]]] = []
    try:
        for number in range(count):
            group = groups.create(f"bench {number}", Limits(memory="200MB", processes=64))
            process = subprocess.Popen(
                group.launch([sys.executable, "-I", "-S", "-c", code]), start_new_session=True
            )
            made.append((group, process))
            group.attach(process.pid)
        time.sleep(1.0)
        if any(process.poll() is not None for _, process in made):
            raise Broken("a run ended by itself")
        yield [group for group, _ in made]
    finally:
        for group, process in made:
            group.kill()
            process.wait()
            group.remove()
