"""`kill -9` at random, many times, across 200-step agents: `make torture KILLS=500`.

Each round is one run and as many killed workers as it takes: of 200 steps in a row, and of maps and races in turn.
Afterwards everything that an agent saw acknowledged must be recorded, nothing recorded twice, and no more bodies
repeated than were in flight when workers were killed.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.processes.harness import Scene, lines, serve, stop

STEPS = 200
PAUSE_S = 0.004
ROUNDS = 15


def torment(scene: Scene, kills_left: int, chance: random.Random, *, groups: bool) -> tuple[int, int]:
    """One run, killed until it is done or the kills are used up; returns (kills, repeats)."""
    if groups:
        scene.start_fleet(ROUNDS, PAUSE_S)
    else:
        scene.start_tally(STEPS, PAUSE_S)
    kills = 0
    while kills < kills_left:
        worker = serve(scene.url, until_idle=True)
        assert worker.stdout is not None
        worker.stdout.readline()  # ready: killing an interpreter that starts proves nothing
        time.sleep(chance.uniform(0.0, 0.35))
        if worker.poll() is not None:
            stop(worker, 0)
            break
        stop(worker)
        kills += 1
        _check_acknowledged(scene)
    while not scene.run().state.final:
        stop(serve(scene.url, until_idle=True), 0)
        if scene.run().reason == "poison":  # three kills in a row between claim and first entry
            scene.steer("retry")
    return kills, scene.check_fleet(ROUNDS, kills) if groups else scene.check_tally(STEPS, kills)


def _check_acknowledged(scene: Scene) -> None:
    recorded = {(entry.identity.name, entry.payload) for entry in scene.entries()}
    for line in set(lines(scene.folder, "acked")):
        name, _, n = line.partition(" ")
        if not n:
            assert ("carry", f'"{name}"'.encode()) in recorded, f"{line} was acknowledged and is lost"
        elif name == "act":
            assert ("act", n.encode()) in recorded, f"{line} was acknowledged and is lost"


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main() -> int:
    """Kill until the number is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=int(os.environ.get("KILLS", "500")))
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED", "0")))
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    kills = repeats = runs = 0
    began = time.monotonic()
    while kills < options.kills:
        with tempfile.TemporaryDirectory() as folder:
            killed, repeated = torment(
                Scene(Path(folder)), options.kills - kills, chance, groups=runs % 2 == 1
            )
        kills, repeats, runs = kills + killed, repeats + repeated, runs + 1
        if not options.quiet:
            _say(
                f"\r{kills}/{options.kills} kills, {runs} runs, {repeats} repeats, {time.monotonic() - began:.0f} s"
            )
    _say(
        f"\n{kills} kills over {runs} runs of {STEPS} steps, or {ROUNDS} maps and races: nothing acknowledged lost,"
        " nothing recorded twice,\n"
    )
    _say(f"{repeats} steps repeated (only what was in flight), {time.monotonic() - began:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
