"""What it costs to watch a hundred runs, each with its own processes, once a second."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from bench.ground import Broken, Ground
from bench.report import Findings, at_most
from holdfast.rules.limits import Limits
from holdfast.rules.pressure import Thresholds
from holdfast.throttle import Ground as Standing
from holdfast.throttle import Group, Groups
from holdfast.throttle.watch import Gauge, Host, Watch

RUNS = 100
RUNS_APART = 20  # without control groups each run has an init of its own
SECONDS = 10
SECONDS_QUICK = 3

# A run that does a little: its memory changes from look to look, as a live one's does.
RUN = "import time\nwhile 1:\n  piece = bytearray(500_000)\n  time.sleep(0.7)\n  del piece\n  time.sleep(0.3)"


def measure(ground: Ground) -> Findings:
    """CPU time of the watching process, over its wall time, at one look a second."""
    found = Findings("monitor", f"{RUNS} runs with a live process each, looked at once a second")
    groups = Groups()
    if not {"memory", "processes"} & (set(groups.abilities.limits) - groups.abilities.watched):
        raise Broken(f"no control groups to measure in: {'; '.join(groups.abilities.troubles)}")
    seconds = SECONDS_QUICK if ground.quick else SECONDS
    samples, judged, apart = [], [], []
    with _runs(groups, RUNS) as runs:
        gauges = [Gauge(run) for run in runs]
        watches = [Watch(run, groups.abilities, Thresholds()) for run in runs]
        for repeat in range(ground.repeats):
            samples.append(_share([gauge.sample for gauge in gauges], seconds))
            judged.append(_share([watch.look for watch in watches], seconds))
            ground.say(f"monitor {repeat + 1}/{ground.repeats}: {samples[-1]:.3f} %, {judged[-1]:.3f} %")
    walked = Groups(ground=Standing())
    with _runs(walked, RUNS_APART) as runs:
        gauges = [Gauge(run) for run in runs]
        for _ in range(ground.repeats):
            apart.append(_share([gauge.sample for gauge in gauges], seconds) * RUNS / RUNS_APART)
    goal = None if ground.quick else at_most(0.15)
    found.add("control groups: sampled, with history", samples, "%", goal)
    found.add("control groups: sampled, judged by the ladder", judged, "%")
    found.add(f"no control groups ({RUNS_APART} runs × {RUNS // RUNS_APART})", apart, "%")
    return found


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
def _runs(groups: Groups, count: int) -> Iterator[list[Group]]:
    made: list[tuple[Group, subprocess.Popen[bytes]]] = []
    try:
        for number in range(count):
            group = groups.create(f"bench {number}", Limits(memory="200MB", processes=64))
            process = subprocess.Popen(
                group.launch([sys.executable, "-I", "-S", "-c", RUN]), start_new_session=True
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
