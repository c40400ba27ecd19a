"""Trees of processes for tests: started in a group, told apart by a word of their command line, seen from outside."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.throttle import Ground, Group
from holdfast.throttle.ground import find

PATIENCE_S = 20.0


def until(so: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    deadline_s = time.monotonic() + patience_s
    while not so():
        assert time.monotonic() < deadline_s, "it did not come to that"
        time.sleep(0.01)


def ground_of(kind: str, within: str = "") -> Ground:
    """The real ground, or the part of it that is asked for; a test that cannot have it says so. `within` is a folder in
    each tree that is made for this test alone."""
    ground = _ground_of(kind)
    if not within:
        return ground
    apart = replace(
        ground,
        v2=None if ground.v2 is None else ground.v2 / within,
        v1={controller: own / within for controller, own in ground.v1.items()},
    )
    for folder in folders_of(apart):
        folder.mkdir(exist_ok=True)
    return apart


def folders_of(ground: Ground) -> set[Path]:
    return {*([ground.v2] if ground.v2 is not None else []), *ground.v1.values()}


def _ground_of(kind: str) -> Ground:
    if kind == "none":
        return Ground()
    found = find()
    wanted = {
        "here": found,
        "v2": replace(found, v1={}),
        "v1": replace(found, v2=None, v2_controllers=frozenset()),
        "v1 without freezer": replace(
            found,
            v2=None,
            v2_controllers=frozenset(),
            v1={k: v for k, v in found.v1.items() if k != "freezer"},
        ),
    }[kind]
    if not wanted.grouped:
        pytest.skip(
            f"NOT TRIED: no {kind} control groups here ({'; '.join(found.troubles) or 'none mounted'})"
        )
    return wanted


def word() -> str:
    """A length of sleep that nobody else sleeps: it stands in the command line, which no `env -i` takes away."""
    return f"300.{secrets.randbelow(10**9):09d}"


def with_word(token: str) -> list[int]:
    """Every process on the machine with the word in its command line, that has not ended."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{name}/cmdline").read_bytes()
                if token.encode() in line and state_of(int(name)) not in "ZX":
                    found.append(int(name))
    return found


def state_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    return "X"


@contextlib.contextmanager
def started(group: Group, command: list[str], **options: object) -> Iterator[subprocess.Popen[str]]:
    """The command inside the group; nothing of it is left afterwards, however the test ends."""
    process: subprocess.Popen[str] = subprocess.Popen(
        group.launch(command),
        text=True,
        start_new_session=True,
        **options,  # type: ignore[call-overload]
    )
    try:
        group.attach(process.pid)
        yield process
    finally:
        group.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        process.kill()
        process.wait(10)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        group.remove()


def python(code: str, *args: str) -> list[str]:
    return [sys.executable, "-c", code, *args]


ESCAPES = """
sleep $1 &
( sleep $1 & )
setsid sleep $1 &
setsid env -i /bin/sleep $1 &
( setsid sh -c "trap '' TERM HUP INT; sleep $1 & sleep $1" & )
sh -c 'kill -STOP $$; exec sleep '$1 &
"""
"""A plain child, an orphan, a session of its own, one without environment, a daemon that ignores all, with children
of its own, and one that is stopped."""

ESCAPED = 9
"""The root, one for each trick, two more for the daemon, and its orphan."""


def settled(token: str) -> list[int]:
    """Those with the word, when all are there and none is only on its way to become another."""
    seen: list[int] = []
    for _ in range(500):
        before, seen = seen, with_word(token)
        if len(seen) >= ESCAPED and seen == before:
            return seen
        time.sleep(0.04)
    raise AssertionError(f"{len(seen)} processes, and it did not settle")


def escape_artists(token: str, *, root_stays: bool) -> list[str]:
    last = "exec sleep $1" if root_stays else "sleep 0.5; exit 0"
    return ["/bin/sh", "-c", ESCAPES + last, "sh", token]
