"""What every demo proves: it was killed, and nothing that was recorded was done again. Pure.

The witnesses are independent of each other: holdfast's own record of outcomes, and the log that each step body wrote
about its execution.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.table import Table
from rich.text import Text

from examples.stage.executions import Execution


@dataclass(frozen=True, slots=True)
class Outcome:
    """A recorded outcome, as `holdfast steps --json` shows it."""

    name: str
    key: str | None
    status: str
    scope: str = ""

    @classmethod
    def of(cls, shown: dict[str, object]) -> Outcome:
        """From a row of the command's answer."""
        key = None if shown["key"] is None else str(shown["key"])
        return cls(str(shown["name"]), key, str(shown["status"]), str(shown.get("scope") or ""))


class Witnessed(Protocol):
    """What these proofs rest on."""

    @property
    def kills(self) -> int: ...
    @property
    def wanted_kills(self) -> int: ...
    @property
    def recorded(self) -> int:
        """Outcomes in the run's life, as `holdfast show --json` counts them."""
        ...

    @property
    def outcomes(self) -> Sequence[Outcome]: ...
    @property
    def executions(self) -> Sequence[Execution]: ...


@dataclass(frozen=True, slots=True)
class Proof:
    """A claim, whether it holds, and what shows it."""

    claim: str
    holds: bool
    evidence: str


def was_killed(seen: Witnessed) -> Proof:
    """As often as was wanted, and yet it ended."""
    holds = seen.kills >= seen.wanted_kills
    return Proof("the worker was killed, and the run is done", holds, f"{seen.kills} × SIGKILL, 1 result")


def repeats_are_bounded(seen: Witnessed, in_flight: int) -> Proof:
    """No outcome is recorded twice; a body was executed again only where a kill cut it short."""
    repeats = len(seen.executions) - seen.recorded
    recorded = Counter((one.scope, one.name, one.key) for one in seen.outcomes)
    holds = (
        0 <= repeats <= seen.kills * in_flight
        and max(recorded.values(), default=0) <= 1
        and len(seen.outcomes) == seen.recorded
    )
    evidence = (
        f"{len(seen.executions)} executions − {seen.recorded} recorded = "
        f"{many(repeats, 'repeat')} ≤ {seen.kills} kills × {in_flight} in flight"
    )
    return Proof("nothing recorded was done again", holds, evidence)


def many(count: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def proven(proofs: Sequence[Proof]) -> Table:
    """The proofs for a terminal, a line each."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for proof in proofs:
        mark = Text("✓", style="bold green") if proof.holds else Text("✗", style="bold red")
        table.add_row(
            mark,
            Text(proof.claim, style="" if proof.holds else "bold red"),
            Text(proof.evidence, style="dim"),
        )
    return table
