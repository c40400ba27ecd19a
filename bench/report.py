"""What a benchmark found: samples with their median and spread, and the goals they are held to."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a figure's median."""

    bound: float
    at_least: bool

    def met_by(self, value: float) -> bool:
        """Whether the value keeps the bound."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


def at_least(bound: float) -> Goal:
    """A goal of more."""
    return Goal(bound, at_least=True)


def at_most(bound: float) -> Goal:
    """A goal of less."""
    return Goal(bound, at_least=False)


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured: one sample a repeat."""

    name: str
    samples: tuple[float, ...]
    unit: str = ""
    goal: Goal | None = None

    @property
    def median(self) -> float:
        """The figure that counts."""
        return statistics.median(self.samples)

    def line(self) -> str:
        """For people: median, spread, goal."""
        low, high = min(self.samples), max(self.samples)
        spread = f"({_short(low)} – {_short(high)}, n={len(self.samples)})"
        text = f"  {self.name:<52}{_short(self.median):>10} {self.unit:<4} {spread}"
        if self.goal is None:
            return text
        return f"{text}  goal {self.goal} {'met' if self.goal.met_by(self.median) else 'MISSED'}"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "min": min(self.samples),
            "max": max(self.samples),
            "samples": list(self.samples),
            "goal": None if self.goal is None else str(self.goal),
            "met": None if self.goal is None else self.goal.met_by(self.median),
        }


@dataclass(slots=True)
class Findings:
    """All figures of one benchmark, in the order to be read."""

    name: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, samples: list[float], unit: str = "", goal: Goal | None = None) -> None:
        """Add a figure; its goal is judged by the median."""
        self.figures.append(Figure(name, tuple(samples), unit, goal))

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"{self.name}: {self.title}",
            *(figure.line() for figure in self.figures),
            *(f"  note: {note}" for note in self.notes),
        ]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "name": self.name,
            "title": self.title,
            "figures": [f.as_json() for f in self.figures],
            "notes": self.notes,
        }


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Ours over theirs, repeat by repeat: both of one repeat ran within seconds of each other."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def _short(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 or value == 0 else f"{value:.2g}"
