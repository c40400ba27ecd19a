"""Puts one change into the tree, or takes it out again, so that a crash at any instant can be put right.

The order is the law here. The bytes before and after are durable, in the change's own folder, *before* the file is
touched; the file is replaced by a rename, so it holds one or the other; and an `apply` that finds its own folder knows
that it was cut short, and puts the file back first. A change that was decided is never looked at again.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

from examples.refactor.engines import Engine, Refused
from examples.refactor.model import Applied, Change, Job
from examples.stage import durable
from holdfast import FatalError


class Conflict(FatalError):
    """Somebody else changed a file of the tree while the run was working on it."""


@dataclass(frozen=True, slots=True)
class Undo:
    """The durable memory of one change: its file's bytes before and after."""

    folder: Path

    @classmethod
    def of(cls, job: Job, change: Change) -> Undo:
        return cls(job.changes / f"{change.number:04d}")

    @property
    def record(self) -> Path:
        return self.folder / "record.json"

    def before(self) -> bytes:
        return (self.folder / "before").read_bytes()

    def after(self) -> bytes:
        return (self.folder / "after").read_bytes()

    def save(self, change: Change, before: bytes, after: bytes) -> None:
        """The record comes last: where it stands, both contents stand whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        durable.write(self.folder / "before", before)
        durable.write(self.folder / "after", after)
        words = {"change": change.key, "before": durable.sha256(before), "after": durable.sha256(after)}
        durable.write(self.record, json.dumps(words).encode())
        durable.sync(self.folder.parent)
        durable.sync(self.folder.parent.parent)


def apply(job: Job, change: Change, engine: Engine) -> Applied:
    """Rewrite the change's file. Repeatable: cut short anywhere, a second call ends with the same bytes."""
    put_half_done_back(job, change)
    path = Path(job.tree, change.path)
    before = path.read_bytes()
    try:
        after = engine.rewrite(job, change, before)
    except Refused as refusal:
        unchanged = durable.sha256(before)
        return Applied(unchanged, unchanged, 0, 0, refused=str(refusal))
    if after != before:
        Undo.of(job, change).save(change, before, after)
        durable.write(path, after, mode=path.stat().st_mode & 0o7777)
    added, removed = line_counts(before, after)
    return Applied(durable.sha256(before), durable.sha256(after), added, removed)


def undo(job: Job, change: Change) -> str:
    """Put the change's file back byte for byte. Repeatable. Returns the sha256 of what is there now."""
    path = Path(job.tree, change.path)
    memory = Undo.of(job, change)
    expect(path, memory)
    durable.write(path, memory.before(), mode=path.stat().st_mode & 0o7777)
    return durable.sha256(path.read_bytes())


def put_half_done_back(job: Job, change: Change) -> bool:
    """On re-entry: if this change had begun, its file gets the bytes from before it. True if there was any."""
    durable.remove_temporary(Path(job.tree, change.path))
    if not Undo.of(job, change).record.exists():
        return False
    undo(job, change)
    return True


def expect(path: Path, memory: Undo) -> None:
    """The file must hold what this run put there or found there; anything else is somebody else's work."""
    known = json.loads(memory.record.read_text())
    if durable.sha256(path.read_bytes()) not in (known["before"], known["after"]):
        raise Conflict(
            f"{path} was changed by somebody else since the run began to apply {known['change']}. "
            f"Put it back to the content of {memory.folder / 'before'} or {memory.folder / 'after'}, then retry."
        )


def line_counts(before: bytes, after: bytes) -> tuple[int, int]:
    """Lines added and removed."""
    lines = list(diff(before, after, "")[2:])
    return sum(line.startswith("+") for line in lines), sum(line.startswith("-") for line in lines)


def diff(before: bytes, after: bytes, path: str) -> list[str]:
    """A unified diff, a line each, without line ends."""
    old, new = (content.decode(errors="replace").splitlines() for content in (before, after))
    return list(difflib.unified_diff(old, new, path, path, lineterm=""))
