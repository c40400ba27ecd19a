"""The history of a git repository: a row for each file that a commit changed. Every developer has one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from examples.report.model import Cursor, Source
from examples.report.sources.chunk import Chunk, Unreadable, text_of

COLUMNS = ("commit", "time", "author", "file", "area", "kind", "lines", "added", "removed")
BYTES_A_COMMIT = 600
LIMIT_S = 600


def git(path: Path | str, *arguments: str) -> bytes:
    """What git says; times in UTC, nothing of the user's settings."""
    environment = {**os.environ, "TZ": "UTC", "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_PAGER": "cat"}
    ran = subprocess.run(
        ["git", "-C", str(path), *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=environment,
        timeout=LIMIT_S,
        check=False,
    )
    if ran.returncode:
        said = ran.stderr.decode(errors="replace").strip()
        raise Unreadable(f"git cannot read the history at {path}: {said}")
    return ran.stdout


def inspect(number: int, path: Path) -> Source:
    """The repository as its HEAD is now: what is committed later is no part of this run."""
    head = git(path, "rev-parse", "--verify", "HEAD^{commit}").decode().strip()
    commits = int(git(path, "rev-list", "--count", "--no-merges", head))
    name = f"git log of {path.name}"
    return Source(number, name, "git", str(path), commits, 0, head, COLUMNS)


def read(source: Source, cursor: Cursor, limit_bytes: int, memory_mb: int) -> Chunk:
    """So many commits, newest first."""
    wanted = max(1, limit_bytes // BYTES_A_COMMIT)
    said = git(
        source.path,
        *(
            "-c",
            "core.quotePath=false",
            "-c",
            "log.showSignature=false",
            "log",
            "--no-merges",
            "--no-renames",
        ),
        *("--no-color", "--no-ext-diff", "--numstat", f"--skip={cursor.position}", f"--max-count={wanted}"),
        *("--date=format-local:%Y-%m-%d %H:%M:%S", "--format=%x00%H%x1f%ad%x1f%an", source.digest),
    )
    chunk, line = Chunk(), cursor.line
    records = said.split(b"\0")[1:]
    for record in records:
        text, mended = text_of(record)
        chunk.recoded += mended
        head, _, changes = text.partition("\n")
        commit, time, author = head.split("\x1f")
        for change in changes.splitlines():
            if change.count("\t") >= 2:
                chunk.add(line, row_of(commit, time, author, change))
                line += 1
    if len(records) == wanted:
        chunk.next = Cursor(cursor.position + wanted, line)
    return chunk


def row_of(commit: str, time: str, author: str, change: str) -> list[str | None]:
    """A line of --numstat: added, removed and the path; a binary file has dashes for figures."""
    added, removed, path = change.split("\t", 2)
    figures = None if added == "-" else str(int(added) + int(removed))
    area = path.split("/")[0] if "/" in path else "(top)"
    kind = Path(path).suffix or "(none)"
    return [commit, time, author, path, area, kind, figures, added, removed]
