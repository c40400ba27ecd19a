"""One call of a step's body: async on the loop, sync in a thread of ours, each under its own timeout."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, cast

import msgspec

from holdfast import threads
from holdfast.agents import Agent
from holdfast.bodies import Scene, current_scene
from holdfast.codec import Shape
from holdfast.errors import UsageError
from holdfast.model import Beside
from holdfast.rules.prices import Cost
from holdfast.rules.rate import RateLimit

STUCK_GRACE_S: Final = 30.0
"""How long a sync body may outlive its timeout before its worker must be replaced: a thread cannot be killed."""


class BodyTimedOut(Exception):
    """The body ran longer than the step's timeout, or gave no sign of life for too long (`silent`). An async body was
    cancelled; a sync one has ended by now."""

    def __init__(self, *, silent: bool) -> None:
        super().__init__("silent" if silent else "timed out")
        self.silent = silent


class BodyStuck(Exception):
    """A sync body outlived its timeout and the grace: only the end of the process ends it."""


class Body(msgspec.Struct, frozen=True):
    """What a step executes: `fn(*args)`, and into which shape its result is recorded. `once`: never twice blindly;
    then `verify` finds out what became of it. `beside` says what comes into being with the entry of a result. `tool`
    says that it is a call of a tool, `watched` is the hash of its arguments when loops of it are looked for."""

    fn: Callable[..., object]
    args: tuple[object, ...]
    shape: Shape
    is_async: bool
    timeout_s: float | None
    silence_s: float | None = None
    once: bool = False
    verify: Callable[..., object] | None = None
    beside: Callable[[object], tuple[Beside, ...]] | None = None
    rate: RateLimit | None = None
    cost: Cost | None = None
    tool: bool = False
    watched: bytes | None = None


@dataclass(frozen=True, slots=True)
class Spec:
    """What a function brings along: the name of its steps, the shape of its results, whether it is async."""

    name: str | None
    shape: Shape
    is_async: bool


def spec_of(fn: Callable[..., object]) -> Spec:
    """The Spec of a function; a functools.partial counts as the function inside it."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    try:
        return _spec_of(fn)
    except TypeError:  # not hashable
        return _spec_of.__wrapped__(fn)


@functools.lru_cache(maxsize=1024)
def _spec_of(fn: Callable[..., object]) -> Spec:
    if not callable(fn):
        raise UsageError(
            f"a step needs a function, not {type(fn).__name__}; did you call it? write ctx.step(fn, arg)"
        )
    if isinstance(fn, Agent):
        raise UsageError(f"ctx.step takes a function; agent {fn.name!r} is a run of its own: ctx.call(it, …)")
    name = getattr(fn, "__name__", None)
    name = None if name == "<lambda>" else name
    return Spec(name, Shape.of(fn, f"the result of step {name or 'lambda'!r}"), is_async(fn))


def check_step(effect: str, verify: object, rate: object) -> None:
    """Raise UsageError when these options of a step make no sense."""
    if effect not in ("repeatable", "once"):
        raise UsageError(f"effect={effect!r}: it is 'repeatable' or 'once'")
    if verify is not None and effect != "once":
        raise UsageError(
            "verify= finds out what became of an effect that must happen once: add effect='once'"
        )
    check_rate(rate)


def check_rate(rate: object) -> None:
    """Raise UsageError when `rate` is none."""
    if rate is not None and not isinstance(rate, RateLimit):
        raise UsageError(f"rate={rate!r} is no rate: did you mean rate=RateLimit('openai', '500/m')?")


def is_async(fn: Callable[..., object]) -> bool:
    """Whether a call of the function is to be awaited on the loop, rather than run in a thread."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return inspect.iscoroutinefunction(fn if inspect.isroutine(fn) else type(fn).__call__)


async def execute(
    body: Body, scene: Scene, on_stuck: Callable[[bool], None], stray: list[threads.ThreadCall]
) -> object:
    """Run the body in its scene and return what it returned.

    Raises what it raised, BodyTimedOut or BodyStuck. A thread that is left behind is appended to `stray`.
    """
    token = current_scene.set(scene)
    try:
        clock = None
        if body.timeout_s is not None or body.silence_s is not None:
            clock = _Clock(scene, body.timeout_s, body.silence_s)
        if body.is_async:
            called = cast("Awaitable[object]", body.fn(*body.args))
            return await (called if clock is None else clock.limit(called))
        result = await _in_thread(body, clock, on_stuck, stray)
        if inspect.isawaitable(result):  # a lambda or a partial round an async function
            return await (result if clock is None else clock.limit(result))
        return result
    finally:
        current_scene.reset(token)
        scene.over = scene.over or "its outcome is known"


class _Clock:
    """How long a body may go on: in all, and without a sign of life."""

    def __init__(self, scene: Scene, timeout_s: float | None, silence_s: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._scene = scene
        self._ends_at = None if timeout_s is None else self._loop.time() + timeout_s
        self._silence_s = silence_s
        if silence_s is not None:
            scene.listen(self._loop)

    def next(self) -> tuple[float, bool]:
        """When the body runs out of its time, as it looks now, and whether that is for being silent."""
        if self._silence_s is None:
            assert self._ends_at is not None
            return self._ends_at, False
        silent_at = self._scene.sign_s + self._silence_s
        if self._ends_at is not None and self._ends_at <= silent_at:
            return self._ends_at, False
        return silent_at, True

    def timed_out(self, silent: bool) -> BodyTimedOut:
        """Nothing that the body still does counts."""
        self._scene.over = "it ran out of its time"
        return BodyTimedOut(silent=silent)

    async def limit(self, awaitable: Awaitable[object]) -> object:
        """Await it, cancelled when it runs out of its time."""
        clock = asyncio.timeout(None)
        silent = False
        timer: asyncio.TimerHandle | None = None

        def look() -> None:
            nonlocal silent, timer
            at, silent = self.next()
            if at > self._loop.time():  # it is not over, or gave a sign of life meanwhile
                timer = self._loop.call_at(at, look)
            else:
                clock.reschedule(at)

        try:
            async with clock:
                look()
                return await awaitable
        except TimeoutError as error:
            if clock.expired():
                raise self.timed_out(silent) from error
            raise
        finally:
            if timer is not None:
                timer.cancel()

    async def wait(self, future: asyncio.Future[object]) -> bool | None:
        """Wait for the future. None: it is done; else whether it was silent too long, as against too slow."""
        while True:
            at, silent = self.next()
            left_s = at - self._loop.time()
            if left_s <= 0:
                return silent
            # asyncio.wait, unlike wait_for, leaves the future alone when it is cancelled or times out.
            done, _ = await asyncio.wait({future}, timeout=left_s)
            if done:
                return None


async def _in_thread(
    body: Body, clock: _Clock | None, on_stuck: Callable[[bool], None], stray: list[threads.ThreadCall]
) -> object:
    call = threads.run_in_thread(body.fn, body.args)
    try:
        if clock is None:
            await asyncio.wait({call.future})
            return call.future.result()
        silent = await clock.wait(call.future)
        if silent is None:
            return call.future.result()
        late = clock.timed_out(silent)
        on_stuck(True)
        done, _ = await asyncio.wait({call.future}, timeout=STUCK_GRACE_S)
    finally:
        if not call.future.done():
            stray.append(call)
    if not done:
        raise BodyStuck
    on_stuck(False)
    call.future.exception()
    raise late
