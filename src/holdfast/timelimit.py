"""A time limit on what a task awaits. Not `asyncio.timeout`: in the first Pythons 3.11 its end is a CancelledError in a
task that was cancelled before, as the loser of a race that tidies up was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self


class TimeLimit:
    """`with TimeLimit(ends_at):` cancels what the task awaits inside when its time is over, and raises TimeoutError.

    `ends_at` says when that is, in the time of the loop, as it looks when it is asked: it is asked again then. `over`
    says whether a TimeoutError that comes out is that of the limit. A cancellation from elsewhere stays one.
    """

    __slots__ = ("_before", "_ends_at", "_loop", "_task", "_timer", "over")

    def __init__(self, ends_at: Callable[[], float]) -> None:
        self.over = False
        self._ends_at = ends_at

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None, "it is entered by a task"
        self._task, self._before = task, task.cancelling()
        self._loop = task.get_loop()
        self._timer = self._loop.call_at(self._ends_at(), self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if not self.over:
            return
        ours = self._task.uncancel() <= self._before
        if ours and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def _look(self) -> None:
        ends_at = self._ends_at()
        if ends_at > self._loop.time():  # there is more time than it seemed
            self._timer = self._loop.call_at(ends_at, self._look)
        else:
            self.over = True
            self._task.cancel()
