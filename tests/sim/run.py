"""`make sim`: any number of seeds (SEEDS=2000, FIRST=0), on two processes; names the failing ones and how to replay.

`REPLAY=seed make sim` runs one of them and prints its story to the end.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.sim.world import World

PROCESSES = 2


@dataclass(frozen=True)
class Report:
    """What became of one seed."""

    seed: int
    broken: str | None
    trace: str
    virtual_s: float
    cpu_s: float
    commits: int
    counts: dict[str, int] = field(default_factory=dict)
    story: tuple[str, ...] = ()


def simulate(seed: int, *, tell: bool = False) -> Report:
    """Run one seed in a folder of its own, in memory where the machine has such a place."""
    memory = Path("/dev/shm")
    began, broken = time.process_time(), None
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        world = World(seed, Path(folder))
        world.story = [] if tell else None
        try:
            world.run()
        except AssertionError as error:
            broken = str(error)
        except Exception:
            broken = traceback.format_exc()
    return Report(
        seed=seed,
        broken=broken,
        trace=world.trace.hexdigest(),
        virtual_s=world.loop.time(),
        cpu_s=time.process_time() - began,
        commits=world.laws.commits,
        counts=world.counts,
        story=tuple(world.story or ()),
    )


def main() -> int:
    """Run the seeds that the environment asks for."""
    replay = os.environ.get("REPLAY")
    if replay is not None:
        report = simulate(int(replay), tell=True)
        print("\n".join(report.story))
        print(report.broken or f"seed {replay} keeps every law; trace {report.trace[:16]}")
        return 1 if report.broken else 0
    first, seeds = int(os.environ.get("FIRST", "0")), int(os.environ.get("SEEDS", "1000"))
    began = time.monotonic()
    reports = list(_shown(range(first, first + seeds)))
    failed = [report for report in reports if report.broken]
    print(_summary(reports, time.monotonic() - began))
    for report in failed:
        print(f"\nseed {report.seed}: {report.broken}\n  replay: make sim REPLAY={report.seed}")
    if failed:
        print(f"\nAdd the smallest to tests/sim/seeds.txt, where it runs for ever: {failed[0].seed}")
    return 1 if failed else 0


def _shown(seeds: range) -> Iterator[Report]:
    columns = TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, disable=not sys.stdout.isatty()) as shown, ProcessPoolExecutor(PROCESSES) as pool:
        task = shown.add_task("", total=len(seeds))
        for report in pool.map(simulate, seeds, chunksize=5):
            shown.advance(task)
            if report.broken:
                shown.console.print(f"seed {report.seed} breaks a law")
            yield report


def _summary(reports: list[Report], took_s: float) -> str:
    counts: Counter[str] = Counter()
    for report in reports:
        counts.update(report.counts)
    hours = sum(report.virtual_s for report in reports) / 3600
    cpu_s = sum(report.cpu_s for report in reports) or 1.0
    faults = ", ".join(f"{count} × {what}" for what, count in sorted(counts.items()))
    return (
        f"{len(reports)} seeds in {took_s:.0f} s, {sum(bool(report.broken) for report in reports)} broken; "
        f"{hours:.1f} simulated hours, {hours / cpu_s:.2f} per CPU second, "
        f"{sum(report.commits for report in reports)} commits checked\n{faults}"
    )


if __name__ == "__main__":
    sys.exit(main())
