"""The entry of the benchmarks: `make bench`, or `.venv/bin/python bench/run.py --only sequential`."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the checkout, not this folder

from bench import machine  # noqa: E402
from bench.ground import HOME, Broken, Ground  # noqa: E402
from bench.report import Findings  # noqa: E402

ON_SQLITE = (
    "sequential",
    "concurrent",
    "map",
    "resume",
    "restart",
    "schedules",
    "queue",
    "starts",
    "sleepers",
    "monitor",
    "isolation",
    "imports",
)
ON_POSTGRES = {
    "sequential": "sequential",
    "concurrent": "concurrent",
    "queue": "postgres.queue",
    "claims": "postgres.claims",
    "starts": "starts",
    "workers": "postgres.workers",
    "recovery": "postgres.recovery",
}
BENCHMARKS = {"sqlite": {name: name for name in ON_SQLITE}, "postgres": ON_POSTGRES}
REPEATS = 5
REPEATS_QUICK = 3


def main() -> int:
    """Run what was asked for, print it, write it; 0 unless something is broken: a missed goal is no error."""
    options = _options()
    HOME.mkdir(exist_ok=True)
    with _ground(options) as ground:
        return _measure(options, ground)


@contextlib.contextmanager
def _ground(options: argparse.Namespace) -> Iterator[Ground]:
    repeats = options.repeats or (REPEATS_QUICK if options.quick else REPEATS)
    if options.store == "sqlite":
        yield Ground(repeats=repeats, quick=options.quick, with_peers=not options.no_peers)
        return
    from bench.server import on_postgres  # and with it the driver, which only this needs

    with on_postgres(repeats, options.quick, not options.no_peers) as ground:
        yield ground


def _measure(options: argparse.Namespace, ground: Ground) -> int:
    this = machine.describe(HOME, ground.version)
    print("\n".join(this.lines()), flush=True)
    began_s = time.monotonic()
    all_found: list[Findings] = []
    broken = False
    for name in options.only:
        module = BENCHMARKS[options.store][name]
        try:
            found: Findings = importlib.import_module(f"bench.benchmarks.{module}").measure(ground)
        except Broken as reason:
            print(f"\n{name}: BROKEN: {reason}", flush=True)
            broken = True
            continue
        all_found.append(found)
        print("\n" + "\n".join(found.lines()), flush=True)
    if options.json is not None:
        _write(options.json, options.store, this, ground, all_found)
    print(f"\n{_summary(all_found)}; took {time.monotonic() - began_s:.0f} s", flush=True)
    return 1 if broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/run.py", description="holdfast against the bare driver and its peers."
    )
    parser.add_argument(
        "--store",
        choices=BENCHMARKS,
        default=os.environ.get("STORE") or "sqlite",
        help="what holdfast and its peers store in (or STORE=…); postgres: a server of its own, durable",
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="just this one; may be given again (or ONLY=…)"
    )
    parser.add_argument(
        "--repeats", type=int, help=f"interleaved repeats (default {REPEATS}, quick {REPEATS_QUICK})"
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller sizes and fewer repeats: a look, not a figure to quote"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="every sample, with machine and commit")
    parser.add_argument("--no-peers", action="store_true", help="holdfast alone (needs no package index)")
    options = parser.parse_args()
    if options.store not in BENCHMARKS:  # from the environment, which argparse does not check
        parser.error(f"STORE names no store: {options.store}; there are {' '.join(BENCHMARKS)}")
    there = BENCHMARKS[options.store]
    options.only = options.only or os.environ.get("ONLY", "").split() or list(there)
    if unknown := set(options.only) - set(there):
        parser.error(
            f"no benchmark on {options.store}: {' '.join(sorted(unknown))}; there are {' '.join(there)}"
        )
    return options


def _summary(all_found: list[Findings]) -> str:
    held = [figure for found in all_found for figure in found.figures if figure.goal is not None]
    met = [figure for figure in held if figure.goal is not None and figure.goal.met_by(figure.median)]
    return f"{len(met)} of {len(held)} goals met"


def _write(file: Path, store: str, this: machine.Machine, ground: Ground, all_found: list[Findings]) -> None:
    content = {
        "store": store,
        "machine": asdict(this),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "repeats": ground.repeats,
        "quick": ground.quick,
        "benchmarks": [found.as_json() for found in all_found],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
