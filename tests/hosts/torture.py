"""The long version of the ordeals: `make torture STORE=postgres MINUTES=5 KILLS=40 RESTARTS=50 CUTS=8`.

For so many minutes the database is stopped for 0 to 2 s every 5 to 40 s, by crashes, restarts and SIGSTOP in turn. Then
each of four workers is killed in turn; then come rolling restarts; then hosts are cut off for less and for more than
their lease. Workers are `holdfast worker`, but for the last: there a lease is 5 s. Afterwards every run has ended,
nothing that was acknowledged is lost, no outcome is recorded twice, and what is recorded was not done again.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts import ordeal
from tests.hosts.network import network


def _with_database(what: Callable[[ordeal.Hosts], str]) -> Callable[[Path], str]:
    def trying(folder: Path) -> str:
        with ordeal.database(folder) as (_, hosts):
            return what(hosts)

    return trying


def main() -> int:
    """One ordeal after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("minutes", 5.0), ("kills", 40), ("restarts", 50), ("cuts", 8), ("seed", 0)):
        parser.add_argument(
            f"--{name}", type=type(default), default=type(default)(os.environ.get(name.upper(), default))
        )
    options = parser.parse_args()
    chance = random.Random(options.seed)

    def stops(folder: Path) -> str:
        for_s = 60 * options.minutes
        return ordeal.stops_of_the_server(
            folder, for_s, lambda: chance.uniform(5, 40), lambda: chance.uniform(0, 2), chance
        )

    def cuts(folder: Path) -> str:
        with network(3) as net:
            return ordeal.hosts_cut_off(folder, net, options.cuts, 5.0, chance)

    tries: list[tuple[float, Callable[[Path], str]]] = [
        (options.minutes, stops),
        (
            options.kills,
            _with_database(
                lambda hosts: ordeal.kills_in_turn(hosts, options.kills, lambda: chance.uniform(0.2, 2))
            ),
        ),
        (
            options.restarts,
            _with_database(
                lambda hosts: ordeal.rolling_restarts(hosts, options.restarts, lambda: chance.uniform(0.1, 1))
            ),
        ),
        (options.cuts, cuts),
    ]
    for wanted, what in tries:
        if not wanted:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                told = what(Path(folder))
            except pytest.skip.Exception as skipped:
                told = str(skipped)
        sys.stdout.write(f"{told}, {time.monotonic() - began:.0f} s\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
