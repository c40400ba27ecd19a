"""Power cuts without pulling a plug: every write and sync of the store is recorded by a VFS of ours, and the disk is
rebuilt as it could be after a cut: writes that no sync covered may be missing, or torn at a sector."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

SECTOR = 512


@dataclass(frozen=True)
class Write:
    file: str
    offset: int
    body: bytes


@dataclass(frozen=True)
class Cut:
    file: str
    size: int


@dataclass(frozen=True)
class Sync:
    file: str


@dataclass(frozen=True)
class Acknowledged:
    step: int


Traced = Write | Cut | Sync | Acknowledged


@dataclass
class Trace:
    """What happened, in order."""

    events: list[Traced] = field(default_factory=list)


class RecordingVFS(apsw.VFS):
    """The system's VFS, with a trace of what reaches the disk."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        super().__init__("recording", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: Any) -> Any:
        """Open a file that tells."""
        return _File(self.trace, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, trace: Trace, name: Any, flags: Any) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = Path(path).name if path else ""
        self._events = trace.events
        super().__init__("unix", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        super().xWrite(data, offset)
        self._events.append(Write(self._name, offset, bytes(data)))

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._events.append(Sync(self._name))

    def xTruncate(self, size: int) -> None:
        super().xTruncate(size)
        self._events.append(Cut(self._name, size))


def after_cut(
    base: dict[str, bytes], events: list[Traced], chance: random.Random
) -> tuple[dict[str, bytes], set[int]]:
    """A disk as it could be after a cut at a random moment, and the steps acknowledged by then."""
    moment = chance.randrange(len(events) + 1)
    disk = {name: bytearray(body) for name, body in base.items()}
    pending: dict[str, list[Write | Cut]] = {}
    acknowledged: set[int] = set()
    for event in events[:moment]:
        if isinstance(event, Acknowledged):
            acknowledged.add(event.step)
        elif isinstance(event, Sync):
            for done in pending.pop(event.file, []):
                _apply(disk, done)
        else:
            pending.setdefault(event.file, []).append(event)
    for kept in _survivors(pending, chance):
        _apply(disk, kept)
    return {name: bytes(body) for name, body in disk.items()}, acknowledged


def _survivors(pending: dict[str, list[Write | Cut]], chance: random.Random) -> Iterator[Write | Cut]:
    for events in pending.values():
        for event in events:
            if chance.random() < 0.5:
                continue
            if isinstance(event, Write) and chance.random() < 0.2:
                whole = len(event.body) // SECTOR
                yield Write(event.file, event.offset, event.body[: chance.randrange(whole + 1) * SECTOR])
            else:
                yield event


def _apply(disk: dict[str, bytearray], event: Write | Cut) -> None:
    body = disk.setdefault(event.file, bytearray())
    if isinstance(event, Cut):
        del body[event.size :]
        body.extend(bytes(event.size - len(body)))
        return
    if len(body) < event.offset:
        body.extend(bytes(event.offset - len(body)))
    body[event.offset : event.offset + len(event.body)] = event.body
