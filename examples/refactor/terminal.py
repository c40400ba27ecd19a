"""The report in a terminal: `python -m examples.refactor.terminal FOLDER` shows that of any finished job."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from examples.refactor.model import Fate, Judged, Report
from examples.refactor.report import FATES, headline

STYLES: dict[Fate, str] = {"kept": "green", "rolled back": "yellow", "unchanged": "dim", "refused": "yellow"}
BAR_WIDTH = 24


def load(path: Path) -> Report:
    """The report that a job has written."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


def rendered(report: Report) -> Group:
    """What was kept, what was rolled back and why."""
    well, sentence = headline(report)
    parts: list[RenderableType] = [
        Text(sentence, style="green" if well else "bold red"),
        Text(""),
        by_rule(report.judged),
    ]
    back = [row for row in report.judged if row.fate in ("rolled back", "refused")]
    if back:
        parts += [
            Text(""),
            Text("Rolled back, byte for byte:", style="bold"),
            *(reason_of(row) for row in back),
        ]
    return Group(*parts)


def by_rule(judged: Sequence[Judged]) -> Table:
    """A bar a rule."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    rules = list(dict.fromkeys(row.change.rule for row in judged))
    longest = max((sum(row.change.rule == rule for row in judged) for rule in rules), default=1)
    for rule in rules:
        counts = {fate: sum(row.change.rule == rule and row.fate == fate for row in judged) for fate in FATES}
        bar = Text()
        for fate, count in counts.items():
            bar.append("■" * -(-count * BAR_WIDTH // longest), style=STYLES[fate])
        words = ", ".join(f"{count} {fate}" for fate, count in counts.items() if count)
        table.add_row(Text(rule, style="bold"), bar, Text(words, style="dim"))
    return table


def reason_of(row: Judged) -> Padding:
    said = Text.assemble((f"{row.change.rule} · {row.change.path}", "yellow"), "\n", (row.reason, "dim"))
    return Padding(said, (0, 0, 0, 2))


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) == 2 else None
    if folder is None or not (folder / "report.json").exists():
        sys.exit("usage: python -m examples.refactor.terminal FOLDER   (the workspace of a finished job)")
    Console().print(rendered(load(folder / "report.json")))


if __name__ == "__main__":
    main()
