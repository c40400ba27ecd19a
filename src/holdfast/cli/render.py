"""What people see: tables and pages, coloured on a terminal, plain text elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table

from holdfast.cli import words
from holdfast.cli.console import Text
from holdfast.cli.explain import Explanation, sides
from holdfast.cli.needs import Need
from holdfast.client import (
    ApprovalView,
    ClocksView,
    Detail,
    FireView,
    ProgressView,
    RunView,
    ScheduleView,
    ServingView,
    StepView,
    StoredCheckpoint,
)
from holdfast.model import Artifact, Failure, RunState
from holdfast.rules import labels, tags

CURSORS_SHOWN = 5

STYLES = {
    "queued": "cyan",
    "running": "bold blue",
    "waiting": "yellow",
    "succeeded": "green",
    "failed": "bold red",
    "cancelled": "magenta",
    "ok": "green",
    "retried": "yellow",
    "abandoned": "dim",
    "superseded": "dim strike",
    "fired": "green",
    "skipped": "yellow",
    "missed": "bold yellow",
    "serving": "green",
    "draining": "yellow",
    "lost": "bold red",
    "warn": "yellow",
    "fail": "bold red",
}


def state_text(state: str, reason: str | None = None) -> Text:
    """`waiting (signal)`, in the state's colour."""
    text = Text(state, style=STYLES.get(state, ""))
    return text.append(f" ({reason})", style="dim") if reason else text


def runs_table(views: Sequence[RunView], now: datetime) -> Table:
    """The table of `ls`; what follows its parent stands under it."""
    tagged = any(view.tags for view in views)
    table = _table("ID", "AGENT", "STATE", "PROGRESS", "STEP", "AGE", "TOOK", *(["TAGS"] if tagged else []))
    for view, branch in zip(views, _tree_lines(views), strict=True):
        table.add_row(
            Text(branch).append(view.id, style="bold"),
            view.agent,
            state_text(view.state, view.reason),
            words.progress(view.progress),
            words.one_line(view.step or "", 40),
            words.age(view.created_at, now),
            took(view, now),
            *([words.one_line(tags.told(view.tags), 40)] if tagged else []),
        )
    return table


def workers_table(views: Sequence[ServingView], now: datetime) -> Table:
    """The table of `workers`."""
    labelled = any(view.labels for view in views)
    table = _table(
        "NO",
        "NAME",
        "HOST",
        "PID",
        "STATE",
        "RUNS",
        "CPU",
        "MEMORY",
        "LEASE",
        "AGE",
        *(["LABELS"] if labelled else []),
        "SERVES",
        right=["NO"],
    )
    for view in views:
        used = view.resources
        table.add_row(
            str(view.number),
            Text(words.one_line(view.name, 40), style="bold"),
            words.one_line(view.host, 30),
            str(view.pid),
            Text(view.standing, style=STYLES.get(view.standing, "")),
            f"{view.runs} of {view.capacity}",
            "" if used is None else f"{used.cpu_percent:.0f}%",
            "" if used is None else words.size(used.memory_mb * 2**20),
            "" if view.lease_left_s is None else words.duration(view.lease_left_s),
            words.age(view.since, now),
            *([words.one_line(labels.told(view.labels), 40)] if labelled else []),
            words.one_line(", ".join(f"{one.agent} ({one.version})" for one in view.serves), 60),
        )
    return table


def _tree_lines(views: Sequence[RunView]) -> list[str]:
    """What stands before each id: the lines of a tree whose runs follow their parents."""
    depths: dict[str, int] = {}
    for view in views:
        depths[view.id] = 0 if view.parent not in depths else depths[view.parent] + 1
    lines: list[str] = []
    more: set[int] = set()  # depths at which another run of the same parent follows
    for depth in reversed(depths.values()):
        more = {one for one in more if one <= depth}
        above = "".join("│  " if one in more else "   " for one in range(1, depth))
        lines.append(above + ("├─ " if depth in more else "└─ ") if depth else "")
        more.add(depth)
    return lines[::-1]


def took(view: RunView, now: datetime) -> str:
    """How long it ran, from its first attempt to its end or now."""
    if view.started_at is None:
        return ""
    return words.duration(((view.finished_at or now) - view.started_at).total_seconds())


def steps_table(steps: Sequence[StepView]) -> Table:
    """The table of `steps`."""
    table = _table(
        "N", "STEP", "KEY", "SEGMENT", "SCOPE", "ATTEMPT", "STATUS", "TOOK", "FINISHED", right=("N",)
    )
    for step in steps:
        length = (
            ""
            if step.started_at is None
            else words.duration((step.finished_at - step.started_at).total_seconds())
        )
        table.add_row(
            str(step.n),
            Text(step.name, style="bold"),
            step.key or "",
            str(step.segment),
            step.scope,
            str(step.attempt),
            state_text(step.status),
            length,
            words.clock(step.finished_at),
        )
    return table


def checkpoints_table(checkpoints: Sequence[StoredCheckpoint]) -> Table:
    """The table of `checkpoints`."""
    table = _table("N", "NAME", "SAVED", "SIZE", "", right=("N", "SIZE"))
    for one in checkpoints:
        good = Text("good", style="green") if one.good else Text("corrupt", style="bold red")
        table.add_row(str(one.n), one.name or "", words.clock(one.at), words.size(one.bytes), good)
    return table


def artifacts_table(artifacts: Sequence[Artifact]) -> Table:
    """The table of `artifacts`."""
    table = _table("NAME", "SIZE", "TYPE", "MADE", "ID", right=("SIZE",))
    for one in artifacts:
        table.add_row(
            Text(one.name, style="bold"),
            words.size(one.size_bytes),
            one.media_type,
            words.clock(one.at),
            one.id[:12],
        )
    return table


def schedules_table(rows: Sequence[tuple[ScheduleView, str, str]]) -> Table:
    """The table of `schedule ls`: each view with when it is due, and what comes next."""
    table = _table(
        "NAME",
        "AGENT",
        "WHEN",
        "NEXT",
        "LAST",
        "FIRES",
        "SKIPPED",
        "MISSED",
        right=("FIRES", "SKIPPED", "MISSED"),
    )
    for view, when, following in rows:
        last = Text("") if view.last is None else state_text(view.last.status)
        table.add_row(
            Text(view.name, style="bold"),
            view.agent,
            when,
            Text(following, style="yellow" if view.paused else ""),
            last,
            str(view.fires),
            str(view.skipped),
            Text(str(view.missed), style="yellow" if view.missed else ""),
        )
    return table


def schedule_page(view: ScheduleView, when: str, following: str) -> RenderableType:
    """The head of `schedule show`."""
    facts = Table.grid(padding=(0, 2))
    catch_up = view.catch_up
    if catch_up == "all":
        catch_up += f", the newest {view.catch_up_most} of {words.duration(view.catch_up_window_s)}"
    for name, value in (
        ("agent", f"{view.agent} (version {view.version})"),
        ("when", when),
        ("next", following),
        ("input", json.dumps(view.input, ensure_ascii=False)),
        ("catch-up", catch_up),
        ("overlap", view.overlap),
        ("jitter", words.duration(view.jitter_s) if view.jitter_s else "none"),
        ("queue", f"{view.queue}, priority {view.priority}"),
        ("fires", f"{view.fires:,}, of them {view.skipped:,} skipped and {view.missed:,} missed"),
    ):
        facts.add_row(Text(name, style="dim"), value)
    return Group(Text(view.name, style="bold"), Padding(facts, (0, 0, 1, 2), expand=False))


def fires_table(fires: Sequence[FireView]) -> Table:
    """The fires of `schedule show`."""
    table = _table("N", "DUE", "CAUSE", "STATUS", "RUN", "WHY", right=("N",))
    for fire in fires:
        why = fire.why or ("" if fire.source is None else f"run {fire.source} succeeded")
        table.add_row(
            str(fire.n), words.clock(fire.due_at), fire.cause, state_text(fire.status), fire.run or "", why
        )
    return table


def page(
    view: RunView,
    detail: Detail,
    why: Explanation,
    now: datetime,
    run_input: object,
    below: Sequence[RunView] = (),
    chart: RenderableType | None = None,
) -> RenderableType:
    """The page of `show`; `below` is what the run started, in trees, `chart` what it used."""
    head = Text.assemble((view.id, "bold"), "  ")
    head.append_text(state_text(view.state, view.reason))
    parts: list[RenderableType] = [
        head,
        Padding(_facts(view, detail, why, now, run_input), (0, 0, 0, 2), expand=False),
    ]
    if chart is not None:
        parts += ["", chart]
    if detail.mismatch is not None:
        parts += ["", _both_sides(detail)]
    elif detail.failure is not None and view.state is not RunState.SUCCEEDED:
        parts += ["", failure_text(detail.failure)]
    for question in detail.questions:
        parts += ["", question_text(question, now)]
    if below:
        parts += ["", Text("children"), Padding(runs_table(below, now), (0, 0, 0, 2), expand=False)]
    if why.ways:
        parts += ["", ways_out(why)]
    return Group(*parts)


def question_text(view: ApprovalView, now: datetime) -> RenderableType:
    """A question as it is put to a person: its words, what it is about, and how long there is time."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    if view.context is not None:
        grid.add_row("about", json.dumps(view.context, ensure_ascii=False, indent=2))
    grid.add_row("answers", ", ".join(view.options))
    grid.add_row("asked", f"{words.age(view.asked_at, now)} ago")
    if view.expires_at is not None:
        grid.add_row("expires", words.until(view.expires_at, now))
    if view.overdue or view.escalate_to is not None:
        grid.add_row("overdue" if view.overdue else "escalates", _escalation(view, now))
    head = Text.assemble((f"{view.n}  ", "dim"), (view.question, "bold yellow"))
    return Group(head, Padding(grid, (0, 0, 0, 2), expand=False))


def _escalation(view: ApprovalView, now: datetime) -> str:
    to = f"to {view.escalate_to}" if view.escalate_to is not None else ""
    when = "" if view.overdue or view.escalate_at is None else words.until(view.escalate_at, now)
    return " ".join(part for part in (when, to) if part) or "yes"


def needs_table(needs: Sequence[Need], now: datetime) -> Table:
    """The table of `ls --needs-me`."""
    table = _table("ID", "AGENT", "WHY", "WHAT", "SINCE", "EXPIRES", "COMMAND")
    for need in needs:
        table.add_row(
            Text(need.run, style="bold"),
            need.agent,
            Text("overdue", style="bold red") if need.overdue else need.kind,
            words.one_line(need.what, 60)
            + (f" (for {need.escalate_to})" if need.overdue and need.escalate_to else ""),
            words.age(need.since, now),
            "" if need.expires_at is None else words.until(need.expires_at, now),
            need.command,
        )
    return table


def _facts(view: RunView, detail: Detail, why: Explanation, now: datetime, run_input: object) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    grid.add_row("why", why.why)
    if view.parent is not None:
        grid.add_row("parent", view.parent)
    grid.add_row("agent", f"{view.agent}, version {view.version}")
    if view.tags:
        grid.add_row("tags", tags.told(view.tags))
    grid.add_row("input", words.one_line(json.dumps(run_input, ensure_ascii=False), 200))
    if view.progress is not None:
        grid.add_row("progress", progress_line(view.progress))
    if view.step is not None:
        grid.add_row("step", view.step)
    for cursor in detail.cursors[:CURSORS_SHOWN]:
        which = f"{cursor.name}[{cursor.key}]" if cursor.key is not None else cursor.name
        place = words.one_line(json.dumps(cursor.cursor, ensure_ascii=False), 100)
        grid.add_row("cursor", f"{which}: {place}, {words.age(cursor.at, now)} ago")
    for effect in detail.effects:
        which = f"{effect.name}[{effect.key}]" if effect.key is not None else effect.name
        grid.add_row("effect", f"entry {effect.n}, {which}: {effect.state.replace('_', ' ')}")
    for unit in view.budget.units if view.budget is not None else ():
        grid.add_row("budget", words.spent(unit))
    grid.add_row("recorded", recorded(view))
    if view.checkpoint is not None:
        name = f" {view.checkpoint.name!r}" if view.checkpoint.name else ""
        saved = words.age(view.checkpoint.at, now)
        grid.add_row("checkpoint", f"{view.checkpoint.n}{name}, saved {saved} ago")
    if view.workspace is not None:
        grid.add_row("workspace", view.workspace)
    if view.worker is not None:
        grid.add_row("worker", f"{view.worker.name} (pid {view.worker.pid} on {view.worker.host})")
    if view.clocks is not None:
        grid.add_row("clocks", clocks_line(view.clocks))
    if view.resources is not None:
        grid.add_row("resources", resources_line(view))
    grid.add_row("queue", f"{view.queue}, priority {view.priority}")
    grid.add_row("created", f"{words.clock(view.created_at)} ({words.age(view.created_at, now)} ago)")
    if view.finished_at is not None:
        grid.add_row("finished", f"{words.clock(view.finished_at)}, took {took(view, now)}")
    if view.state is RunState.SUCCEEDED:
        grid.add_row("result", words.one_line(json.dumps(view.result, ensure_ascii=False), 400))
    return grid


def recorded(view: RunView) -> str:
    """`12 outcomes in 2 attempts, 1 of them failed`."""
    text = f"{words.number(view.steps, 'outcome')} in {words.number(view.attempts, 'attempt')}"
    return f"{text}, {view.failures} of them failed" if view.failures else text


def progress_line(view: ProgressView) -> RenderableType:
    """A bar where the total is known, the figures, and the ETA."""
    parts = [
        words.progress(view),
        words.eta(view.eta_low_s, view.eta_high_s),
        view.phase or "",
        view.description,
    ]
    text = Text("  ".join(part for part in parts if part))
    if view.percent is None:
        return text
    grid = Table.grid(padding=(0, 1))
    grid.add_row(bar(view.percent), text)
    return grid


def bar(percent: float, width: int = 24) -> ProgressBar:
    """A bar of a fixed width."""
    done = max(0.0, min(100.0, percent))
    return ProgressBar(total=100, completed=done, width=width, complete_style="cyan", finished_style="green")


def clocks_line(view: ClocksView) -> str:
    """The four clocks in a line, and what they say together."""
    told = [] if view.lease_left_s is None else [f"lease {words.duration(view.lease_left_s)} left"]
    told.append(f"silent for {words.duration(view.silent_s)}")
    if view.step_s is not None:
        told.append(f"step for {words.duration(view.step_s)}")
    if view.deadline_left_s is not None:
        told.append(f"deadline in {words.duration(view.deadline_left_s)}")
    return f"{'  '.join(told)}  ({words.SIGNS[view.sign]})"


def resources_line(view: RunView) -> str:
    """CPU, memory, disk and processes in a line; says when they are those of several runs."""
    sample = view.resources
    if sample is None:
        return ""
    shared = ", shared by the runs of its worker" if sample.shared else ""
    return (
        f"cpu {sample.cpu_percent:.0f}%  memory {sample.memory_mb:.0f} MB  disk {sample.disk_mb:.0f} MB"
        f"  processes {sample.processes}  ({sample.level}{shared})"
    )


def _both_sides(detail: Detail) -> RenderableType:
    assert detail.mismatch is not None
    both = sides(detail)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    if both is not None:
        grid.add_row("the code does", Text(both[0], style="cyan"))
        grid.add_row("recorded is", Text(both[1], style="yellow"))
    return Group(Text(detail.mismatch.message, style="bold"), Padding(grid, (0, 0, 0, 2), expand=False))


def ways_out(why: Explanation) -> RenderableType:
    """The commands that lead out, each with its meaning."""
    grid = Table.grid(padding=(0, 3))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(style="dim", overflow="fold")
    for way in why.ways:
        grid.add_row(way.command, way.meaning)
    return Group(
        Text("ways on" if len(why.ways) > 1 else "way on"), Padding(grid, (0, 0, 0, 2), expand=False)
    )


def failure_text(failure: Failure) -> Text:
    """A failure with the user's own frames, its class, and its causes."""
    text = Text()
    text.append(failure.type, style="bold red").append(f": {failure.message}" if failure.message else "")
    known = ", an error nobody classified" if failure.unclassified else ""
    text.append(f"  [{failure.kind}{known}]", style="dim")
    if failure.frames:
        text.append("\n" + _frames_alone(failure.frames))
    if failure.cause is not None:
        text.append("\ncaused by ", style="dim").append_text(failure_text(failure.cause))
    return text


def _frames_alone(frames: str) -> str:
    """The frames of a traceback without its first line and its last, which the failure's own line says already.
    One with several parts (an error raised while another was handled) stays as it is."""
    lines = frames.rstrip("\n").splitlines()
    if sum(line.lstrip("| ").startswith("Traceback (most") for line in lines) != 1 or not lines[0].startswith(
        "Trace"
    ):
        return "\n".join(lines)
    return "\n".join(line for line in lines[1:] if line.startswith(" "))


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    return table
