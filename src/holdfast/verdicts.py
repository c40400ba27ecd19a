"""What became of an effect, in the words of `verify` functions and of people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T", covariant=True)


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """It happened, and this is its result: recorded as if the body had returned it."""

    value: T


@dataclass(frozen=True, slots=True)
class NotDone:
    """It did not happen, and what began it cannot bring it about any more: the body may run again."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """It shall count as failed: the step raises StepFailed with this message, and does not run again."""

    message: str = "given up"


Verdict: TypeAlias = Done[object] | NotDone | GivenUp

Verify: TypeAlias = Callable[..., Verdict | Awaitable[Verdict]]
"""`verify(*args)`, with the arguments of the step. It only looks: it may be called any number of times."""
