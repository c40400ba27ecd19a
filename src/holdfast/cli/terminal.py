"""The live picture of a run on a terminal: state, bar, step, ETA, and the last log lines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from rich.console import Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from holdfast.cli import words
from holdfast.cli.console import Text, console
from holdfast.cli.lines import event_line
from holdfast.cli.live import REFRESHES_A_SECOND, Picture, worth_a_line
from holdfast.cli.render import STYLES, bar, state_text
from holdfast.client.view import OutputView, progress_view
from holdfast.model import Event, Run

STEP_SHOWN_AFTER_S = 1.0


class TerminalShow:
    """Redraws the picture a few times a second, from a thread of rich's, also while the agent blocks the loop."""

    def __init__(self, picture: Picture, now_us: Callable[[], int], *, stderr: bool) -> None:
        self._picture = picture
        self._now_us = now_us
        self._console = console(stderr=stderr)
        self._spinner = Spinner("dots", style="blue")

    def shown(self) -> AbstractContextManager[object]:
        return Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=REFRESHES_A_SECOND,
            transient=True,
            redirect_stdout=False,  # `run` sends what agents print to stderr
        )

    def event(self, event: Event) -> None:
        self._picture.apply(event)
        if worth_a_line(event):
            style = STYLES.get(event.type.partition(".")[2], "yellow" if event.type == "warning" else "dim")
            self._console.print(Text(event_line(event), style=style))

    def output(self, piece: OutputView) -> None:
        self._picture.stream(piece)

    def glance(self, run: Run) -> None:
        self._picture.glance(run, self._now_us())

    def say(self, text: str) -> None:
        self._console.print(Text(text, style="bold"))

    def _draw(self) -> RenderableType:
        now_us = self._now_us()
        parts: list[RenderableType] = [self._head(now_us)]
        if self._picture.progress is not None:
            parts.append(self._progress(now_us))
        parts += [
            Text(f"  {line}", style="dim", no_wrap=True, overflow="ellipsis")
            for line in list(self._picture.logs)
        ]
        if (streamed := self._picture.output.strip()) != "":
            parts.append(Text(f"  {streamed.splitlines()[-1]}", no_wrap=True, overflow="ellipsis"))
        return Group(*parts)

    def _head(self, now_us: int) -> RenderableType:
        run = self._picture.run
        head = Text.assemble((run.id, "bold"), "  ", state_text(run.state, run.reason))
        since_us = run.started_at_us or run.created_at_us
        head.append(f"  {words.duration((now_us - since_us) / 1e6)}", style="dim")
        head.append(f"  {self._picture.recorded} recorded", style="dim")
        if self._picture.step:
            head.append("  → ").append(self._picture.step, style="cyan")
            open_s = (now_us - self._picture.step_since_us) / 1e6
            if open_s >= STEP_SHOWN_AFTER_S:
                head.append(f" {words.duration(open_s)}", style="dim")
        grid = Table.grid(padding=(0, 1))
        grid.add_row(self._spinner, head)
        return grid

    def _progress(self, now_us: int) -> RenderableType:
        assert self._picture.progress is not None
        view = progress_view(self._picture.progress, now_us)
        figures = Text(words.progress(view), style="bold")
        if left := words.eta(view.eta_low_s, view.eta_high_s):
            figures.append(f"  {left}", style="dim")
        for part in (view.phase, view.description):
            if part:
                figures.append(f"  {part}")
        grid = Table.grid(padding=(0, 1))
        if view.percent is None:
            grid.add_row(" ", figures)
        else:
            grid.add_row(" ", bar(view.percent, 30), figures)
        return grid
