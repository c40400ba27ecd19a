"""Writes docs/benchmarks.md: `.venv/bin/python bench/page.py bench/results/NAME.json …`.

Of several results the one that is named first counts, for each benchmark; later ones have the rest.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = CHECKOUT / "docs" / "benchmarks.md"

INTRODUCTION = """# Benchmarks

`make bench` measures this on your machine; `bench/README.md` says how each figure is made. What counts are the
ratios: contenders run one after the other within each repeat and are compared within it. The bare driver is apsw on
holdfast's own schema, with `synchronous=FULL` and nothing checked; the peers of steps are DBOS and LangGraph's SQLite
saver, with the same durability: each step on disk before the next; those of queues are DBOS, celery and huey, and the
table says which of them lose a task that a killed process had taken. Absolute figures belong to the machine below and
compare only within one result. So do ratios to bare commits: they wait for the disk alone, holdfast for the processor
too, so the quicker the disk is beside the processor, the lower they are.
"""


def main(files: list[Path]) -> None:
    """Render the results."""
    parts = [INTRODUCTION]
    told: set[str] = set()
    for file in files:
        result = json.loads(file.read_text())
        new = [benchmark for benchmark in result["benchmarks"] if benchmark["name"] not in told]
        told |= {benchmark["name"] for benchmark in new}
        parts += [_machine(result, file), *(_table(benchmark) for benchmark in new)]
    PAGE.write_text("\n".join(parts))
    print(f"wrote {PAGE.relative_to(CHECKOUT)}")


def _machine(result: dict[str, Any], file: Path) -> str:
    machine = result["machine"]
    state = "with uncommitted changes" if machine["dirty"] else "clean"
    kept = file.resolve().relative_to(CHECKOUT)
    return (
        f"Measured {result['at']} on {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB, "
        f"{machine['kernel']}, {machine['file_system']}; Python {machine['python']}, SQLite {machine['sqlite']}; "
        f"commit {machine['commit']} ({state}); load {machine['load_before']:.1f} at the start. "
        f"Every sample is in `{kept}`. Median (minimum – maximum) of the repeats.\n"
    )


def _table(benchmark: dict[str, Any]) -> str:
    lines = [
        f"## `{benchmark['name']}`: {benchmark['title']}\n",
        "| | median | spread | goal |",
        "|---|---:|---:|---|",
    ]
    for figure in benchmark["figures"]:
        spread = f"{_short(figure['min'])} – {_short(figure['max'])}" if len(figure["samples"]) > 1 else ""
        goal = (
            "" if figure["goal"] is None else f"{figure['goal']}: {'met' if figure['met'] else '**missed**'}"
        )
        lines.append(
            f"| {figure['name']} | {_short(figure['median'])} {figure['unit']} | {spread} | {goal} |"
        )
    return "\n".join(lines) + "\n"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
