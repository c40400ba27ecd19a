"""`export` and `import`: runs carried from one store to another."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import click

from holdfast.cli import words
from holdfast.cli.exits import Exit
from holdfast.cli.files import whole_file
from holdfast.cli.options import DURATION, common, find, ids_for_completion, on_store
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.client import Client
from holdfast.errors import InvalidExport, UsageError
from holdfast.moving import Exported, Exporting, Imported, Importing, export_runs, import_runs, verify

STREAM: Final = "-"
PRIVATE: Final = 0o600
"""The file holds what runs were given and what they answered, as the store does."""
REDRAWN_BYTES: Final = 1024 * 1024
NAMED: Final = 3


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=ids_for_completion)
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--all", "everything", is_flag=True, help="All runs of the store.")
@click.option(
    "--timeout",
    "timeout_s",
    type=DURATION,
    default=60.0,
    help="How long to wait until runs that are executed come to a safe point. [default: 60s]",
)
@common
def export(
    ids: tuple[str, ...], file: str, everything: bool, timeout_s: float, store: str | None, as_json: bool
) -> int:
    """Write runs, and all runs below them, to FILE (`-`: stdout), for `holdfast import` into another store.

    Unfinished ones are paused first and stay so: let them go on here or there, not in both.
    """
    if everything == bool(ids):
        raise UsageError("name the runs and the file, or say --all: holdfast export ID… FILE")
    if file == STREAM and as_json:
        raise UsageError("the runs would go among the JSON: name a file")

    async def write(client: Client) -> int:
        wanted = None if everything else [(await find(client, text)).id for text in ids]
        with _written(file) as out, _exporting() as tell:
            done = await export_runs(client.store, wanted, out, timeout_s=timeout_s, tell=tell)
        _tell_exported(file, done, as_json)
        return Exit.SUCCEEDED

    return on_store(store, write)


@contextmanager
def _written(file: str) -> Generator[BinaryIO]:
    if file == STREAM:
        yield sys.stdout.buffer
        return
    with whole_file(Path(file), mode=PRIVATE) as out:
        yield out


@contextmanager
def _exporting() -> Generator[Callable[[Exporting], None]]:
    """What is told on stderr meanwhile: whom it waits for, in a line whenever that changes; a bar on a terminal."""
    waited: list[tuple[str, ...]] = [()]
    with _bar("export", None) as draw:

        def tell(at: Exporting) -> None:
            if at.waits_for and at.waits_for != waited[0]:
                waited[0] = at.waits_for
                names = ", ".join(at.waits_for[:NAMED]) + (", …" if len(at.waits_for) > NAMED else "")
                what = words.number(len(at.waits_for), "run")
                say(f"waiting until {what} can be paused: {names}", err=True)
            elif at.of:
                draw(at.runs, at.of)

        yield tell


def _tell_exported(file: str, done: Exported, as_json: bool) -> None:
    if as_json:
        print_document(
            {"file": file, "runs": done.runs, "size_bytes": done.size_bytes, "unfinished": done.unfinished}
        )
        return
    name = "stdout" if file == STREAM else file
    say(f"{name}: {words.number(done.runs, 'run')}, {words.size(done.size_bytes)}", err=True)
    if done.unfinished:
        say(
            f"{words.number(len(done.unfinished), 'run')} of these will go on, and stay paused here. `holdfast resume` "
            "them here, or `holdfast import --resume` them there; not in both",
            err=True,
        )


@click.command("import")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--resume", is_flag=True, help="Let those that are paused go on here, when all are there.")
@click.option("--dry-run", is_flag=True, help="Only verify the file.")
@common
def import_(file: str, resume: bool, dry_run: bool, store: str | None, as_json: bool) -> int:
    """Take the runs of FILE (`-`: stdin), which `holdfast export` wrote, into this store. Again is fine.

    Every line is verified, and a run is there only when it is whole. Unfinished ones stay paused without --resume.
    """
    with _opened(file) as (source, name), _importing(source) as tell:
        if dry_run:
            return _tell_verified(name, verify(source, name, tell), as_json)

        async def read(client: Client) -> int:
            done = await import_runs(client.store, source, name, resume=resume, tell=tell)
            return _tell_imported(done, as_json)

        return on_store(store, read, make=True)


@contextmanager
def _opened(file: str) -> Generator[tuple[BinaryIO, str]]:
    if file == STREAM:
        yield sys.stdin.buffer, "stdin"
        return
    try:
        with open(file, "rb") as source:
            yield source, file
    except OSError as error:
        raise InvalidExport(f"{file}: {error.strerror}") from error


@contextmanager
def _importing(source: BinaryIO) -> Generator[Callable[[Importing], None]]:
    found = os.fstat(source.fileno())
    total = found.st_size if stat.S_ISREG(found.st_mode) else None
    drawn = 0
    with _bar("import", total) as draw:

        def tell(at: Importing) -> None:
            nonlocal drawn
            if at.size_bytes - drawn >= REDRAWN_BYTES:
                drawn = at.size_bytes
                draw(at.size_bytes, total)

        yield tell


@contextmanager
def _bar(verb: str, total: int | None) -> Generator[Callable[[int, int | None], None]]:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, of: None
        return
    from rich.progress import Progress

    from holdfast.cli.console import console

    with Progress(console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(verb, total=total)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _tell_verified(name: str, found: Imported, as_json: bool) -> int:
    if as_json:
        print_document({"file": name, "runs": found.runs, "unfinished": found.unfinished})
    else:
        unfinished = f", {len(found.unfinished):,} of them unfinished" if found.unfinished else ""
        say(f"{name} is whole: {words.number(found.runs, 'run')}{unfinished}; nothing was done", err=True)
    return Exit.SUCCEEDED


def _tell_imported(done: Imported, as_json: bool) -> int:
    if as_json:
        refused = [{"id": run_id, "error": why} for run_id, why in done.refused]
        print_document(
            {
                "imported": done.imported,
                "here": done.here,
                "refused": refused,
                "resumed": done.resumed,
                "unfinished": done.unfinished,
            }
        )
        return Exit.REFUSED if done.refused else Exit.SUCCEEDED
    for run_id, why in done.refused:
        say(f"{run_id}: not imported: {why}")
    others = [
        f"{count:,} {what}"
        for count, what in ((len(done.here), "already here"), (len(done.refused), "refused"))
        if count
    ]
    of = f" ({', '.join(others)})" if others else ""
    say(f"imported: {len(done.imported):,} of {words.number(done.runs, 'run')}{of}", err=True)
    if done.resumed:
        say(f"resumed: {words.number(len(done.resumed), 'run')}", err=True)
    if done.unfinished:
        say(
            f"{words.number(len(done.unfinished), 'run')} of these will go on when you say so: `holdfast resume` them "
            "here or where they came from, not in both (`holdfast show` says how a held one goes on)",
            err=True,
        )
    return Exit.REFUSED if done.refused else Exit.SUCCEEDED
