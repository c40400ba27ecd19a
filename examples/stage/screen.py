"""What the demo shows while it runs: one line an occurrence, and, on a terminal, where the run is right now."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text


@dataclass(slots=True)
class Screen:
    """Lines on a console, each with the time since the beginning, above a live bar if it is a terminal."""

    console: Console
    began: float = field(default_factory=time.monotonic)
    _progress: Progress | None = None
    _task: TaskID | None = None

    def line(self, mark: str, text: str | Text, style: str = "") -> None:
        said = text if isinstance(text, Text) else Text(text, style=style)
        stamp = Text(f"{time.monotonic() - self.began:6.1f} s  ", style="dim")
        row = Text.assemble(stamp, (f"{mark} ", style), said)
        live = self.console.is_terminal
        self.console.print(row, soft_wrap=not live, no_wrap=live, overflow="ellipsis" if live else None)

    def heading(self, text: str) -> None:
        self.console.print()
        self.console.print(Text(text, style="bold"))

    def live(self) -> AbstractContextManager[object]:
        """Show the bar while the run goes on."""
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[phase]}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.description}"),
            TimeElapsedColumn(),
            TextColumn("[dim]worker {task.fields[worker]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, phase="queued", worker="none yet")
        return self._progress

    def worker(self, name: str) -> None:
        self._update(worker=name)

    def progress(self, current: float, total: float | None, description: str, phase: str | None) -> None:
        self._update(
            completed=int(current),
            total=None if total is None else int(total),
            description=escape(description),
            phase=phase or "",
        )

    def saying(self) -> Callable[[str], None]:
        return lambda text: self.line("·", text)

    def _update(self, **fields: object) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, **fields)  # type: ignore[arg-type]  # rich names them one by one
