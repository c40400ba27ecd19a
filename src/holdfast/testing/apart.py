"""Work that needs the thread's event loop to itself, asked for where one may run already."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def apart(work: Callable[[], T]) -> T:
    """Do the work here, or, where an event loop runs already, in a thread of its own while that loop stands still."""
    __tracebackhide__ = True
    if not in_a_loop():
        return work()
    results: list[T] = []
    errors: list[BaseException] = []
    context = contextvars.copy_context()

    def do() -> None:
        try:
            results.append(context.run(work))
        except BaseException as error:  # noqa: BLE001 - raised where it belongs
            errors.append(error)

    thread = threading.Thread(target=do, name="holdfast-apart")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def in_a_loop() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
