"""One execution of a program: its lines become logs and progress while it runs, and nothing of it stays behind.

Laws:
1. What it writes is taken in piece by piece, never as a whole: a program that writes for days needs no more memory.
2. However the execution ends, the program and everything that it started is dead when it has ended.
3. A program that has ended by itself has ended in time: what it left behind counts for nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast import exit_status
from holdfast.commands.lines import Gauge, Lines
from holdfast.errors import FatalError, Refused, TransientError
from holdfast.rules.limits import NO_LIMITS, Limits

if TYPE_CHECKING:
    from holdfast.process.beside import Program
    from holdfast.process.launch import Launched

log = logging.getLogger(__name__)

T = TypeVar("T")

GRACE_S: Final = 5.0
"""From SIGTERM to SIGKILL: half of what a worker gives the code of its runs."""
LINGER_S: Final = 1.0
"""How long what a program left behind may still write to its streams, as `tee` does, before it is killed."""
READ_BYTES: Final = 16 * 1024
RECORD_BYTES: Final = 8_000
"""Of a record of the log: just under what a run keeps of one."""
TICK_S: Final = 0.1
RECORDS_PER_S: Final = 16.0
RECORDS_AT_ONCE: Final = 60.0
"""Just under what a run may log, so that lines are left out here, where they are counted, and not there."""
LAST_LINES: Final = 20
"""Of stderr, in the error of a program that failed."""

Shown = Callable[[int, bytes], Awaitable[None]]

shown: ContextVar[Shown | None] = ContextVar("holdfast_shown", default=None)
"""Where else goes what a program writes, as it is: called with 1 or 2, the number of the stream. None: nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """What is executed: the arguments, the folder, what is added to the environment, and what counts as success."""

    argv: list[str]
    cwd: str | None = None
    env: dict[str, str] | None = None
    progress: str | None = None
    ok_codes: list[int]
    limits: Limits = NO_LIMITS


class CommandFailed(TransientError):
    """The program ended with a code that is no success, or by a signal."""


class OutOfMemory(CommandFailed):
    """The kernel killed the program, or one that it started, at the memory limit."""


async def execute(
    line: CommandLine,
    environ: Mapping[str, str],
    report: Callable[[float, float | None, str], None],
) -> int:
    """Execute the program, in a group of its own under its limits, to its end; its exit code, when that is one of the
    good ones.

    `report` is told its progress. Raises CommandFailed with the last lines of stderr, FatalError when it cannot be
    started.
    """
    gauge = None if line.progress is None else Gauge(line.progress)
    pace = _Pace()
    streams = [_Stream(number, pace, gauge, report) for number in (1, 2)]
    program = _start(line, environ, streams)
    ticking = asyncio.get_running_loop().create_task(_tick(streams), name="log lines")
    try:
        await asyncio.shield(program.launched.quit)
    finally:
        by_itself = program.launched.quit.done()
        try:
            code = await to_its_end(_end(program.launched, streams), heard=not by_itself)
        finally:
            ticking.cancel()
    if code in line.ok_codes:
        return code
    raise _failed(line, program, code, list(streams[1].last))


class _Pace:
    """How many records of the log may still be written now."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = RECORDS_AT_ONCE
        self._at_s = self._loop.time()

    def take(self) -> bool:
        """One more, if there is one."""
        now_s = self._loop.time()
        self._left = min(RECORDS_AT_ONCE, self._left + (now_s - self._at_s) * RECORDS_PER_S)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Stream:
    """What a program writes to stdout (1) or stderr (2): read, shown, logged, and measured."""

    def __init__(
        self,
        number: int,
        pace: _Pace,
        gauge: Gauge | None,
        report: Callable[[float, float | None, str], None],
    ) -> None:
        self.reading: asyncio.Task[None]
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self._number = number
        self._log = logging.getLogger("stdout" if number == 1 else "stderr")
        self._log.setLevel(logging.INFO)  # they are the program's own words, whatever is configured for code
        self._pace = pace
        self._gauge = gauge
        self._report = report
        self._lines: list[str] = []
        self._bytes = 0
        self._left_out = 0

    async def read(self, end: int) -> None:
        """Take everything in, to the end of the stream."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BYTES)
        pipe = os.fdopen(end, "rb")
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        lines = Lines()
        show = shown.get()
        try:
            while data := await reader.read(READ_BYTES):
                if show is not None:
                    try:
                        await show(self._number, data)
                    except OSError as error:  # whoever looks on is no reason to end it
                        log.warning("what a program writes is not shown any more: %s", error)
                        show = None
                for text, whole in lines.feed(data):
                    self._take(text, whole)
                await asyncio.sleep(0)  # a flood leaves the loop to others, too
        finally:
            transport.close()
            for text, whole in lines.rest():
                self._take(text, whole)
            self._close()

    def tick(self) -> None:
        """Log what has come, if anything has."""
        if self._lines and self._pace.take():
            self._write()

    def _close(self) -> None:
        """The end of the stream: what waits is logged, whatever the pace, and so is the very last line."""
        left_out = self._left_out
        if self._lines or left_out:
            self._write()
        if left_out:
            self._log.info("%s", self.last[-1])

    def _take(self, text: str, whole: bool) -> None:
        if self._gauge is not None and (figures := self._gauge.read(text)) is not None:
            self._report(*figures, text)
        if not whole or not text:
            return
        self.last.append(text)
        size = len(text.encode("utf-8", "replace")) + 1
        if self._bytes + size > RECORD_BYTES:
            if not self._pace.take():
                self._left_out += 1
                return
            self._write()
        self._lines.append(text)
        self._bytes += size

    def _write(self) -> None:
        if self._left_out:
            self._lines.append(f"… {self._left_out} lines left out: too many at once for a log")
            self._left_out = 0
        self._log.info("%s", "\n".join(self._lines))
        self._lines, self._bytes = [], 0


def _start(line: CommandLine, environ: Mapping[str, str], streams: list[_Stream]) -> Program:
    from holdfast.process.beside import beside  # only where a program is started

    here = beside.get(None)
    if here is None:
        raise FatalError("a command is executed by a worker: start a run of it, or `ctx.call` it")
    pipes = [os.pipe(), os.pipe()]
    try:
        program = here.launch(
            line.argv,
            line.limits,
            cwd=line.cwd,
            environ=environ,
            stdout=pipes[0][1],
            stderr=pipes[1][1],
            linger_s=LINGER_S,
        )
    except BaseException as error:
        for end, _ in pipes:
            os.close(end)
        if not isinstance(error, OSError | ValueError | Refused):
            raise
        raise FatalError(f"{line.argv[0]!r} cannot be started: {error}") from error
    finally:
        for _, end in pipes:
            os.close(end)
    loop = asyncio.get_running_loop()
    for stream, (end, _) in zip(streams, pipes, strict=True):
        stream.reading = loop.create_task(stream.read(end), name="lines of a program")
    return program


async def _end(launched: Launched, streams: list[_Stream]) -> int:
    """SIGTERM, patience, SIGKILL, if it has not ended by itself; then the last lines."""
    reading = [stream.reading for stream in streams]
    if launched.quit.done():
        await asyncio.wait(reading, timeout=LINGER_S)
    else:
        launched.ask_to_end()
        await asyncio.wait([launched.quit], timeout=GRACE_S)
    launched.kill()
    code = await launched.ended()
    await asyncio.wait(
        reading, timeout=LINGER_S
    )  # its streams may have been handed to who is none of its own
    for task in reading:
        task.cancel()
    await asyncio.wait(reading)
    return code


async def _tick(streams: list[_Stream]) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        for stream in streams:
            stream.tick()


async def to_its_end(work: Coroutine[Any, Any, T], *, heard: bool) -> T:
    """Await work that must not be left half done; a cancellation that comes meanwhile (each second one does, for code
    that does not end) is raised when it is over, if it is `heard`."""
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and heard:
        raise cancelled
    return task.result()


def _failed(line: CommandLine, program: Program, code: int, last: list[str]) -> CommandFailed:
    from holdfast.process.climbing import at_the_limit

    name = line.argv[0]
    if program.why is not None:
        return CommandFailed(f"{name} {program.why}")
    if program.launched.oom_kills:
        return OutOfMemory(f"{name} {at_the_limit(line.limits)}")
    return CommandFailed(_failure(name, code, last))


def _failure(name: str, code: int, last: list[str]) -> str:
    """What happened and the last word of stderr in the first line; what it said before that in the others."""
    how = exit_status.told(code)
    told = f"{name} {how}: {last[-1]}" if last else f"{name} {how}"
    return "\n".join([told, "its stderr before that:", *last[:-1]]) if len(last) > 1 else told
