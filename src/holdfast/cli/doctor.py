"""`doctor`: is this machine, and the store with its workers, fit to keep runs?"""

from __future__ import annotations

import asyncio
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

import click

from holdfast.cli.exits import Exit
from holdfast.cli.options import common
from holdfast.cli.views import print_document
from holdfast.cli.words import size
from holdfast.clock import SystemClock
from holdfast.errors import HoldfastError
from holdfast.model import Strength
from holdfast.settings import StorePlace, find_store
from holdfast.store import open_store, shown
from holdfast.store.protocol import Store

Verdict: TypeAlias = Literal["ok", "warn", "fail"]

MB: Final = 1_000_000
DISK_WARN_BYTES: Final = 1_000 * MB
DISK_FAIL_BYTES: Final = 50 * MB
WAL_WARN_BYTES: Final = 256 * MB  # a reader that never ends keeps it from shrinking
CLOCK_WARN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's."""

    check: str
    verdict: Verdict
    found: str


@click.command()
@common
def doctor(store: str | None, as_json: bool) -> int:
    """Check Python, SQLite, the store, the disk under it, the clocks and the workers.

    Leaves with 0 when nothing failed, else with 7.
    """
    findings = asyncio.run(_examine(store))
    if as_json:
        print_document(findings)
    else:
        _print(findings)
    return Exit.UNREACHABLE if any(one.verdict == "fail" for one in findings) else Exit.SUCCEEDED


async def _examine(given: str | None) -> list[Finding]:
    findings = [*_machine()]
    try:
        place = find_store(given, make=False)
    except HoldfastError as error:
        return [*findings, Finding("store", "fail", str(error))]
    findings.append(Finding("store", "ok", f"{shown(place.url)} (from {place.named_by})"))
    if place.path is not None:
        findings += _file(place.path)
    try:
        async with open_store(place.url) as store:
            findings += await _inside(store, place)
    except HoldfastError as error:
        findings.append(Finding("opens", "fail", str(error)))
    return findings


def _machine() -> Iterator[Finding]:
    python = platform.python_version()
    yield Finding("python", "ok" if sys.version_info >= (3, 11) else "fail", f"{python} at {sys.executable}")
    yield _attempted("sqlite", _sqlite)
    yield _attempted("psutil", _psutil)
    yield _clock()
    yield from _holds()


def _attempted(check: str, look: Callable[[], Finding]) -> Finding:
    """A look that may fail in ways of its own: a doctor does not fall ill."""
    try:
        return look()
    except HoldfastError as error:
        return Finding(check, "fail", str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return Finding(check, "fail", f"{type(error).__name__}: {error}")


def _sqlite() -> Finding:
    import apsw

    from holdfast.store.sqlite.connection import check_library

    check_library(apsw.sqlite_lib_version())
    return Finding("sqlite", "ok", f"{apsw.sqlite_lib_version()}, apsw {apsw.apsw_version()}")


def _psutil() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    verdict: Verdict = "warn" if memory.percent >= 90 else "ok"
    load = psutil.cpu_count() or 1
    return Finding("memory", verdict, f"{memory.percent:.0f}% of {size(memory.total)} used, {load} CPUs")


def _clock() -> Finding:
    year = time.gmtime(SystemClock().wall_us() / 1e6).tm_year
    sane = 2024 <= year < 2100
    return Finding("clock", "ok" if sane else "fail", f"boot {SystemClock().boot_id()[:8]}, year {year}")


def _holds() -> Iterator[Finding]:
    """What could bound a run here, tried by doing it: for each limit, for each rung of the ladder."""
    from holdfast.throttle import probe

    here = probe()
    tried = f"; tried in vain: {'; '.join(here.troubles)}" if here.troubles else ""
    yield Finding("control groups", "warn" if here.troubles else "ok", here.kind + tried)
    for what, mechanisms in (("limit", here.limits), ("rung", here.rungs), ("measure", here.measures)):
        for name, one in mechanisms.items():
            why = f" ({one.why})" if one.why else ""
            verdict: Verdict = "warn" if one.strength is Strength.REFUSED else "ok"
            yield Finding(f"{what} {name}", verdict, f"{one.strength}: {one.by}{why}")


def _file(path: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(path.parent).free
    verdict: Verdict = "fail" if free < DISK_FAIL_BYTES else "warn" if free < DISK_WARN_BYTES else "ok"
    yield Finding("disk", verdict, f"{size(free)} free under {path.parent}")
    yield from _file_system(path)
    yield Finding("file", "ok", size(path.stat().st_size))
    wal = path.with_name(path.name + "-wal")
    length = wal.stat().st_size if wal.exists() else 0
    note = ": a reader that never ends keeps it from shrinking" if length > WAL_WARN_BYTES else ""
    yield Finding("wal", "warn" if length > WAL_WARN_BYTES else "ok", size(length) + note)


def _file_system(path: Path) -> Iterator[Finding]:
    """Its kind, where the system says so; opening the store refuses network file systems."""
    from holdfast.store.sqlite.filesystem import mount_type

    table = Path("/proc/self/mountinfo")
    if table.exists():
        kind = mount_type(table.read_text("utf-8", "surrogateescape"), str(path.parent.resolve()))
        yield Finding("file system", "ok", kind or "unknown")


async def _inside(store: Store, place: StorePlace) -> list[Finding]:
    findings: list[Finding] = []
    if place.path is not None:
        findings.append(await asyncio.to_thread(_attempted, "integrity", partial(_integrity, place.path)))
    off_s = abs(await store.now() - SystemClock().wall_us()) / 1e6
    findings.append(
        Finding("store clock", "warn" if off_s > CLOCK_WARN_S else "ok", f"{off_s:.3f} s from this machine's")
    )
    workers = await store.list_workers()
    for one in workers:
        state = "draining" if one.draining else "alive" if one.alive else "dead; its runs are taken over"
        what = f"{one.name} (pid {one.pid} on {one.host}): {state}, {one.runs} of {one.capacity} runs"
        findings.append(Finding("worker", "ok" if one.alive else "warn", what))
    if not workers:
        findings.append(Finding("workers", "ok", "none: `holdfast worker FILE.py` serves runs"))
    return findings


def _integrity(path: Path) -> Finding:
    from holdfast.store.sqlite.connection import Connection

    connection = Connection(path, reads_only=True)
    try:
        answers = [str(row[0]) for row in connection.rows("PRAGMA quick_check(5)")]
        version = connection.value("SELECT max(version) FROM holdfast_schema")
    finally:
        connection.close()
    sound = answers == ["ok"]
    found = f"{'sound' if sound else '; '.join(answers)}, schema {version}"
    return Finding("integrity", "ok" if sound else "fail", found)


def _print(findings: list[Finding]) -> None:
    from rich.table import Table

    from holdfast.cli.console import Text, console
    from holdfast.cli.render import STYLES

    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for one in findings:
        grid.add_row(Text(f"{one.verdict:<4}", style=STYLES[one.verdict]), one.check, one.found)
    console().print(grid)
