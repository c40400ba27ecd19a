"""What the demo shows of this workload: each change with its verdict, and kills in the middle of tests and applies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.text import Text

from examples.refactor.chaos import choose_kills
from examples.stage import executions, show
from examples.stage.executions import Execution
from examples.stage.shell import Shell

MARKS = {
    "kept": ("✓", "green"),
    "rolled back": ("↩", "yellow"),
    "unchanged": ("=", "dim"),
    "refused": ("↩", "yellow"),
}


@dataclass(frozen=True, slots=True)
class Stage:
    """What is refactored, with what, and where everything of this run is kept."""

    repo: Path
    python: Path
    tools: Path
    shell: Shell
    workspace: Path
    limit: int | None = None

    @property
    def log(self) -> Path:
        return self.workspace / "executions.jsonl"

    @property
    def worker_log(self) -> Path:
        return self.workspace.parent / "workers.log"


@dataclass(slots=True, kw_only=True)
class Show(show.Show):
    """The run while it goes on; the kills are planned when the number of changes is known."""

    kills_wanted: int
    seed: int
    planned: bool = False
    judged: set[str] = field(default_factory=set)

    def show(self, event: dict[str, object]) -> None:
        """Show one event: a change judged, a part of the setup recorded, or what every run tells."""
        show.Show.show(self, event)
        found = event["data"]
        assert isinstance(found, dict)
        if event["type"] == "progress":
            self.plan_kills(found["total"])
        elif event["type"] == "log":
            self.tell_judged(found["message"])
        elif event["type"] == "step.finished" and found["name"] in ("prepare", "index", "baseline", "plan"):
            self.screen.line("·", f"{found['name']} recorded")

    def tell_judged(self, message: str) -> None:
        """The agent's own words about a change: `#12 kept: UP · flask/app.py · reason`."""
        if message in self.judged:  # an attempt that resumes right after a log line says it once more
            return
        self.judged.add(message)
        number, _, rest = message.partition(" ")
        fate, _, what = rest.partition(": ")
        mark, style = MARKS.get(fate, ("·", ""))
        rule, path, reason = [*what.split(" · ", 2), "", ""][:3]
        told = Text.assemble((f"{number:>4} ", "dim"), (f"{rule:<15}", "bold"), path)
        if fate != "kept":
            told.append(f"  {fate}: {reason}", style)
        self.screen.line(mark, told, style)

    def plan_kills(self, total: float | None) -> None:
        """The plan is known with the first total: now there is something to spread the kills over."""
        if total and not self.planned:
            self.planned = True
            began = {one.step: one.at for one in executions.read(self.stage.log)}
            tests_s = began["plan"] - began["baseline"]
            self.killer.kills = choose_kills(int(total), self.kills_wanted, tests_s=tests_s, seed=self.seed)

    def called(self, execution: Execution, entered: Sequence[Execution]) -> str:
        """An execution in words, with the number of its change."""
        return numbered(execution, entered)


def numbered(execution: Execution, entered: Sequence[Execution]) -> str:
    """`verify #31 (UP · flask/app.py)`: changes are tried in their order, so the log numbers them."""
    if execution.key is None:
        return execution.step
    keys = list(dict.fromkeys(one.key for one in entered if one.key is not None))
    rule, _, path = execution.key.partition(":")
    return f"{execution.step} #{keys.index(execution.key) + 1} ({rule} · {path})"
