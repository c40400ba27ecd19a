"""What a function declares: the types of its parameters and of what it returns, each resolved by itself."""

from __future__ import annotations

import collections.abc
import functools
import typing
from collections.abc import Callable
from typing import Any

from holdfast.codec.kinds import EMPTY, REFUSALS
from holdfast.errors import UsageError


def target_of(fn: Callable[..., object]) -> Any:  # noqa: ANN401 - function, class, builtin or callable object
    """The function behind partials, methods and callable objects."""
    target: Any = fn
    while isinstance(target, functools.partial):
        target = target.func
    target = getattr(target, "__func__", target)
    if isinstance(target, type) or hasattr(target, "__code__"):
        return target
    call = type(target).__call__
    return call if hasattr(call, "__code__") else target


def return_kind(fn: Callable[..., object]) -> object:
    """The declared type of what `fn` gives, awaited: `inspect.Signature.empty` without an annotation.

    Raises UsageError when the annotation cannot be resolved.
    """
    target = target_of(fn)
    if isinstance(target, type):
        return target
    kind = resolve(target, "return")
    if typing.get_origin(kind) in (collections.abc.Awaitable, collections.abc.Coroutine):
        return typing.get_args(kind)[-1]
    return kind


def resolve(fn: Callable[..., object], name: str) -> object:
    """The annotation of one parameter (or "return") as a type; the others need not be resolvable.

    Raises UsageError naming the annotation.
    """
    owner: Any = fn
    while hasattr(owner, "__wrapped__"):
        owner = owner.__wrapped__
    try:
        annotations: dict[str, object] = getattr(fn, "__annotations__", None) or {}
        if name not in annotations:
            return EMPTY
        probe = lambda: None  # carries the one annotation
        probe.__annotations__ = {name: annotations[name]}
        local = {parameter.__name__: parameter for parameter in getattr(owner, "__type_params__", ())}
        return typing.get_type_hints(probe, getattr(owner, "__globals__", {}), local, include_extras=True)[
            name
        ]
    except (*REFUSALS, NameError, SyntaxError) as error:
        which = "return annotation" if name == "return" else f"annotation of parameter {name!r}"
        raise UsageError(
            f"the {which} of {getattr(fn, '__qualname__', fn)}{_written(fn, name)} cannot be resolved: {error}. Define "
            "or import the type at the top of the module, outside `if TYPE_CHECKING:` and outside functions"
        ) from error


def _written(fn: Callable[..., object], name: str) -> str:
    """The annotation as text, where it is text; 3.14 cannot show one whose names are missing."""
    try:
        return f" ({fn.__annotations__[name]!r})"
    except (NameError, KeyError):
        return ""
