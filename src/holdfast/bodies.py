"""What the body of a step may ask and say while it runs: `holdfast.step_context`.

Laws:
1. It belongs to one try of one call. When the try is over, whatever its thread still does is refused.
2. Nothing here is journaled: a cursor lives until its call has an outcome, streamed text until the run is unloaded.
3. Every method but `save` may be called from any thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, TypeVar, cast, overload

import msgspec

from holdfast import codec
from holdfast.errors import PayloadTooLarge, UsageError
from holdfast.model import NewCursor, NewOutput
from holdfast.opened import OpenCall
from holdfast.port import Port
from holdfast.rules.usage import Usage, stated, usage_of

T = TypeVar("T")

MAX_CURSOR_BYTES: Final = 64 * 1024
"""A cursor says where to go on, and is written up to 20 times a second: what was made so far belongs elsewhere."""
CHUNK_CHARS: Final = 4096
"""Streamed text is stored in pieces of this size at most."""


OVER: Final = "its outcome is known"


class Scene(msgspec.Struct, eq=False):
    """One try of one call: what `step_context` stands for while its body runs.

    `cursor` is the newest place, recorded by an earlier try or by this one; `key_of` names a call to others;
    `usages` is what the body said it used, `result` and `error` how it ended, for as long as it is not settled.
    """

    ports: Port
    call: OpenCall
    tries: int
    cursor: bytes | None
    key_of: Callable[[OpenCall], str]
    over: str | None = None
    start: int = 0
    sign_s: float = 0.0
    loop: asyncio.AbstractEventLoop | None = None
    usages: list[Usage] | None = None
    result: object = None
    error: BaseException | None = None

    def again(self, tries: int) -> Scene:
        """The same call for another try, or for what finds out what became of it."""
        return Scene(self.ports, self.call, tries, self.cursor, self.key_of)

    @property
    def port(self) -> Port:
        """The port, while the try is not over."""
        if self.over is not None:
            raise UsageError(f"this try of step {self.call.name!r} is over ({self.over}): stop here")
        return self.ports

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note, by the clock of the loop, when the body gives a sign of life."""
        self.loop = loop
        self.sign_s = loop.time()

    def _sign(self) -> None:
        if self.loop is not None:
            self.sign_s = self.loop.time()

    def record(self, cursor: object) -> None:
        """A new place."""
        port = self.port
        data = codec.encode(cursor, what=f"the cursor of step {self.call.name!r}")
        if len(data) > MAX_CURSOR_BYTES:
            raise PayloadTooLarge(
                f"the cursor of step {self.call.name!r} is {len(data)} bytes, over {MAX_CURSOR_BYTES}: record "
                "where to go on, and keep what was made so far in a file or in the results of smaller steps"
            )
        self.cursor = data
        self._sign()
        port.mark(NewCursor(identity=self.call.identity, args_hash=self.call.args_hash, cursor=data))

    def used(self, usage: Usage) -> None:
        """A request to a model is over."""
        _ = self.port
        if self.usages is None:
            self.usages = []
        self.usages.append(usage)
        self._sign()

    def emit(self, text: str) -> None:
        """More text."""
        port = self.port
        text = text.encode("utf-8", "replace").decode()
        self._sign()
        for at in range(0, len(text), CHUNK_CHARS):
            piece = text[at : at + CHUNK_CHARS]
            port.emit(NewOutput(identity=self.call.identity, start=self.start, text=piece))
            self.start += len(piece)


current_scene: ContextVar[Scene | None] = ContextVar("holdfast_step", default=None)
"""The try whose body runs now. Threads of ours run in a copy of the context."""


class StepContext:
    """What the body of a step may ask and say: `from holdfast import step_context`. Raises UsageError elsewhere."""

    __slots__ = ()

    @property
    def active(self) -> bool:
        """Whether the body of a step runs here, so that the rest may be used."""
        return current_scene.get() is not None

    @property
    def idempotency_key(self) -> str:
        """Text that is the same for every try of this call, in every attempt, and for no other call: 43 characters
        fit for a header. Send it along, and a service that knows such keys does it once."""
        scene = _scene()
        return scene.key_of(scene.call)

    @property
    def try_number(self) -> int:
        """Which try of the call this is, from 1: those that failed count, in whatever attempt. A crash does not."""
        return _scene().tries + 1

    def record(self, cursor: object) -> None:
        """Say where the body is: its next try gets the newest cursor. Recorded soon (within about 50 ms); returns at
        once. At most 64 KiB of JSON. Raises NotSerializable, PayloadTooLarge, and UsageError when the try is over."""
        _scene().record(cursor)

    async def save(self, cursor: object) -> None:
        """Record a cursor and return when it is durable. For async bodies. Raises LeaseLost when the attempt is
        fenced out: stop then, another one goes on."""
        scene = _scene()
        scene.record(cursor)
        await scene.port.flush()

    @overload
    def cursor(self, kind: type[T]) -> T | None: ...

    @overload
    def cursor(self, kind: type[T], default: T) -> T: ...

    def cursor(self, kind: type[T], default: T | None = None) -> T | None:
        """The newest recorded cursor of this call, decoded into `kind`; `default` when there is none. Raises
        NotSerializable when it does not fit."""
        data = _scene().cursor
        return (
            default if data is None else cast("T", codec.decode(data, kind, what="the cursor of this step"))
        )

    def used(
        self,
        usage: object = None,
        *,
        model: str | None = None,
        tokens_in: int = 0,
        tokens_out: int = 0,
        tokens_cached: int = 0,
        usd: float | None = None,
    ) -> None:
        """Say what a request to a model used: its usage object, or what carries one as `usage` (of the anthropic,
        openai and pydantic-ai SDKs), or the counts. Several add up; charged with the outcome of this try, instead of
        its `cost` and of what is found in its result. Raises UsageError for counts that are negative, NaN or no
        numbers, and for what is no usage."""
        found = stated(tokens_in, tokens_out, tokens_cached, usd, model)
        if usage is not None:
            read = usage_of(usage)
            if read is None:
                raise UsageError(
                    f"{type(usage).__name__} is no usage object, nor has it one: say "
                    "step_context.used(model='…', tokens_in=900, tokens_out=120)"
                )
            found = read._replace(model=model or read.model, usd=read.usd if found.usd is None else found.usd)
        _scene().used(found)

    def emit(self, text: str) -> None:
        """Stream text to whoever watches (`handle.output()`, `holdfast watch --output`). It is not journaled: a
        short stretch is kept while the run is executed, and nothing afterwards."""
        _scene().emit(text)


step_context: Final = StepContext()


def _scene() -> Scene:
    scene = current_scene.get()
    if scene is None:
        raise UsageError(
            "step_context belongs to the body of a step: call it in the function given to ctx.step or ctx.map "
            "(`step_context.active` says where you are)"
        )
    return scene
