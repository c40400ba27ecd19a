"""The work that every contender does, and how it is timed. Standard library only: peers import it too."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAYLOAD_LINES = 32


def result_of_step(number: int) -> dict[str, Any]:
    """A step's result: 1 KB as JSON, of the shape a tool call returns."""
    return {
        "i": number,
        "tool": "search",
        "ok": True,
        "text": f"lorem ipsum dolor sit amet {number} " * PAYLOAD_LINES,
    }


def pauses_of(agent: int, steps: int) -> list[float]:
    """How each step of one agent lets others run; seeded by the agent, so no two march in lockstep.

    0: returns at once (6 in 10). Negative: that many loop turns (3 in 10). Positive: seconds (1 in 10).
    """
    chance = random.Random(agent)
    plan: list[float] = []
    for _ in range(steps):
        kind = chance.random()
        if kind < 0.6:
            plan.append(0.0)
        elif kind < 0.9:
            plan.append(-float(chance.randint(1, 3)))
        else:
            plan.append(chance.uniform(0.0002, 0.002))
    return plan


async def pause(length: float) -> None:
    """Carry out one figure of `pauses_of`."""
    if length > 0:
        await asyncio.sleep(length)
    else:
        for _ in range(int(-length)):
            await asyncio.sleep(0)


@dataclass(slots=True)
class Tally:
    """Times the window from the begin of the first step to the durable end of the last expected one."""

    expected: int
    latencies_s: list[float] = field(default_factory=list)
    began_at_s: float = 0.0
    window_s: tuple[float, float] = (0.0, 0.0)  # by the wall clock, for those who look from outside
    cpu_at_begin_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def begin(self) -> float:
        """A step starts; returns its start for `end`."""
        now = time.perf_counter()
        if not self.began_at_s:
            self.began_at_s = now
            self.window_s = time.time(), 0.0
            self.cpu_at_begin_s = time.process_time()
        return now

    def end(self, began_s: float) -> None:
        """A step's outcome is durable; the last one closes the window."""
        now = time.perf_counter()
        self.latencies_s.append(now - began_s)
        if len(self.latencies_s) == self.expected:
            self.wall_s = now - self.began_at_s
            self.window_s = self.window_s[0], time.time()
            self.cpu_s = time.process_time() - self.cpu_at_begin_s

    def figures(self) -> dict[str, Any]:
        """Rate, CPU and latency of what was timed. Raises when steps are missing."""
        if len(self.latencies_s) != self.expected:
            raise RuntimeError(
                f"timed {len(self.latencies_s)} steps of {self.expected}: this contender did not do the work"
            )
        ordered = sorted(self.latencies_s)
        return {
            "steps": self.expected,
            "window_s": self.window_s,
            "steps_per_s": self.expected / self.wall_s,
            "cpu_ms_per_step": self.cpu_s / self.expected * 1e3,
            "p50_us": ordered[len(ordered) // 2] * 1e6,
            "p99_us": ordered[int(len(ordered) * 0.99)] * 1e6,
            "max_us": ordered[-1] * 1e6,
        }


def answer_queue(
    runs: int,
    results: list[int],
    began_s: float,
    queued_s: float,
    cpu_s: float,
    drained_s: float | None = None,
) -> None:
    """The figures of a queue that is drained by now, or was at `drained_s`, of whatever contender; `cpu_s` is of the
    beginning. Raises when a run is missing, or ran twice."""
    now_s = time.time()
    if drained_s is None:
        drained_s = time.perf_counter()
    else:
        now_s -= time.perf_counter() - drained_s
    if sorted(results) != list(range(runs)):
        raise RuntimeError("a run is missing, or ran twice")
    answer(
        {
            "steps": runs,
            "window_s": (now_s - (drained_s - began_s), now_s),
            "steps_per_s": runs / (drained_s - began_s),
            "queued_per_s": runs / (queued_s - began_s),
            "drained_per_s": runs / (drained_s - queued_s),
            "cpu_ms_per_step": (time.process_time() - cpu_s) / runs * 1e3,
        }
    )


def answer(figures: dict[str, Any]) -> None:
    """Hand the figures to the process that started this one: the last line of stdout."""
    print(json.dumps(figures), flush=True)


def bytes_on_disk(folder: Path) -> int:
    """Size of everything in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def leave() -> None:
    """End at once: what a framework does at exit is not measured and may be slow."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
