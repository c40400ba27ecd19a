"""A hundred seeds of trouble, half of them with groups in the plays, and those that once failed: every law holds
after every commit, every run ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.run import simulate
from tests.sim.world import GROUPS_FROM

SEEDS = [*range(50), *range(GROUPS_FROM, GROUPS_FROM + 50)]
"""The same each time: what they find, they find once. `make sim` runs any number of others."""
A_TEST = 5
FAILED_ONCE = [
    int(line.split("#")[0]) for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines()
    if line.split("#")[0].strip()
]  # fmt: skip


@pytest.mark.parametrize("first", SEEDS[::A_TEST])
def test_the_laws_hold_and_every_run_ends(first: int) -> None:
    broken = [report for report in map(simulate, range(first, first + A_TEST)) if report.broken]
    assert not broken, "\n".join(f"make sim REPLAY={report.seed}: {report.broken}" for report in broken)


@pytest.mark.parametrize("seed", FAILED_ONCE)
def test_a_seed_that_failed_once_holds(seed: int) -> None:
    report = simulate(seed)
    assert not report.broken, f"make sim REPLAY={seed}: {report.broken}"


def test_a_seed_has_one_trace_in_every_process() -> None:
    here = [simulate(seed).trace for seed in (3, GROUPS_FROM)]
    assert here == [simulate(seed).trace for seed in (3, GROUPS_FROM)]
    assert here[0] != here[1]
    script = "from tests.sim.run import simulate; print(*[simulate(seed).trace for seed in (3, 500)])"
    there = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert there.stdout.split() == here


def test_faults_of_every_kind_befall_the_seeds() -> None:
    reports = [simulate(seed) for seed in range(12)]
    kinds = {what for report in reports for what in report.counts}
    expected = {
        "crash",
        "stop",
        "block",
        "drain",
        "bad store",
        "slow store",
        "jump",
        "store errors",
        "deeds",
        "answers",
    }
    assert expected <= kinds
