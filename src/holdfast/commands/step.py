"""`holdfast step` and `holdfast progress`, in the program that a run executes: quick to start, so it imports little.

The command runs here, below a warden that is a child of this process: its stdin and its folder are those of the script.
The run only says whether it is recorded, and makes its stdout durable. The warden holds the connection to the run, too:
when this process is killed, the run does not hear that it has gone before everything that the command started has.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time

from holdfast import warden
from holdfast.commands.words import MAX_OUTPUT, OPEN, SOCKET

TYPE_CHECKING = False  # `typing` would cost a third of the start

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BROKEN = 125
"""As timeout(1) and env(1) have it: what is not the command's own doing has a code of its own."""
GRACE_S = 5.0
LINGER_S = 1.0
"""How long what a command left behind may still write to its stdout, before it is killed."""
BACKOFF_S = 1.0
MOST_S = 60.0
"""From one try to the next: twice as long each time, up to this."""
_CHUNK = 64 * 1024


class CannotAsk(Exception):
    """The run cannot be asked, or refuses. The message is for the person."""


class Run:
    """The run at the other end of the socket. Raises CannotAsk when it is not there any more."""

    def __init__(self) -> None:
        path = os.environ.get(SOCKET)
        if not path:
            raise CannotAsk(
                "this is no program of a run: `holdfast step` and `holdfast progress` belong into a script that "
                "`holdfast run -- SCRIPT` executes"
            )
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(path)
        except OSError as error:
            raise CannotAsk(f"the run does not answer any more ({error}): its attempt has ended") from None
        self._file = self._socket.makefile("rwb")

    def ask(self, what: Mapping[str, object], output: bytes = b"") -> dict[str, object]:
        """Say this, and return the answer."""
        try:
            self._file.write(json.dumps(what).encode() + b"\n" + output)
            self._file.flush()
            line = self._file.readline()
        except OSError:
            line = b""
        if not line:
            raise CannotAsk("the run does not answer any more: its attempt has ended, nothing was recorded")
        answer: dict[str, object] = json.loads(line)
        if "error" in answer:
            raise CannotAsk(str(answer["error"]))
        return answer

    def fileno(self) -> int:
        """The number of the connection. It is open until all that hold it have ended."""
        return self._socket.fileno()

    def output(self, size: int) -> bytes:
        """The bytes that follow an answer."""
        found = self._file.read(size)
        if len(found) != size:
            raise CannotAsk("the run does not answer any more")
        return found


class Execution:
    """One try of the command, below a warden: its stdout is passed on, and kept."""

    def __init__(self, run: Run, argv: Sequence[str], timeout_s: float | None, *, live: bool) -> None:
        self.stdout = b""
        self._argv = list(argv)
        self._live = live
        self._settings = {"grace": GRACE_S, "linger": LINGER_S, "keep": float(run.fileno())}
        if timeout_s is not None:
            self._settings["timeout"] = timeout_s
        self._pid = 0

    def code(self) -> int:
        """Execute it to its end; its exit code, or 128 and the number of the signal that ended it. Nothing that it
        started is there any more."""
        out, end = os.pipe()
        before = signal.signal(signal.SIGTERM, self._told_to_end)
        try:
            self._start(end)
            self._read(out)
            _, status = os.waitpid(self._pid, 0)
        finally:
            signal.signal(signal.SIGTERM, before)
            os.close(out)
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code

    def _start(self, end: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # no handler of ours acts in the child
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.dup2(end, 1)
                warden.main(self._settings, self._argv)
            finally:
                os._exit(BROKEN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        os.close(end)

    def _read(self, out: int) -> None:
        """Take in what it writes, until nobody can write any more."""
        pieces: list[bytes] = []
        size = 0
        while data := os.read(out, _CHUNK):
            size += len(data)
            if size > MAX_OUTPUT:
                self._end(signal.SIGTERM)
                raise CannotAsk(
                    f"the command wrote more than {MAX_OUTPUT // 2**20} MiB to stdout, the limit of what a step can "
                    "record: let it write into a file"
                )
            pieces.append(data)
            if self._live:
                show(data)
        self.stdout = b"".join(pieces)

    def _end(self, number: int) -> None:
        os.kill(self._pid, number)  # the warden hands it on, and has patience
        os.waitpid(self._pid, 0)

    def _told_to_end(self, number: int, _: object) -> None:
        if self._pid:
            self._end(number)
        os._exit(128 + number)


def step(name: str, argv: Sequence[str], retries: int, timeout_s: float | None) -> int:
    """Have the command executed once in the life of the run; its stdout is on ours, and its exit code returned."""
    try:
        return _step(Run(), name, argv, retries, timeout_s)
    except CannotAsk as error:
        _complain(f"step {name!r}: {error}")
        return BROKEN


def _step(run: Run, name: str, argv: Sequence[str], retries: int, timeout_s: float | None) -> int:
    inside = os.environ.get(OPEN, "").splitlines()
    if name in inside:
        raise CannotAsk("it is asked for by its own command, and would wait for itself: give it another name")
    answer = run.ask({"step": name, "argv": [_text(word) for word in argv]})
    os.environ[OPEN] = "\n".join([*inside, name])
    if answer["do"] == "recorded":
        show(run.output(int(str(answer["bytes"]))))
        return 0
    tried = 0
    while True:
        execution = Execution(run, argv, timeout_s, live=not retries)
        code = execution.code()
        tried += 1
        if code == 0 or tried > retries:
            break
        pause_s = min(MOST_S, BACKOFF_S * 2 ** min(tried - 1, 10))
        sys.stderr.write(
            f"step {name!r}: {_how(code)}, try {tried} of {retries + 1}; again in {pause_s:g} s\n"
        )
        time.sleep(pause_s)
    if code == 0:
        run.ask({"code": 0, "bytes": len(execution.stdout)}, execution.stdout)
    else:
        run.ask({"code": code})
    if retries:
        show(execution.stdout)
    return code


def _text(word: str) -> str:
    """As it is told: bytes that are no UTF-8 by their numbers."""
    return word.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _how(code: int) -> str:
    return "out of its time" if code == warden.TIMED_OUT else f"exit code {code}"


def progress(current: float, total: float | None, text: str) -> int:
    """Tell the run how far it is."""
    try:
        Run().ask({"progress": [current, total, text]})
    except CannotAsk as error:
        _complain(str(error))
        return BROKEN
    return 0


def show(data: bytes) -> None:
    """Pass it on to whoever reads our stdout, as long as somebody does."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(1, left) :]
        except BlockingIOError:
            select.select([], [1], [])
        except BrokenPipeError:
            return


def _complain(text: str) -> None:
    sys.stderr.write(f"error: {text}\n")


def quick(arguments: Sequence[str]) -> int | None:
    """`step NAME [--retry N] [--timeout T] -- COMMAND…`, read without the machinery of the shell, which takes ten times
    as long as all of this; None for anything that is written otherwise, or wrong."""
    if "--" not in arguments or len(arguments) < 4 or arguments[0] != "step":
        return None
    at = arguments.index("--")
    name, options, argv = arguments[1], list(arguments[2:at]), arguments[at + 1 :]
    retries, timeout_s = 0, None
    while len(options) >= 2:
        option, value = options.pop(0), options.pop(0)
        if option == "--retry" and value.isdecimal() and len(value) <= 3:
            retries = int(value)
        elif option == "--timeout" and (timeout_s := _seconds(value)) is not None:
            pass
        else:
            return None
    if options or not argv or name.startswith("-"):
        return None
    return step(name, argv, retries, timeout_s)


def _seconds(text: str) -> float | None:
    from holdfast.duration import seconds
    from holdfast.errors import UsageError

    try:
        return seconds(text)
    except UsageError:
        return None
