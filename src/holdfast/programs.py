"""An agent that is a program in any language: it speaks the protocol of docs/protocol.md with its worker."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.agents import Agent
from holdfast.duration import Duration
from holdfast.errors import UsageError
from holdfast.rules.lanes import Concurrency

if TYPE_CHECKING:
    from holdfast.context import Context


async def program(ctx: Context, input: object = None) -> object:
    """What a Program takes and returns: a value of JSON. Its code is elsewhere."""
    raise UsageError("a Program is executed by a worker, in a process of its own: serve it, and start a run")


@dataclass(frozen=True, slots=True, init=False)
class Program(Agent[object, object]):
    """An agent in another language: `Program("count", ["perl", "count.pl"])`, accepted wherever agents are.

    A worker that serves it starts `command` for each attempt, in a session of its own, with the number of a file
    descriptor in HOLDFAST_FD: one end of a socket, at which the program speaks the protocol of docs/protocol.md. A run
    has one value of JSON as its `input`, and another one as its result. `deadline`, `queue` and `concurrency` are those
    of an agent. Raises UsageError for a command that is none.
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
            isolation="process",
        )

    def check(self) -> None:
        """Raise UsageError when this machine has no such program: no attempt could ever begin."""
        if shutil.which(self.command[0]) is None:
            raise UsageError(
                f"program {self.name!r}: there is no {self.command[0]!r} to be executed on the PATH of this worker"
            )


def _is_word(value: object) -> bool:
    return isinstance(value, str)
