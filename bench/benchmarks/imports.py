"""How long a process takes that only imports holdfast, and its shell's --help."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench.ground import Broken, Ground
from bench.report import Findings, at_most, ratios

REPEATS_AT_LEAST = 9


def measure(ground: Ground) -> Findings:
    """Whole processes, start to end, interleaved, after one warm-up each."""
    shell = Path(sys.executable).parent / "holdfast"
    commands = {
        "python -c 'pass'": [sys.executable, "-c", "pass"],
        "import asyncio, sqlite3": [sys.executable, "-c", "import asyncio, sqlite3"],
        "import holdfast": [sys.executable, "-c", "import holdfast"],
        "import every public name": [sys.executable, "-c", "from holdfast import *"],
        "holdfast --help": [str(shell), "--help"],
    }
    repeats = max(REPEATS_AT_LEAST, ground.repeats)
    took: dict[str, list[float]] = {name: [] for name in commands}
    for repeat in range(repeats + 1):
        ground.say(f"imports {repeat}/{repeats}")
        for name, command in commands.items():
            length_ms = _whole_process_ms(command)
            if repeat:
                took[name].append(length_ms)
    found = Findings("imports", "whole processes, from their start to their end, warm cache")
    for name, lengths in took.items():
        found.add(name, lengths, "ms")
    ours = took["import holdfast"]
    found.add(
        "import holdfast / import asyncio, sqlite3",
        ratios(ours, took["import asyncio, sqlite3"]),
        "×",
        at_most(1.5),
    )
    found.add("holdfast --help / import holdfast", ratios(took["holdfast --help"], ours), "×", at_most(2.0))
    return found


def _whole_process_ms(command: list[str]) -> float:
    began_s = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took_s = time.perf_counter() - began_s
    if done.returncode != 0:
        raise Broken(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return took_s * 1e3
