"""Sync functions in daemon threads of our own: they never hold up the event loop, nor the end of the process.

A thread cannot be killed. What runs too long keeps its thread (`alive`), and the process ends without waiting for it;
the executors of the standard library would join it at exit.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import os
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Final

from holdfast.errors import FatalError

MAX_IDLE: Final = 8
"""Threads kept for the next call: starting one costs more than a call, and an idle one costs some 50 KB."""

_numbers: Final = itertools.count(1)


class ThreadCall:
    """One call in a thread. `future` belongs to the loop that asked; cancelling it does not end the thread."""

    __slots__ = ("_args", "_context", "_ended", "_fn", "_loop", "future")

    def __init__(self, fn: Callable[..., object], args: tuple[object, ...]) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._fn: Callable[..., object] | None = fn
        self._args = args
        self._ended = False
        self.future: asyncio.Future[object] = self._loop.create_future()

    @property
    def alive(self) -> bool:
        """Whether the function still runs, whoever may have stopped waiting for it."""
        return not self._ended

    def execute(self) -> Callable[[], None]:
        """Call the function, in the thread, and return what hands its outcome to the loop. Neither raises."""
        result: object = None
        failure: BaseException | None = None
        assert self._fn is not None, "a call is executed once"
        try:
            result = self._context.run(self._fn, *self._args)
        except BaseException as error:  # noqa: BLE001 - here the call ends: everything belongs to who awaits it
            failure = _told(error)
        self._fn, self._args = None, ()  # whoever keeps the call must not keep the arguments
        self._ended = True
        return partial(self._hand_over, result, failure)

    def _hand_over(self, result: object, failure: BaseException | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._settle, result, failure)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    def _settle(self, result: object, failure: BaseException | None) -> None:
        if self.future.done():
            return
        if failure is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(failure)
            self.future.exception()  # seen: a call that nobody awaits any more is not worth a warning


def run_in_thread(fn: Callable[..., object], args: tuple[object, ...]) -> ThreadCall:
    """Begin `fn(*args)` in a thread, with a copy of the caller's context. Call it in a running event loop."""
    call = ThreadCall(fn, args)
    _pool.take(call)
    return call


def busy() -> bool:
    """Whether a call is under way in a thread, in any event loop of this process."""
    return _pool.busy > 0


def _told(error: BaseException) -> BaseException:
    """The error as a future can carry it: what would end the loop or look like a cancellation is wrapped."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped: Exception
    if isinstance(error, StopIteration):
        wrapped = RuntimeError("the function raised StopIteration: did a next() without a default run dry?")
    else:
        wrapped = FatalError(
            f"the function raised {type(error).__name__}({', '.join(map(repr, error.args))})"
        )
    wrapped.__cause__ = error
    return wrapped


class _Pool:
    """The idle threads, newest first. Each has an inbox of its own, so that a call wakes exactly one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[ThreadCall]] = []
        self.busy = 0  # calls whose outcome was not handed over yet

    def take(self, call: ThreadCall) -> None:
        with self._lock:
            self.busy += 1
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = self._start()
        inbox.put(call)

    def _start(self) -> SimpleQueue[ThreadCall]:
        inbox: SimpleQueue[ThreadCall] = SimpleQueue()
        name = f"holdfast-step-{next(_numbers)}"
        threading.Thread(target=self._serve, args=(inbox,), name=name, daemon=True).start()
        return inbox

    def _serve(self, inbox: SimpleQueue[ThreadCall]) -> None:
        kept = True
        while kept:
            hand_over = inbox.get().execute()
            with self._lock:  # idle before the outcome is known: the next call then finds this thread again
                kept = len(self._idle) < MAX_IDLE
                if kept:
                    self._idle.append(inbox)
            hand_over()
            with self._lock:
                self.busy -= 1
            del hand_over  # an idle thread keeps no result alive

    def forget(self) -> None:
        """In a forked child there are no threads but the one that forked."""
        self._lock = threading.Lock()
        self._idle = []
        self.busy = 0


_pool: Final = _Pool()
os.register_at_fork(after_in_child=_pool.forget)
