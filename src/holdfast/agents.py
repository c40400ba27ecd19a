"""What an agent is: a named, versioned async function and its policies."""

from __future__ import annotations

import builtins
import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from types import CodeType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    cast,
    get_args,
    overload,
)

from holdfast.duration import Duration, seconds
from holdfast.errors import UsageError
from holdfast.rules import labels
from holdfast.rules.budget import Budget, check_budget
from holdfast.rules.lanes import Concurrency
from holdfast.rules.limits import Limits
from holdfast.rules.pressure import Thresholds
from holdfast.rules.prices import Prices
from holdfast.rules.retry import RetryPolicy

if TYPE_CHECKING:
    from holdfast.context import Context

Ts = TypeVarTuple("Ts")
R = TypeVar("R")

Isolation: TypeAlias = Literal["task", "process"]
"""Where the code of a run is: in a task beside others in its worker's event loop, or in a process of its own."""

_NAME: Final = re.compile(r"\w[\w.\-]{0,127}")
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Every:
    """When a checkpoint is due: after a duration, after a number of recorded steps, or whichever comes first."""

    duration: Duration | None = None
    steps: int | None = field(default=None, kw_only=True)
    duration_us: int | None = field(default=None, init=False, repr=False, compare=False)
    """The duration in microseconds, worked out once: it is asked at every checkpoint call."""

    def __post_init__(self) -> None:
        if self.duration is None and self.steps is None:
            raise UsageError("Every needs a duration, a number of steps, or both: Every('30s', steps=100)")
        if self.duration is not None:
            object.__setattr__(self, "duration_us", round(seconds(self.duration) * 1_000_000))
        if self.steps is not None and (type(self.steps) is not int or self.steps < 1):
            raise UsageError(f"Every(steps=) must be a whole number of 1 or more, not {self.steps!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent(Generic[*Ts, R]):
    """A durable function: what `@agent` makes of `async def fn(ctx, ...)`. Called, it is the plain function.

    `name` and `version` are what runs are stored under; `retry` is the policy of its steps and of errors outside
    them; `deadline` counts from a run's creation; `keep` is how many unnamed checkpoints stay; `concurrency` is how
    many of its runs with one key run at once; `isolation` is where its code runs, None for where the worker says;
    `limits` is what each of its runs may use, `thresholds` from where on one is told, slowed, frozen and parked: both
    take a process of its own; `budget` is what each may use up, `prices` what tokens cost; `needs` are the
    labels that its runs ask of a worker; `continues` are older versions whose runs it goes on with when no worker
    has theirs any more.
    """

    fn: Callable[[Context, *Ts], Coroutine[Any, Any, R]]
    name: str
    version: str = "0"
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    deadline: Duration | None = None
    checkpoint: Every = field(default_factory=lambda: Every("30s", steps=100))
    keep: int = 5
    queue: str = "default"
    concurrency: Concurrency | None = None
    isolation: Isolation | None = None
    limits: Limits | None = None
    thresholds: Thresholds | None = None
    budget: Budget | None = None
    prices: Prices | None = None
    needs: Collection[str] = ()
    continues: Collection[str] = ()

    def __post_init__(self) -> None:
        _check_function(self.fn, self.name)
        _check_name("name", self.name)
        _check_name("queue", self.queue)
        _check_version(self.version, self.name)
        object.__setattr__(self, "continues", _older(self.continues, self.version, self.name))
        _check_concurrency(self.concurrency, self.name)
        check_isolation(self.isolation, f"agent {self.name!r}")
        for what in ("limits", "thresholds"):
            if getattr(self, what) is not None and self.isolation != "process":
                raise UsageError(
                    f"agent {self.name!r}: {what} need isolation='process', for a task shares its process with "
                    "other runs"
                )
        check_budget(self.budget, f"agent {self.name!r}")
        _check_prices(self.prices, self.name)
        object.__setattr__(self, "needs", labels.checked(self.needs, f"agent {self.name!r}"))
        if type(self.keep) is not int or self.keep < 1:
            raise UsageError(f"agent {self.name!r}: keep is a whole number of 1 or more, not {self.keep!r}")
        if self.deadline is not None and seconds(self.deadline) == 0:
            raise UsageError(
                f"agent {self.name!r}: a deadline of 0 ends every run before it begins; leave it out"
            )

    def __call__(self, ctx: Context, /, *args: *Ts) -> Coroutine[Any, Any, R]:
        """The plain function, for tests; nothing is recorded but what `ctx` records."""
        return self.fn(ctx, *args)

    @property
    def source_hash(self) -> str:
        """12 hexadecimal digits of the function's source: shown to people, never decides anything."""
        return _source_hash(self.fn)

    @property
    def deadline_us(self) -> int | None:
        """The deadline in microseconds from the creation of a run; None for none."""
        return None if self.deadline is None else round(seconds(self.deadline) * 1_000_000)


AnyAgent: TypeAlias = Agent[*tuple[Any, ...], Any]
"""An agent whose parameters and result are not known to the type checker."""


class _Decorator(Protocol):
    def __call__(self, fn: Callable[[Context, *Ts], Coroutine[Any, Any, R]], /) -> Agent[*Ts, R]: ...


@overload
def agent(fn: Callable[[Context, *Ts], Coroutine[Any, Any, R]], /) -> Agent[*Ts, R]: ...


@overload
def agent(
    *,
    name: str | None = None,
    version: str = "0",
    retry: RetryPolicy | None = None,
    deadline: Duration | None = None,
    checkpoint: Every | None = None,
    keep: int = 5,
    queue: str = "default",
    concurrency: Concurrency | None = None,
    isolation: Isolation | None = None,
    limits: Limits | None = None,
    thresholds: Thresholds | None = None,
    budget: Budget | None = None,
    prices: Prices | None = None,
    needs: Collection[str] = (),
    continues: Collection[str] = (),
) -> _Decorator: ...


def agent(
    fn: object = None,
    /,
    *,
    name: str | None = None,
    version: str = "0",
    retry: RetryPolicy | None = None,
    deadline: Duration | None = None,
    checkpoint: Every | None = None,
    keep: int = 5,
    queue: str = "default",
    concurrency: Concurrency | None = None,
    isolation: Isolation | None = None,
    limits: Limits | None = None,
    thresholds: Thresholds | None = None,
    budget: Budget | None = None,
    prices: Prices | None = None,
    needs: Collection[str] = (),
    continues: Collection[str] = (),
) -> object:
    """Make an agent of `async def fn(ctx, ...)`: `@agent`, or `@agent(deadline="4h")`.

    The name is the function's unless `name` says otherwise. Raises UsageError for what cannot be an agent.
    """

    def decorate(fn: Any) -> AnyAgent:  # noqa: ANN401 - anything may stand under an @; Agent checks it
        return Agent(
            fn=fn,
            name=name if name is not None else _own_name(fn),
            version=version,
            retry=retry if retry is not None else RetryPolicy(),
            deadline=deadline,
            checkpoint=checkpoint if checkpoint is not None else Every("30s", steps=100),
            keep=keep,
            queue=queue,
            concurrency=concurrency,
            isolation=isolation,
            limits=limits,
            thresholds=thresholds,
            budget=budget,
            prices=prices,
            needs=needs,
            continues=continues,
        )

    if fn is None:
        return decorate
    if not callable(fn):
        raise UsageError(f"@agent takes its settings by keyword, as in @agent(name={fn!r}), or stands alone")
    return decorate(fn)


# --- what can be an agent -------------------------------------------------------------------------------------


def _own_name(fn: object) -> str:
    if isinstance(fn, Agent):
        raise UsageError(f"agent {fn.name!r} is an agent already: decorate the function once")
    name = getattr(fn, "__name__", None)
    if name is None or name == "<lambda>":
        raise UsageError("a lambda or partial has no name of its own: write agent(name='…')(fn)")
    return str(name)


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no valid {what} for an agent: letters, digits, '_', '-' and '.', at most 128, "
            "beginning with a letter or digit"
        )


def _check_version(version: object, name: str) -> None:
    if not isinstance(version, str) or not 0 < len(version) <= 128:
        raise UsageError(
            f"agent {name!r}: version is text of 1 to 128 characters, as in version='2', not {version!r}"
        )


def _older(continues: object, version: str, name: str) -> tuple[str, ...]:
    if isinstance(continues, str) or not isinstance(continues, Collection):
        raise UsageError(
            f"agent {name!r}: continues is a list of versions: did you mean continues=[{continues!r}]?"
        )
    older = tuple(dict.fromkeys(cast("Collection[str]", continues)))
    for one in older:
        _check_version(one, name)
        if one == version:
            raise UsageError(f"agent {name!r}: version {version!r} continues others, not itself")
    return older


def _check_concurrency(concurrency: object, name: str) -> None:
    if concurrency is not None and not isinstance(concurrency, Concurrency):
        raise UsageError(
            f"agent {name!r}: concurrency is Concurrency(key, limit=1), not {concurrency!r}: "
            "did you mean concurrency=Concurrency(…)?"
        )


def check_isolation(isolation: object, whose: str) -> None:
    """Raise UsageError for an isolation that there is not."""
    if isolation not in (None, *get_args(Isolation)):
        raise UsageError(
            f"{whose}: isolation is one of {', '.join(map(repr, get_args(Isolation)))}, or None, not {isolation!r}"
        )


def _check_prices(prices: object, name: str) -> None:
    if prices is not None and not isinstance(prices, Prices):
        raise UsageError(
            f"agent {name!r}: prices is Prices({{'model': Price(tokens_in=3, tokens_out=15)}}), not {prices!r}"
        )


def _check_function(fn: object, name: str) -> None:
    if isinstance(fn, Agent):
        raise UsageError(f"agent {fn.name!r} is an agent already: decorate the function once")
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise UsageError(
            f"agent {name!r} is a generator: an agent returns its result and reports with ctx.progress(); "
            "remove the yields"
        )
    if not callable(fn) or isinstance(fn, type):
        raise UsageError(f"agent {name!r} must be an `async def` function, not {fn!r}")
    if not inspect.iscoroutinefunction(fn) and getattr(fn, "__name__", "") != "<lambda>":
        raise UsageError(
            f"agent {name!r} is a plain function: write `async def {name}(ctx, ...)` and run blocking work in steps, "
            "as in `await ctx.step(work, ...)`"
        )
    _check_parameters(fn, name)


def _check_parameters(fn: Callable[..., object], name: str) -> None:
    parameters = list(inspect.signature(fn).parameters.values())
    if parameters and parameters[0].name in ("self", "cls"):
        raise UsageError(
            f"agent {name!r} is a method: an agent is a function, and its parameters are its whole input"
        )
    if (
        not parameters
        or parameters[0].kind not in _POSITIONAL
        or _is_other_type(fn, parameters[0].annotation)
    ):
        raise UsageError(f"agent {name!r} lacks its context: write `async def {name}(ctx: Context, ...)`")
    for parameter in parameters[1:]:
        if parameter.kind not in _POSITIONAL:
            raise UsageError(
                f"agent {name!r}: parameter '{parameter}' is {parameter.kind.description}, but the input of a run has "
                "one name for each value: use plain parameters (a list or a dict holds any number of values)"
            )


def _is_other_type(fn: Callable[..., object], annotation: object) -> bool:
    """Whether the first parameter is annotated with a class that is no Context: the context was forgotten."""
    if isinstance(annotation, str):
        scope: dict[str, object] = getattr(fn, "__globals__", {})
        annotation = scope.get(annotation, getattr(builtins, annotation, None))
    if annotation is inspect.Signature.empty or not isinstance(annotation, type):
        return False
    return not any(base.__name__ in ("Context", "Protocol") for base in annotation.__mro__)


@functools.lru_cache(maxsize=1024)
def _source_hash(fn: Callable[..., object]) -> str:
    code = getattr(inspect.unwrap(fn), "__code__", None)  # a decorator's wrapper may be made by exec
    try:
        if isinstance(code, CodeType) and code.co_filename.startswith(
            "<"
        ):  # typed into a prompt, or made by exec
            source = _code_text(code)
        else:
            source = inspect.getsource(fn)
    except (OSError, TypeError):
        source = _code_text(code) if isinstance(code, CodeType) else ""
    return hashlib.blake2b(source.encode("utf-8", "backslashreplace"), digest_size=6).hexdigest()


def _code_text(code: CodeType) -> str:
    """What the code does, the same in every process: a set among its constants has another order in each."""
    parts = (
        _code_text(const)
        if isinstance(const, CodeType)
        else repr(
            sorted(map(repr, cast("frozenset[object]", const))) if isinstance(const, frozenset) else const
        )
        for const in code.co_consts
    )
    return f"{code.co_code.hex()} {code.co_names} {' '.join(parts)}"
