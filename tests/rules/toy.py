"""An attempt over the real Cursor and a journal in memory, with kills at any commit.

The toy plays the part of Context, Recording and Store at once, with generators for tasks: `yield` lets the others run.
It knows by itself, without the Cursor, what each entry is the outcome of, and so can tell a wrong answer, a repeated
effect and an entry that was passed over in silence: `Memory.broken` collects them.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

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
)
from holdfast.rules.journal import (
    Blocked,
    Cursor,
    Execute,
    Recorded,
    within,
)

Task = Generator[None, None, Any]
KEEP = 3
NEVER = 1_000
"""A step of as many ticks does not end before anybody cancels it."""

UNCANCELLED = "nothing cancels it"


class Ending(BaseException):
    """Ends the attempt, whatever the agent does."""


class Crash(Ending):
    pass


class Parked(Ending):
    pass


class Held(Ending):
    pass


class Cancel(BaseException):
    pass


class ToyFailed(Exception):
    def __init__(self, entry: Entry) -> None:
        self.entry = entry


@dataclass
class Memory:
    """What is durable, and what the world remembers."""

    kills: frozenset[tuple[int, str]] = frozenset()
    entries: list[Entry] = field(default_factory=list)
    resolutions: list[Resolution] = field(default_factory=list)
    checkpoints: list[tuple[int, str]] = field(default_factory=list)
    position: int = 0
    commits: int = 0
    clock: int = 0
    kept_from: int = 0
    inbox: int = 0
    consumed: set[int] = field(default_factory=set)
    dead: bool = False
    mismatch: Mismatch | None = None
    accepted: set[int] = field(default_factory=set)
    failed_once: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    @property
    def base(self) -> int:
        return self.checkpoints[-1][0] if self.checkpoints else 0

    def commit(self, act: Callable[[], None]) -> None:
        if self.dead:
            raise Crash
        self.commits += 1
        if (self.commits, "before") in self.kills:
            self.dead = True
            raise Crash
        act()
        if (self.commits, "after") in self.kills:
            self.dead = True
            raise Crash

    def journal(self) -> Journal:
        checkpoint = None
        if self.checkpoints:
            checkpoint = Checkpoint(n=1, segment=self.base, name=None, at_us=0, size_bytes=0, good=True)
        return Journal(checkpoint=checkpoint, entries=tuple(self.live()), resolutions=tuple(self.resolutions))

    def live(self) -> list[Entry]:
        base = self.base
        return [
            e
            for e in self.entries
            if not e.superseded and (e.identity.segment == SETUP or e.identity.segment >= base)
        ]

    def append(self, entry: Entry) -> Entry:
        entry = structs.replace(entry, position=self.position + 1, at_us=self.clock)

        def act() -> None:
            self.position += 1
            self.entries.append(entry)

        self.commit(act)
        return entry

    def save(self, segment: int, state: str) -> None:
        if segment <= self.base:
            return
        self.checkpoints = [*self.checkpoints, (segment, state)][-KEEP:]
        if len(self.checkpoints) == KEEP:  # the start counts as the first checkpoint
            self.kept_from = self.checkpoints[0][0]
        gone = [e for e in self.entries if 0 <= e.identity.segment < self.kept_from]
        self.consumed |= {e.signal for e in gone if e.signal is not None and not e.superseded}
        self.entries = [e for e in self.entries if not 0 <= e.identity.segment < self.kept_from]

    def corrupt_newest(self) -> None:
        older = self.checkpoints[-2][0] if len(self.checkpoints) > 1 else 0
        if self.checkpoints and older >= self.kept_from:
            self.checkpoints.pop()

    def supersede(self, positions: tuple[int, ...]) -> None:
        self.entries = [
            structs.replace(e, superseded=True) if e.position in positions else e for e in self.entries
        ]

    def next_signal(self) -> int | None:
        taken = self.consumed | {e.signal for e in self.entries if e.signal is not None and not e.superseded}
        return next((n for n in range(self.inbox) if n not in taken), None)


class Toy:
    """One attempt."""

    def __init__(self, memory: Memory, chance: random.Random, due: float) -> None:
        self.memory = memory
        self.chance = chance
        self.due = due
        self.cursor = Cursor(memory.journal())
        self.ending: Ending | None = None
        self.moves = 0
        self.answered_positions: set[int] = set()
        self.spent: list[str] = []
        self.last_state: tuple[int, str] | None = None

    # --- endings --------------------------------------------------------------------------------------------

    def end(self, ending: Ending) -> Ending:
        self.ending = self.ending or ending
        return self.ending

    def check(self, mismatch: Mismatch | None = None) -> None:
        if self.ending is not None:
            raise self.ending
        if mismatch is not None:
            self.memory.mismatch = mismatch
            raise self.end(Held(mismatch.message))

    def break_law(self, law: str) -> None:
        self.memory.broken.append(law)

    # --- calls ----------------------------------------------------------------------------------------------

    def answer(self, call: Call) -> Generator[None, None, Entry | None]:
        idle = 0
        while True:
            self.check()
            answer = self.cursor.answer(call)
            if isinstance(answer, Recorded):
                self.judge(call, answer.entry)
                return answer.entry
            if isinstance(answer, Execute):
                return None
            if isinstance(answer, Mismatch):
                self.check(answer)
            assert isinstance(answer, Blocked)
            before = self.moves
            yield
            idle = idle + 1 if before == self.moves else 0
            if idle > 100:
                self.check(Mismatch(message=f"closed: {answer.siblings}", call=call, entry=answer.entry))

    def judge(self, call: Call, entry: Entry) -> None:
        if entry.position not in self.memory.accepted:
            if entry.payload != what(call):
                self.break_law(f"{call.identity} got the outcome of {entry.payload!r}")
            if entry.identity != call.identity:
                self.break_law(f"{call.identity} was answered by {entry.identity}")

    def use(self, entry: Entry) -> None:
        self.moves += 1
        self.cursor.use(entry)
        self.answered_positions.add(entry.position)

    def record(
        self,
        call: Call,
        status: EntryStatus,
        kind: EntryKind = EntryKind.STEP,
        signal: int | None = None,
        started: int = 0,
    ) -> Entry:
        self.check()
        self.moves += 1
        entry = Entry(call.identity, kind, status, what(call), call.args_hash, started, signal)
        try:
            entry = self.memory.append(entry)
        except Crash as crash:
            raise self.end(crash) from None
        self.answered_positions.add(entry.position)
        return entry

    def step(
        self,
        scope: str,
        name: str,
        args: list[Any],
        body: Callable[[], EntryStatus] = lambda: EntryStatus.OK,
        key: str | None = None,
        ticks: int = 3,
        tries: int = 0,
    ) -> Task:
        self.check()
        call = Call(identity=self.cursor.identify(scope, name, key), args_hash=json.dumps(args).encode())
        try:
            entry = yield from self.answer(call)
        except Cancel:  # cancelled while it waited for its turn
            self.record(call, EntryStatus.ABANDONED)
            self.cursor.recorded(call.identity)
            raise
        if entry is None:
            entry = yield from self.execute(call, body, ticks, tries)
        elif entry.status is EntryStatus.ABANDONED:
            yield from self.cancelled_again(call, entry)
        else:
            self.use(entry)
        if entry.status is EntryStatus.FAILED:
            raise ToyFailed(entry)
        return f"{name}{args}"

    def execute(self, call: Call, body: Callable[[], EntryStatus], ticks: int, tries: int) -> Task:
        self.no_repeat(call)
        submitted = False
        try:
            for _ in range(ticks if ticks >= NEVER else self.chance.randrange(ticks)):
                yield
            for _ in range(self.cursor.tries(call.identity), tries):
                self.record(call, EntryStatus.RETRIED)
                yield
            self.count_tries(call, tries)
            self.memory.clock += 1
            entry = self.record(call, body())
            submitted = True
            for _ in range(self.chance.randrange(2)):
                yield
        except Cancel:
            self.record(call, EntryStatus.UNSEEN if submitted else EntryStatus.ABANDONED)
            self.cursor.recorded(call.identity)
            raise
        self.cursor.recorded(call.identity)
        return entry

    def cancelled_again(self, call: Call, entry: Entry) -> Task:
        try:
            for _ in range(2_000):
                yield
        except Cancel:
            self.check()
            self.use(entry)
            raise
        self.check(Mismatch(message=UNCANCELLED, call=call, entry=entry.position))

    def no_repeat(self, call: Call) -> None:
        """An effect that is recorded and live never happens again. Polls and failures may."""
        if call.identity.name.startswith("poll"):
            return
        done = (e for e in self.memory.live() if e.status is EntryStatus.OK and e.kind is EntryKind.STEP)
        for entry in done:
            if entry.payload == what(call) and entry.position not in self.memory.accepted:
                self.break_law(f"{call.identity} happens again, recorded as entry {entry.position}")

    def count_tries(self, call: Call, tries: int) -> None:
        recorded = [
            e
            for e in self.memory.live()
            if e.status is EntryStatus.RETRIED and e.payload == what(call) and e.identity == call.identity
        ]
        if len(recorded) != tries:
            self.break_law(f"{call.identity} was tried {len(recorded)} times, not {tries}")

    def sleep(self, scope: str) -> Task:
        call = Call(identity=self.cursor.identify(scope, "sleep", None))
        entry = yield from self.answer(call)
        if entry is None:
            entry = self.record(call, EntryStatus.OK, EntryKind.TIMER, started=self.memory.clock + 50)
            self.cursor.recorded(call.identity)
        else:
            self.use(entry)
        if self.memory.clock < entry.started_at_us:
            self.memory.clock = entry.started_at_us
            raise self.end(Parked())

    def signal(self, scope: str) -> Task:
        call = Call(identity=self.cursor.identify(scope, "signal", None))
        entry = yield from self.answer(call)
        if entry is None:
            number = self.memory.next_signal()
            if number is None:
                self.memory.inbox += 1
                raise self.end(Parked())
            entry = self.record(call, EntryStatus.OK, EntryKind.SIGNAL, number)
            self.cursor.recorded(call.identity)
        else:
            self.use(entry)
        return f"signal {entry.signal}"

    # --- groups ---------------------------------------------------------------------------------------------

    def group(self, scope: str, name: str, bodies: Mapping[str, Callable[[str], Task]], race: bool) -> Task:
        self.check()
        identity = self.cursor.identify(scope, name, None)
        path = f"{scope}/{name}.{identity.segment}.{identity.occurrence}".lstrip("/")
        if race and self.cursor.holds(identity):
            return (yield from self.decided(path, identity))
        self.check(self.cursor.open_group(path, bodies))
        tasks = {key: self.branch(f"{path}/{key}", bodies[key]) for key in bodies}
        results: dict[str, Any] = {}
        try:
            while tasks and not (race and results):
                yield from self.turn(tasks, results)
            if race:
                yield from self.decided(path, identity)
        except BaseException as error:
            self.cancel(tasks)
            if not isinstance(error, Ending):
                self.spend(path)
            raise
        self.cancel(tasks)
        if race:
            self.spend(path)
            return None
        self.check(self.cursor.close(path))
        return [results[key] for key in bodies]

    def branch(self, path: str, body: Callable[[str], Task]) -> Task:
        self.moves += 1
        self.cursor.open_branch(path)
        for _ in range(self.chance.randrange(4)):
            yield
        result = yield from body(path)
        self.check(self.cursor.close(path))
        return result

    def turn(self, tasks: dict[str, Task], results: dict[str, Any]) -> Task:
        for key in self.chance.sample(sorted(tasks), len(tasks)):
            try:
                next(tasks[key])
            except StopIteration as done:
                results[key] = done.value
                del tasks[key]
            except BaseException:
                del tasks[key]
                raise
        yield

    def decided(self, path: str, identity: Identity) -> Task:
        """The winner of a race: recorded, and its branches are spent."""
        self.spend(path)
        call = Call(identity=identity)
        entry = yield from self.answer(call)
        if entry is None:
            self.record(call, EntryStatus.OK)
            self.cursor.recorded(identity)
        else:
            self.use(entry)

    def cancel(self, tasks: dict[str, Task]) -> None:
        for key in self.chance.sample(sorted(tasks), len(tasks)):
            try:
                tasks[key].throw(Cancel())
            except (Cancel, StopIteration, Ending):
                pass
            else:
                tasks[key].close()
        if self.ending is not None:
            raise self.ending

    def spend(self, path: str) -> None:
        self.moves += 1
        self.spent.append(path)
        self.cursor.spend(path)

    # --- lines ----------------------------------------------------------------------------------------------

    def restore(self) -> dict[str, Any]:
        self.check(self.cursor.restore())
        if not self.memory.checkpoints:
            return {"round": 0, "at": None, "out": [], "child": None}
        state: dict[str, Any] = json.loads(self.memory.checkpoints[-1][1])
        return state

    def checkpoint(self, state: dict[str, Any]) -> None:
        self.check()
        self.check(self.cursor.checkpoint())
        self.last_state = (self.cursor.segment, json.dumps(state))
        saved = self.last_state
        if not self.cursor.waiting and saved[0] > self.memory.base and self.chance.random() < self.due:
            try:
                self.memory.commit(lambda: self.memory.save(*saved))
            except Crash as crash:
                raise self.end(crash) from None

    def finish(self) -> None:
        self.check()
        self.check(self.cursor.finish())
        for entry in self.memory.live():
            answered = entry.position in self.answered_positions | self.memory.accepted or any(
                within(entry.identity.scope, path) for path in self.spent
            )  # an accepted one may have been answered before the newest checkpoint
            if not answered and entry.status not in (EntryStatus.RETRIED, EntryStatus.UNSEEN):
                self.break_law(f"entry {entry.position} {entry.identity} was passed over in silence")


def what(call: Call) -> bytes:
    """What an entry is the outcome of, whatever its identity."""
    return call.identity.name.encode() + call.args_hash
