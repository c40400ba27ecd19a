"""A journal written by hand, and an agent's calls walked over it.

`Run.walk` plays calls and writes down what became of each: "a=1" (answered by entry 1), "a runs", "a!=1" (a mismatch,
entry 1 is next). A plain word is a call at the root, with its arguments after a colon; "|" is a checkpoint call.
"""

from __future__ import annotations

from msgspec import structs

from holdfast.model import (
    SETUP,
    Call,
    Checkpoint,
    Entry,
    EntryKind,
    EntryStatus,
    Identity,
    Journal,
    Mismatch,
    Resolution,
    ResolutionKind,
)
from holdfast.rules.journal import Answer, Cursor, Recorded, resolve, superseded_by

OK = EntryStatus.OK
G = "G.0.0"


def entry(
    position: int,
    name: str,
    segment: int = 0,
    scope: str = "",
    occurrence: int = 0,
    *,
    key: str | None = None,
    status: EntryStatus = OK,
    kind: EntryKind = EntryKind.STEP,
    args: bytes = b"",
) -> Entry:
    identity = Identity(segment, scope, name, key, occurrence)
    return Entry(identity, kind, status, b"", args, position=position)


def record(calls: str) -> list[Entry]:
    """What a run of these calls records: "s restore a:1 a:2 | b", arguments after the colon."""
    entries: list[Entry] = []
    cursor = Cursor(journal())
    for call in calls.split():
        if call == "restore":
            cursor.restore()
        elif call == "|":
            cursor.checkpoint()
        else:
            name, _, args = call.partition(":")
            identity = cursor.identify("", name, None)
            entries.append(Entry(identity, EntryKind.STEP, OK, b"", args.encode(), position=len(entries) + 1))
    return entries


def journal(
    entries: list[Entry] | None = None, resolutions: tuple[Resolution, ...] = (), base: int = 0
) -> Journal:
    checkpoint = Checkpoint(n=1, segment=base, name=None, at_us=0, size_bytes=0, good=True) if base else None
    live = [
        e
        for e in entries or []
        if not e.superseded and (e.identity.segment == SETUP or e.identity.segment >= base)
    ]
    return Journal(checkpoint=checkpoint, entries=tuple(live), resolutions=resolutions)


class Run:
    """A run with its journal, walked again and again; what executes is recorded."""

    def __init__(self, calls: str = "") -> None:
        self.entries = record(calls)
        self.resolutions: tuple[Resolution, ...] = ()
        self.mismatch: Mismatch | None = None

    def walk(self, calls: str, base: int = 0) -> str:
        cursor = Cursor(journal(self.entries, self.resolutions, base))
        said = []
        for act in calls.split():
            said.append(self._act(cursor, act))
            if self.mismatch is not None:
                break
        return " ".join(said)

    def take(self, kind: ResolutionKind, position: int | None = None) -> None:
        """An operator's way out of the mismatch."""
        assert self.mismatch is not None
        chosen = next((e for e in self.entries if e.position == position), None)
        resolution = resolve(kind, self.mismatch, chosen, len(self.entries))
        gone = superseded_by(resolution, self.entries)
        self.entries = [
            structs.replace(e, superseded=e.superseded or e.position in gone) for e in self.entries
        ]
        self.resolutions = (*self.resolutions, resolution)
        self.mismatch = None

    def _act(self, cursor: Cursor, act: str) -> str:
        lines = {"restore": cursor.restore, "|": cursor.checkpoint, "return": cursor.finish}
        if act in lines:
            self.mismatch = lines[act]()
            return f"{act}!={self.mismatch.entry}" if self.mismatch else act
        name, _, args = act.partition(":")
        call = Call(identity=cursor.identify("", name, None), args_hash=args.encode())
        answer = cursor.answer(call)
        if isinstance(answer, Recorded):
            cursor.use(answer.entry)
            return f"{act}={answer.entry.position}"
        if isinstance(answer, Mismatch):
            self.mismatch = answer
            return f"{act}!={answer.entry}"
        cursor.recorded(call.identity)
        position = len(self.entries) + 1
        self.entries.append(Entry(call.identity, EntryKind.STEP, OK, b"", call.args_hash, position=position))
        return f"{act} runs"


def ask(cursor: Cursor, name: str, scope: str = "", key: str | None = None, args: bytes = b"") -> Answer:
    return cursor.answer(Call(identity=cursor.identify(scope, name, key), args_hash=args))


def branches(*calls: tuple[str, str]) -> list[Entry]:
    """Entries 1, 2, … of (branch path, name); "" is the root."""
    return [entry(n, name, scope=scope) for n, (scope, name) in enumerate(calls, start=1)]


def opened(entries: list[Entry]) -> Cursor:
    cursor = Cursor(journal(entries))
    cursor.restore()
    return cursor
