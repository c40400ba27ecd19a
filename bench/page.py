"""Writes docs/benchmarks.md: `.venv/bin/python bench/page.py bench/results/NAME.json …`.

Of several results the one that is named first counts, for each benchmark; later ones have the rest.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = CHECKOUT / "docs" / "benchmarks.md"

INTRODUCTION = """# Benchmarks

`make bench` and `make bench STORE=postgres` measure this on your machine; `bench/README.md` says how each figure is
made. What counts are the ratios: contenders run one after the other within each repeat and are compared within it. The
bare driver is apsw on holdfast's own schema, with `synchronous=FULL` and nothing checked; the peers of steps are DBOS
and LangGraph's SQLite saver, with the same durability: each step on disk before the next; those of queues are DBOS,
celery and huey, and the table says which of them lose a task that a killed process had taken. Absolute figures belong
to the machine below and compare only within one result. So do ratios to bare commits: they wait for the disk alone,
holdfast for the processor too, so the quicker the disk is beside the processor, the lower they are.
"""
ON_POSTGRES = """# On PostgreSQL

Each contender has a database of its own on one server, which is as durable as it is by default. The bare driver is
psycopg on holdfast's own schema, with nothing checked: one row a commit, or so many rows by one statement. The peers
are those that store in PostgreSQL: DBOS, LangGraph's PostgreSQL saver, absurd, and for queues procrastinate. What the
server spent is the CPU of all its processes, and what it wrote to its log, within the contender's window.
"""
STORES = "sqlite", "postgres"


def main(files: list[Path]) -> None:
    """Render the results."""
    results = [(json.loads(file.read_text()), file) for file in files]
    parts = [INTRODUCTION]
    for store in STORES:
        of_store = [(result, file) for result, file in results if result.get("store", STORES[0]) == store]
        if of_store and store == "postgres":
            parts.append(ON_POSTGRES)
        parts += _told(of_store)
    PAGE.write_text("\n".join(parts))
    print(f"wrote {PAGE.relative_to(CHECKOUT)}")


def _told(results: list[tuple[dict[str, Any], Path]]) -> Iterator[str]:
    told: set[str] = set()
    for result, file in results:
        new = [benchmark for benchmark in result["benchmarks"] if benchmark["name"] not in told]
        told |= {benchmark["name"] for benchmark in new}
        yield _machine(result, file)
        yield from map(_table, new)


def _machine(result: dict[str, Any], file: Path) -> str:
    machine = result["machine"]
    state = "with uncommitted changes" if machine["dirty"] else "clean"
    kept = file.resolve().relative_to(CHECKOUT)
    stored = machine.get("server") or f"SQLite {machine['sqlite']}"
    return (
        f"Measured {result['at']} on {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB, "
        f"{machine['kernel']}, {machine['file_system']}; Python {machine['python']}, {stored}; "
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
    lines += [f"\n{note[:1].upper()}{note[1:]}." for note in benchmark["notes"]]
    return "\n".join(lines) + "\n"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
