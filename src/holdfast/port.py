"""The port: the one narrow opening through which a Context reaches the durable world.

Three things pass: what is recorded, "commit this", and what is asked of the attempt. Inside a worker the port leads
to the group-commit writer, in a process of its own to a socket.
"""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

from holdfast.model import (
    Amounts,
    Beside,
    Committed,
    Content,
    Entry,
    Journal,
    Level,
    NewCheckpoint,
    NewChild,
    NewCursor,
    NewOutput,
    Note,
    Outcome,
    Progress,
    Reserved,
    Run,
    Signal,
    Standing,
    Turn,
)
from holdfast.rules.rate import RateLimit


class Questions(Protocol):
    """What an attempt may ask the store."""

    async def count_once(self) -> int:
        """How many keys of `ctx.once` the run has."""
        ...

    async def once(self, key: str) -> Entry | None:
        """The recorded outcome of `ctx.once` under this key."""
        ...

    async def take_turn(self, limit: RateLimit, call: str) -> Turn:
        """Book a turn under a shared rate for the call named so."""
        ...

    async def reserve(self, call: str, asked: Amounts) -> Reserved:
        """Reserve what the call named so may use up, in every budget that the run is charged to, or in none."""
        ...

    async def hold_back(self, limit: RateLimit, for_us: int) -> None:
        """Let nobody's turn under the rate begin for so long."""
        ...

    async def held_back(self, limit: RateLimit) -> bool:
        """Whether turns that were given out before are held back now."""
        ...

    async def inbox(self) -> tuple[int, list[Signal]]:
        """The highest signal number there is, and the signals not yet consumed."""
        ...

    async def begin_content(self) -> int:
        """Begin to bring in the content of an artifact; the key of the upload."""
        ...

    async def add_chunk(self, upload: int, n: int, chunk: bytes) -> None:
        """Chunk `n` of the upload; durable when it returns, and in nobody's way meanwhile."""
        ...

    async def seal_content(self, upload: int, content_id: str, size_bytes: int) -> Content:
        """All chunks are there: an entry may refer to the content by its id."""
        ...

    async def check_child(self, new: NewChild) -> None:
        """Raise Conflict when the child cannot be, as far as can be told before it is submitted."""
        ...

    async def child(self, child_id: str) -> Standing | None:
        """How a child of the run stands; None when it has no such child."""
        ...


class Port(Questions, Protocol):
    """What an attempt may ask of the outside. Loop-bound, except `note`, `report`, `mark` and `emit`, which any
    thread may call."""

    @property
    def run(self) -> Run:
        """The run as it was claimed."""
        ...

    @property
    def journal(self) -> Journal:
        """What is recorded: the newest good checkpoint, the setup and the tail."""
        ...

    @property
    def position(self) -> int:
        """The position of the newest entry submitted."""
        ...

    @property
    def asked(self) -> Outcome | None:
        """How the attempt shall end at its next safe point, or None to go on."""
        ...

    @property
    def slow_down_s(self) -> float:
        """How long to pause at each step boundary, because the machine is under pressure; 0 normally."""
        ...

    @property
    def pressure(self) -> Level:
        """How near the run is to its limits, or its worker to those of the machine."""
        ...

    @property
    def alone(self) -> bool:
        """Whether the code has a process of its own, which can be ended with it."""
        ...

    @property
    def workspace(self) -> Path | None:
        """Where the folder of the run is, there or not; None where it has none."""
        ...

    def now_us(self) -> int:
        """The wall clock, for display and timers."""
        ...

    def submit(
        self, entry: Entry | None, checkpoint: NewCheckpoint | None = None, beside: tuple[Beside, ...] = ()
    ) -> Awaitable[Committed]:
        """Make an entry, or a checkpoint, or both durable; in order of submission, whether awaited or not.

        `beside` comes into being with the entry, or alone. The awaitable raises LeaseLost when the attempt is fenced
        out, and Conflict when what is beside it cannot be: then nothing was recorded, and the attempt goes on.
        """
        ...

    def note(self, note: Note) -> None:
        """Write an event soon (within about 50 ms, or with the next commit). Nobody waits for it."""
        ...

    def report(self, progress: Progress) -> None:
        """Record progress soon; of several, the newest wins."""
        ...

    def mark(self, cursor: NewCursor) -> None:
        """Record the place of a long step soon; of one call, the newest wins. It is forgotten when the call is over:
        with a result, or abandoned. After a failure it is kept for who tries again."""
        ...

    def emit(self, output: NewOutput) -> None:
        """Show text to watchers soon. It is not journaled."""
        ...

    def flush(self) -> Awaitable[Committed]:
        """Write what waits to be written; awaited, it is durable. Raises LeaseLost when the attempt is fenced out."""
        ...

    def opened(self, step: str | None, started_at_us: int = 0) -> None:
        """Say which step is open now; None: none is."""
        ...

    def throttled(self, slow: bool) -> None:
        """Say that the run is being slowed down, or no longer."""
        ...

    def looping(self, looping: bool) -> None:
        """Say that code of the run goes round in circles in a branch, and that all of it waits for a person as soon as
        nothing else of it can move: should the attempt end before that, it does so at once. Or no longer."""
        ...

    def stuck(self, stuck: bool) -> None:
        """Say that a sync step outlived its timeout and cannot be killed here, or that it ended after all."""
        ...
