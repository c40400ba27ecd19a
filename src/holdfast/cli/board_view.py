"""How the board of `top` looks: totals, as many columns as the terminal has room for, as many rows as fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table

from holdfast.cli import words
from holdfast.cli.board import Board, Snapshot
from holdfast.cli.charts import megabytes
from holdfast.cli.console import Text
from holdfast.cli.render import STYLES
from holdfast.client import BudgetUnitView, RunView
from holdfast.rules.clocks import Sign

SIGN_STYLES: Final = {
    Sign.WORKING: "green",
    Sign.BUSY: "cyan",
    Sign.IDLE: "yellow",
    Sign.SILENT: "dim",
    Sign.LOST: "bold red",
}
KEYS: Final = "↑↓ select  p pause  t throttle  x kill  c cancel  s sort  / filter  ? help  q quit"
HELP: Final = (
    ("↑ ↓ j k", "select a run; PgUp PgDn g G: further"),
    ("p", "pause it at its next safe point, or let it go on"),
    ("t", "hold it back until it is let go: less CPU, its memory reclaimed early"),
    ("x", "kill its processes (asks first): no crash is counted, it goes on from its checkpoint"),
    ("c", "cancel it (asks first): nothing more of it is recorded"),
    ("s", "sort by the next of cpu, memory, silent, spent, newest"),
    ("/", "only runs with this in id, agent, state, step or worker; Enter keeps it, Esc clears it"),
    ("q", "leave; Ctrl-Z stands aside, fg comes back"),
    ("~12 %", "of its whole worker: the run has no process of its own"),
    (
        "LEASE … DEADLINE",
        "four clocks: how long the lease holds; since when nothing was recorded and the step is open",
    ),
)


SMALL: Final = 6
"""A terminal with fewer lines shows runs and the line below them, and no totals."""
ALWAYS: Final = 5
"""The columns that are there even when they say nothing."""


class Column(NamedTuple):
    """A column: how wide it is at most, how early it is left out (the largest number first), and what it says."""

    name: str
    width: int
    order: int
    say: Callable[[RunView], Text | str]
    right: bool = False


def frame(board: Board, snapshot: Snapshot, size: tuple[int, int], where: str) -> RenderableType:
    """The whole screen."""
    width, height = size
    runs = board.shown()
    small = height < SMALL
    rows = max(1, height - (2 if small else 4))
    at = next((n for n, run in enumerate(runs) if run.id == board.selected), 0)
    first = max(0, min(at - rows // 2, len(runs) - rows))
    window = runs[first : first + rows]
    body: list[RenderableType] = [] if small else [*head(snapshot, where, width)]
    above = len(body)
    if board.mode == "help":
        body.append(_help(width, rows))
    elif window:
        body.append(table(window, width, selected=board.selected))
    else:
        body.append(Text("no run fits the filter" if board.filter else "no run goes on here", style="dim"))
    used = min(rows, len(HELP)) + 1 if board.mode == "help" else len(window) + 1 if window else 1
    body += [Text("")] * max(0, height - above - used - 1)
    body.append(_foot(board, len(runs), first, len(window), width))
    return Group(*body)


def head(snapshot: Snapshot, where: str, width: int) -> list[RenderableType]:
    """Two lines: what goes on and what it uses; how the machine is."""
    totals, host = snapshot.totals, snapshot.host
    more = " (the newest)" if snapshot.more else ""
    first = Text.assemble(
        (f"{totals.running} running", "bold blue"), f"  {totals.waiting} waiting  {totals.queued} queued{more}  ",
        (f"cpu {totals.cpu_percent:.0f} %  memory {megabytes(totals.memory_mb)}", "bold"),
        f"  {words.number(totals.processes, 'process')}".replace("processs", "processes"),
        f"  spent {words.amount('usd', totals.usd)}" if totals.usd else "",
        (f"  {words.clock(snapshot.at)[11:]}  {where}", "dim"),
    )  # fmt: skip
    stalled = host.stalled
    second = Text.assemble(
        ("this machine  ", "dim"),
        f"load {host.load * 100:.0f} % of {host.cores} cores  memory free {megabytes(host.memory_free_mb)}"
        f" of {megabytes(host.memory_mb)}",
    )
    if stalled is not None:
        for name, value in (("cpu", stalled.cpu), ("memory", stalled.memory), ("disk", stalled.disk)):
            style = "bold red" if value >= 20 else "yellow" if value >= 10 else "dim"
            second.append(
                f"  waits for {name} {value:.0f} %" if name == "cpu" else f"  {name} {value:.0f} %", style
            )
    for line in (first, second):
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return [first, second]


def table(runs: Sequence[RunView], width: int, *, selected: str | None = None) -> RenderableType:
    """The rows, in the columns that fit, each as wide as what it says. Lines put together by hand: a table of rich's
    takes ten times as long, and this one is drawn at every key."""
    chosen = [(column, min(width, _wide(column, cells)), cells) for column, cells in _fitting(runs, width)]
    lines = [_line([(Text(column.name), column, wide) for column, wide, _ in chosen])]
    lines[0].stylize("dim")
    for n, run in enumerate(runs):
        lines.append(_line([(cells[n], column, wide) for column, wide, cells in chosen]))
        if run.id == selected:
            lines[-1].stylize("reverse")
    return Group(*lines)


def _line(cells: Sequence[tuple[Text, Column, int]]) -> Text:
    line = Text(no_wrap=True, overflow="crop")
    for cell, column, wide in cells:
        cell.truncate(wide, overflow="ellipsis")
        cell.align("right" if column.right else "left", wide)
        line.append_text(cell).append(" ")
    line.right_crop(1)
    return line


def _fitting(runs: Sequence[RunView], width: int) -> list[tuple[Column, list[Text]]]:
    """The columns that have room, with what they say, in their order on the screen; what is empty takes none."""
    said = [(column, [_text(column.say(run)) for run in runs]) for column in COLUMNS]
    chosen: set[str] = set()
    left = width
    for column, cells in sorted(said, key=lambda one: one[0].order):
        wide = _wide(column, cells) + 1
        if column.order == 1:
            wide = min(wide, left)  # rather cut than not there
        if wide <= left and (any(cell.plain for cell in cells) or column.order <= ALWAYS):
            chosen.add(column.name)
            left -= wide
    return [(column, cells) for column, cells in said if column.name in chosen]


def _wide(column: Column, cells: Sequence[Text]) -> int:
    return min(column.width, max([len(column.name), *(cell.cell_len for cell in cells)]))


def _text(said: Text | str) -> Text:
    return Text(said) if isinstance(said, str) else said


def _help(width: int, rows: int) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for key, meaning in HELP[:rows]:
        grid.add_row(key, meaning)
    grid.width = width
    return Group(Text(""), grid)


def _foot(board: Board, count: int, first: int, shown: int, width: int) -> Text:
    if board.mode == "ask":
        line = Text(board.question(), style="bold yellow")
    elif board.mode == "filter":
        line = Text(f"/{board.filter}▏  Enter keeps it, Esc clears it", style="bold")
    elif board.mode == "help":
        line = Text("any key goes back", style="dim")
    elif board.message:
        line = Text(board.message, style="bold")
    else:
        line = Text(KEYS, style="dim")
        if board.filter:
            line = Text(f"/{board.filter}  ", style="bold").append_text(line)
        if shown < count:
            line = Text(f"{first + 1}–{first + shown} of {count:,}  ", style="bold").append_text(line)
    line.no_wrap = True
    line.truncate(width, overflow="ellipsis")
    return line


# --- what the columns say -----------------------------------------------------------------------------------------


def _id(run: RunView) -> Text:
    return Text(run.id, style="bold")


def _agent(run: RunView) -> str:
    return run.agent


def _state(run: RunView) -> Text:
    text = Text(run.state, style=STYLES.get(run.state, ""))
    reason = run.reason if run.reason is not None else "throttled" if run.throttled else None
    return text.append(f" ({reason})", style="yellow" if run.throttled else "dim") if reason else text


def _progress(run: RunView) -> str:
    if run.progress is None:
        return ""
    if run.progress.percent is None:
        return words.progress(run.progress)
    left = run.progress.eta_high_s
    return f"{run.progress.percent:.0f} %" + ("" if left is None else f" {words.rough(left)} left")


def _figure(run: RunView, told: str) -> Text:
    shared = run.resources is not None and run.resources.shared
    return Text(f"~{told}" if shared else told, style="dim" if shared else "")


def _cpu(run: RunView) -> Text:
    return Text("") if run.resources is None else _figure(run, f"{run.resources.cpu_percent:.0f} %")


def _memory(run: RunView) -> Text:
    return Text("") if run.resources is None else _figure(run, megabytes(run.resources.memory_mb))


def _disk(run: RunView) -> str:
    if run.resources is None or run.resources.shared:
        return ""
    if run.resources.workspace_mb is not None:
        return megabytes(run.resources.workspace_mb)
    written = run.resources.written_mb_s
    return f"{megabytes(written)}/s" if written else ""


def _spent(run: RunView) -> Text:
    unit = _tightest(run)
    if unit is None:
        return Text("")
    told = words.amount(unit.unit, unit.used)
    name = "" if unit.unit in ("usd", "working_s") else f" {unit.unit.replace('_', ' ')}"
    if unit.limit is None:
        return Text(f"{told}{name}")
    near = unit.limit > 0 and unit.used / unit.limit >= 0.8
    return Text(f"{told}/{words.amount(unit.unit, unit.limit)}{name}", style="yellow" if near else "")


def _tightest(run: RunView) -> BudgetUnitView | None:
    """The limit that is nearest; without one, the money."""
    units = () if run.budget is None else run.budget.units
    limited = [unit for unit in units if unit.limit is not None]
    if limited:
        return max(limited, key=lambda unit: unit.used / unit.limit if unit.limit else 1.0)
    return next((unit for unit in units if unit.unit == "usd"), None)


def _clock(of: Callable[[RunView], float | None]) -> Callable[[RunView], str]:
    def said(run: RunView) -> str:
        value = None if run.clocks is None else of(run)
        return "" if value is None else words.rough(max(0.0, value))

    return said


def _sign(run: RunView) -> Text:
    sign = None if run.clocks is None else run.clocks.sign
    return Text("") if sign is None else Text(sign, style=SIGN_STYLES[sign])


def _worker(run: RunView) -> str:
    return "" if run.worker is None else run.worker.name


COLUMNS: Final = (
    Column("ID", 32, 1, _id),
    Column("AGENT", 16, 8, _agent),
    Column("STATE", 19, 2, _state),
    Column("PROGRESS", 14, 6, _progress),
    Column("CPU", 6, 3, _cpu, True),
    Column("MEMORY", 8, 4, _memory, True),
    Column("DISK", 9, 12, _disk, True),
    Column("SPENT", 15, 9, _spent, True),
    Column("LEASE", 5, 11, _clock(lambda run: run.clocks.lease_left_s if run.clocks else None), True),
    Column("SILENT", 6, 7, _clock(lambda run: run.clocks.silent_s if run.clocks else None), True),
    Column("STEP", 5, 10, _clock(lambda run: run.clocks.step_s if run.clocks else None), True),
    Column("DEADLINE", 8, 13, _clock(lambda run: run.clocks.deadline_left_s if run.clocks else None), True),
    Column("SIGN", 7, 5, _sign),
    Column("WORKER", 18, 14, _worker),
)
"""Those that are left out first on a narrow terminal have the largest numbers."""
