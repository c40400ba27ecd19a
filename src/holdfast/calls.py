"""One call of a step's body: async on the loop, sync in a thread of ours, each under its own timeout."""

from __future__ import annotations

import asyncio
import difflib
import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict

import msgspec

from holdfast import threads
from holdfast.agents import Agent
from holdfast.bodies import OVER, Scene, current_scene
from holdfast.codec import Shape
from holdfast.duration import Duration, seconds
from holdfast.errors import UsageError
from holdfast.model import Beside
from holdfast.port import Port
from holdfast.rules.prices import Cost, check_cost
from holdfast.rules.rate import RateLimit
from holdfast.rules.retry import RetryPolicy
from holdfast.timelimit import TimeLimit
from holdfast.verdicts import Verify

STUCK_GRACE_S: Final = 30.0
"""How long a sync body may outlive its timeout before its worker must be replaced: a thread cannot be killed."""

MAX_NAME: Final = 200
"""Characters of the name of a step: it stands in lists, and what varies is a key."""


class BodyTimedOut(Exception):
    """The body ran longer than the step's timeout, or gave no sign of life for too long (`silent`). An async body was
    cancelled; a sync one has ended by now."""

    def __init__(self, *, silent: bool) -> None:
        super().__init__("silent" if silent else "timed out")
        self.silent = silent


class BodyStuck(Exception):
    """A sync body outlived its timeout and the grace: only the end of the process ends it."""


class Body(msgspec.Struct, frozen=True):
    """What a step executes, given its arguments, and into which shape its result is recorded. `once`: never twice
    blindly; then `verify` finds out what became of it. `beside` says what comes into being with the entry of a result.
    `tool` says that it is a call of a tool, `watched` that loops of it are looked for."""

    fn: Callable[..., Any]
    shape: Shape
    is_async: bool
    timeout_s: float | None = None
    silence_s: float | None = None
    once: bool = False
    verify: Callable[..., object] | None = None
    beside: Callable[[object], tuple[Beside, ...]] | None = None
    rate: RateLimit | None = None
    cost: Cost | None = None
    tool: bool = False
    watched: bool = False
    plain: bool = False  # nothing is asked for but to await `fn(*args)`


class StepOptions(TypedDict, total=False):
    """The options that `ctx.step` and `ctx.map` share.

    `name` is the function's name unless given; `timeout` is per try; `retry` replaces the agent's policy; `version`
    and the arguments are checked on replay unless `check=False`; `effect` says what a crash in the middle means, and
    `verify` finds out what became of an effect that is to happen once; `silence` is how long a body may go on without
    a sign of life (`step_context.record` or `emit`); `rate` is a rate shared by all workers that each try waits for;
    `cost` is what each try may use up at most; a `tool` is counted as one and watched for loops, unless `poll`.
    """

    name: str | None
    timeout: Duration | None
    retry: RetryPolicy | None
    effect: Literal["repeatable", "once"]
    verify: Verify | None
    silence: Duration | None
    version: str | None
    check: bool
    rate: RateLimit | None
    cost: Cost | None
    tool: bool
    poll: bool


class Step(msgspec.Struct, frozen=True):
    """A step before its arguments: its name, what it executes, and what is checked on replay. A map makes one for all
    of its items."""

    name: str
    body: Body
    retry: RetryPolicy | None
    version: str | None
    check: bool


def step_of(
    fn: Callable[..., object],
    *,
    name: str | None = None,
    timeout: Duration | None = None,
    retry: RetryPolicy | None = None,
    effect: Literal["repeatable", "once"] = "repeatable",
    verify: Verify | None = None,
    silence: Duration | None = None,
    version: str | None = None,
    check: bool = True,
    rate: RateLimit | None = None,
    cost: Cost | None = None,
    tool: bool = False,
    poll: bool = False,
) -> Step:
    """The step that these options of `ctx.step` ask for. Raises UsageError when they make no sense."""
    if effect != "repeatable" or verify is not None or rate is not None or cost is not None:
        check_step(effect, verify, rate)
        check_cost(cost)
        rate = _taken(rate, cost)
    if poll and not tool:
        raise UsageError("poll=True says that a tool asks again on purpose: add tool=True")
    spec = spec_of(fn)
    timeout_s = None if timeout is None else seconds(timeout)
    silence_s = None if silence is None else seconds(silence)
    once = effect == "once"
    asked = (timeout_s, silence_s, rate, cost)
    body = Body(
        fn,
        spec.shape,
        spec.is_async,
        timeout_s,
        silence_s,
        once,
        verify,
        rate=rate,
        cost=cost,
        tool=tool,
        watched=tool and not poll,
        plain=spec.is_async and not once and not tool and asked == (None, None, None, None),
    )
    return Step(_named(name or spec.name), body, retry, version, check)


def _taken(rate: RateLimit | None, cost: Cost | None) -> RateLimit | None:
    """The rate as this call takes it: one that counts tokens takes those of the estimate. Raises UsageError."""
    if rate is None or rate.counts == "calls":
        return rate
    if cost is None:
        raise UsageError(
            f"rate {rate.name!r} counts {rate.counts}, so the step needs an estimate of them: "
            "cost=Cost(model='…', tokens_in=900, max_tokens_out=4096)"
        )
    return rate.cost(max(1, rate.counted(cost.usage)))


def check_options(call: str, options: StepOptions) -> None:
    """Raise TypeError when there is one that no step has."""
    for name in options.keys() - StepOptions.__annotations__.keys():
        known = difflib.get_close_matches(name, StepOptions.__annotations__, n=1)
        hint = (
            f": did you mean {known[0]!r}?"
            if known
            else f"; there are {', '.join(StepOptions.__annotations__)}"
        )
        raise TypeError(f"{call} has no option {name!r}{hint}")


def plain_step(fn: Callable[..., object]) -> Step:
    """The step without options: made once for each function."""
    step = spec_of(fn).step
    return step if step is not None and step.body.fn is fn else step_of(fn)


def _named(chosen: str | None) -> str:
    if chosen is None:
        raise UsageError(
            "a lambda or a callable object has no name that lasts: give one, ctx.step(…, name='fetch')"
        )
    if len(chosen) > MAX_NAME:
        raise UsageError(
            f"the step name {chosen[:40]!r}… is longer than {MAX_NAME} characters; put what varies into key="
        )
    return chosen


@dataclass(frozen=True, slots=True)
class Spec:
    """What a function brings along: the name of its steps, the shape of its results, whether it is async; and the step
    without options, if it has a name."""

    name: str | None
    shape: Shape
    is_async: bool
    step: Step | None


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
    shape, awaited = Shape.of(fn, f"the result of step {name or 'lambda'!r}"), is_async(fn)
    step = None
    if name is not None and len(name) <= MAX_NAME:
        step = Step(name, Body(fn, shape, awaited, plain=awaited), None, None, check=True)
    return Spec(name, shape, awaited, step)


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
    body: Body, args: tuple[object, ...], scene: Scene, port: Port, stray: list[threads.ThreadCall]
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
            called = body.fn(*args)
            return await (called if clock is None else clock.limit(called))
        result = await _in_thread(threads.run_in_thread(body.fn, args), clock, port, stray)
        if inspect.isawaitable(result):  # a lambda or a partial round an async function
            return await (result if clock is None else clock.limit(result))
        return result
    finally:
        current_scene.reset(token)
        scene.over = scene.over or OVER


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
        silent = False

        def ends_at() -> float:
            nonlocal silent
            at, silent = self.next()
            return at

        limit = TimeLimit(ends_at)
        try:
            with limit:
                return await awaitable
        except TimeoutError as error:
            if limit.over:
                raise self.timed_out(silent) from error
            raise

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
    call: threads.ThreadCall, clock: _Clock | None, port: Port, stray: list[threads.ThreadCall]
) -> object:
    try:
        if clock is None:
            await asyncio.wait({call.future})
            return call.future.result()
        silent = await clock.wait(call.future)
        if silent is None:
            return call.future.result()
        late = clock.timed_out(silent)
        port.stuck(True)
        done, _ = await asyncio.wait({call.future}, timeout=0 if port.alone else STUCK_GRACE_S)
    finally:
        if not call.future.done():
            stray.append(call)
    if not done:
        raise BodyStuck
    port.stuck(False)
    call.future.exception()
    raise late
