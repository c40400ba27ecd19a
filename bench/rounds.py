"""Contenders on the same work, repeat by repeat: what each answered, and how they compare within a repeat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bench.ground import Ground
from bench.report import Findings, Goal, ratios


@dataclass(slots=True)
class Rounds:
    """The answers of the contenders of one benchmark, one a repeat each."""

    ground: Ground
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def keep(self, name: str, answer: dict[str, Any]) -> None:
        """Keep one contender's answer in this repeat, and say it."""
        self.answers.setdefault(name, []).append(answer)
        rate, cpu_ms = answer["steps_per_s"], answer["cpu_ms_per_step"]
        self.ground.say(f"  {name}: {rate:,.0f} steps/s, {cpu_ms:.3f} ms CPU a step")

    def samples(self, name: str, what: str = "steps_per_s") -> list[float]:
        """One contender's figure, a sample a repeat."""
        return [answer[what] for answer in self.answers[name]]

    def add(self, found: Findings, name: str, what: str, unit: str, goal: Goal | None = None) -> None:
        """Report a figure of a contender under the name `contender: what`."""
        words = {
            "steps_per_s": "steps a second",
            "cpu_ms_per_step": "CPU a step",
            "p50_us": "p50 of a step",
            "p99_us": "p99 of a step",
        }
        found.add(f"{name}: {words.get(what, what)}", self.samples(name, what), unit, goal)

    @property
    def of_a_server(self) -> bool:
        """Whether they work with a server, and it is known what that spent."""
        return any("server_cpu_ms_per_step" in answers[0] for answers in self.answers.values())

    def add_server(self, found: Findings, name: str) -> None:
        """Report what the server spent on a contender, where there is one."""
        if self.of_a_server:
            rate = "server_cpu_ms_per_step", "wal_bytes_per_step"
            found.add(f"{name}: CPU of the server a step", self.samples(name, rate[0]), "ms")
            found.add(f"{name}: bytes of its log a step", self.samples(name, rate[1]), "B")

    def ratio(self, name: str, other: str) -> list[float]:
        """Rate over rate, repeat by repeat."""
        return ratios(self.samples(name), self.samples(other))
