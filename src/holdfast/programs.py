"""Agents and programs: one that speaks the protocol of docs/protocol.md in any language; plain ones beside the code."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holdfast.agents import Agent, R, Ts
from holdfast.duration import Duration
from holdfast.errors import UsageError
from holdfast.rules.lanes import Concurrency
from holdfast.rules.limits import Limits
from holdfast.rules.pressure import Thresholds
from holdfast.rules.retry import RetryPolicy

if TYPE_CHECKING:
    from holdfast.context import Context


async def program(ctx: Context, input: object = None) -> object:
    """What a Program takes and returns: a value of JSON. Its code is elsewhere."""
    raise UsageError("a Program is executed by a worker, in a process of its own: serve it, and start a run")


@dataclass(frozen=True, slots=True, init=False)
class Program(Agent[object, object]):
    """An agent in another language: `Program("count", ["perl", "count.pl"])`, accepted wherever agents are.

    A worker that serves it starts `command` for each attempt, in a group of its own, with the number of a file
    descriptor in HOLDFAST_FD: one end of a socket, at which the program speaks the protocol of docs/protocol.md. A run
    has one value of JSON as its `input`, and another one as its result. `deadline`, `queue`, `concurrency`, `limits`,
    `thresholds`, `needs` and `continues` are those of an agent. Raises UsageError for a command that is none.
    """

    command: tuple[str, ...]

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        version: str = "0",
        deadline: Duration | None = None,
        queue: str = "default",
        concurrency: Concurrency | None = None,
        limits: Limits | None = None,
        thresholds: Thresholds | None = None,
        needs: Collection[str] = (),
        continues: Collection[str] = (),
    ) -> None:
        if isinstance(command, str) or not command or not all(map(_is_word, command)):
            raise UsageError(
                f"program {name!r}: command is a list of words, ['perl', 'count.pl'], not {command!r}"
            )
        object.__setattr__(self, "command", tuple(command))
        base: type[Agent[object, object]] = Agent
        base.__init__(
            self,
            fn=program,
            name=name,
            version=version,
            deadline=deadline,
            queue=queue,
            concurrency=concurrency,
            needs=needs,
            continues=continues,
            isolation="process",
            limits=limits,
            thresholds=thresholds,
        )

    def check(self) -> None:
        """Raise UsageError when this machine has no such program: no attempt could ever begin."""
        if shutil.which(self.command[0]) is None:
            raise UsageError(
                f"program {self.name!r}: there is no {self.command[0]!r} to be executed on the PATH of this worker"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Executing(Agent[*Ts, R]):
    """An agent whose code, a task of its worker, has programs executed beside it (`process.beside`). What bounds its
    runs are the limits of these programs."""


def executing(fn: Callable[[Context, *Ts], Coroutine[Any, Any, R]]) -> Executing[*Ts, R]:
    """The agent of this function and its name; its errors are final, for a program has retries of its own."""
    return Executing(fn=fn, name=fn.__name__, retry=RetryPolicy(attempts=1), isolation="task")


def _is_word(value: object) -> bool:
    return isinstance(value, str)
