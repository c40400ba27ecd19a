"""Sync functions run beside the loop, never hold up the end of the process, and hand over whatever happened."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable

import pytest

from holdfast.errors import FatalError
from holdfast.threads import MAX_IDLE, ThreadCall, run_in_thread


def raises(error: BaseException) -> None:
    raise error


async def test_a_result_comes_from_another_thread() -> None:
    assert (
        await run_in_thread(lambda: threading.current_thread() is threading.main_thread(), ()).future is False
    )


async def test_arguments_are_handed_over() -> None:
    assert await run_in_thread(divmod, (7, 2)).future == (3, 1)


async def test_the_loop_goes_on_meanwhile() -> None:
    release = threading.Event()
    call = run_in_thread(release.wait, (10,))
    await asyncio.sleep(0)
    assert call.alive and not call.future.done()
    release.set()
    assert await call.future is True
    assert not call.alive


async def test_an_exception_is_raised_where_the_call_is_awaited() -> None:
    with pytest.raises(ValueError, match="bad"):
        await run_in_thread(raises, (ValueError("bad"),)).future


async def test_stop_iteration_becomes_an_error_that_says_so() -> None:
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        await run_in_thread(next, (iter(()),)).future
    assert isinstance(caught.value.__cause__, StopIteration)


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()], ids=repr
)
async def test_what_would_end_the_loop_becomes_a_fatal_error(error: BaseException) -> None:
    with pytest.raises(FatalError, match=type(error).__name__) as caught:
        await run_in_thread(raises, (error,)).future
    assert caught.value.__cause__ is error


async def test_the_callers_context_is_seen_and_not_changed() -> None:
    variable = contextvars.ContextVar("variable", default="none")
    variable.set("the caller's")

    def look() -> str:
        found = variable.get()
        variable.set("the thread's")
        return found

    assert await run_in_thread(look, ()).future == "the caller's"
    assert variable.get() == "the caller's"
    assert await run_in_thread(look, ()).future == "the caller's"


async def test_a_call_outlives_who_stopped_waiting_for_it() -> None:
    release = threading.Event()
    call = run_in_thread(release.wait, (10,))
    call.future.cancel()
    assert call.alive
    release.set()
    await ends(call)
    assert call.future.cancelled()


async def test_an_error_nobody_awaits_is_no_warning() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    call = run_in_thread(raises, (ValueError("unheard"),))
    await ends(call)
    await asyncio.sleep(0)
    del call
    gc.collect()
    assert complaints == []


async def ends(call: ThreadCall) -> None:
    await becomes(lambda: not call.alive and call.future.done())


async def becomes(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - threads tell nobody when they end
            await asyncio.sleep(0.001)


def test_a_call_that_ends_after_its_loop_does_so_quietly() -> None:
    release = threading.Event()
    calls: list[ThreadCall] = []
    complaints: list[object] = []

    async def leave() -> None:
        calls.append(run_in_thread(release.wait, (10,)))

    hook = threading.excepthook
    threading.excepthook = complaints.append
    try:
        asyncio.run(leave())
        release.set()
        until = time.monotonic() + 10
        while calls[0].alive and time.monotonic() < until:
            threading.Event().wait(0.001)
        assert not calls[0].alive
        assert asyncio.run(after()) == "fine"
    finally:
        threading.excepthook = hook
    assert complaints == []


async def after() -> object:
    return await run_in_thread(str, ("fine",)).future


async def test_idle_threads_are_used_again() -> None:
    first = await run_in_thread(threading.get_ident, ()).future
    for _ in range(20):
        assert await run_in_thread(threading.get_ident, ()).future == first


async def test_at_most_a_few_idle_threads_are_kept() -> None:
    gate = threading.Barrier(MAX_IDLE * 3 + 1)
    calls = [run_in_thread(gate.wait, (10,)) for _ in range(MAX_IDLE * 3)]
    assert await run_in_thread(gate.wait, (10,)).future is not None
    await asyncio.gather(*(call.future for call in calls))
    await becomes(lambda: len(ours()) <= MAX_IDLE)
    assert ours()


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("holdfast-step-")]


async def test_neither_an_idle_thread_nor_an_ended_call_keeps_arguments_alive() -> None:
    class Big:
        pass

    big = Big()
    seen = weakref.ref(big)
    call = run_in_thread(
        lambda thing: len([thing]), (big,)
    )  # kept, as a worker may keep a call that it left behind
    await call.future
    del big
    await becomes(lambda: gc.collect() >= 0 and seen() is None)


NEVER_RETURNS = """
import asyncio, threading
from holdfast.threads import run_in_thread

async def main():
    call = run_in_thread(threading.Event().wait, ())
    await asyncio.sleep(0.05)
    assert call.alive
    print("left", flush=True)

asyncio.run(main())
"""


def test_a_thread_that_never_returns_does_not_hold_up_the_exit() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", NEVER_RETURNS],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "left\n", "")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_threads_of_its_own() -> None:
    asyncio.run(after())
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if asyncio.run(after()) == "fine" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


async def test_a_call_costs_no_more_than_the_standard_librarys_executor() -> None:
    loop = asyncio.get_running_loop()

    async def ours_once() -> None:
        await run_in_thread(abs, (-1,)).future

    async def theirs_once() -> None:
        await loop.run_in_executor(None, abs, -1)

    ratio = min([(await cpu_of(ours_once)) / (await cpu_of(theirs_once)) for _ in range(5)])
    assert ratio < 1.2


async def cpu_of(call: Callable[[], Awaitable[None]], times: int = 200) -> float:
    began = time.process_time()
    for _ in range(times):
        await call()
    return time.process_time() - began
