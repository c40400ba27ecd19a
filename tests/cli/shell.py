"""The shell under test: real processes in a folder of their own, with a file of agents."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AGENTS = '''
"""Agents for the tests of the shell."""
from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

import holdfast
from holdfast import Context, FatalError


@dataclass
class Count:
    done: int = 0


def greet(name: str) -> str:
    return f"hello {name}"


@holdfast.agent
async def hello(ctx: Context, name: str = "world") -> str:
    print("a print of the agent's")
    ctx.progress(0, 2, "greeting")
    logging.getLogger("greeter").info("greeting %s", name)
    text = await ctx.step(greet, name)
    ctx.progress(2, 2, "greeted")
    return text


@holdfast.agent
async def chorus(ctx: Context, left: bool = False) -> list[str]:
    if left:
        return [(await ctx.start(hello, "nobody", delay="1h", on_parent_end="leave")).id]
    return [await ctx.call(hello, "sea"), await ctx.call(once_more, "kelp")]


@holdfast.agent
async def once_more(ctx: Context, name: str) -> str:
    return await ctx.call(hello, name)


def note(path: str, n: int) -> int:
    with open(path, "a") as file:
        file.write(f"{n}\\n")
    return n


async def linger(length_s: float) -> None:
    """A pause, until somebody is in a hurry."""
    if not Path("hurry").exists():
        await asyncio.sleep(length_s)


@holdfast.agent
async def count(ctx: Context, path: str, total: int, pause_s: float = 0.0) -> int:
    s = ctx.restore(Count)
    while s.done < total:
        await ctx.step(note, path, s.done)
        if pause_s:
            await ctx.step(linger, pause_s)
        s.done += 1
        ctx.progress(s.done, total, f"note {s.done}")
        await ctx.checkpoint(s, name="half" if s.done == total // 2 else None)
    return s.done


def die_once(path: str) -> str:
    if not Path(path).exists():
        Path(path).write_text("died")
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@holdfast.agent
async def mortal(ctx: Context, folder: str) -> str:
    await ctx.step(note, f"{folder}/before", 1)
    answer = await ctx.step(die_once, f"{folder}/died")
    await ctx.step(note, f"{folder}/after", 1)
    return answer


def divide(path: str) -> float:
    if not Path(path).exists():
        raise FatalError("the divisor is missing")
    return 1.0


@holdfast.agent
async def fragile(ctx: Context, path: str) -> float:
    await ctx.step(greet, "first")
    return await ctx.step(divide, path)


@holdfast.agent
async def patient(ctx: Context) -> object:
    return await ctx.wait_for("go")
'''


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """`holdfast` as people call it, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "agents.py").write_text(AGENTS)
        hidden = ("HOLDFAST_STORE", "HOLDFAST_DEBUG", "NO_COLOR", "FORCE_COLOR", "_HOLDFAST_COMPLETE")
        self.environ = {name: value for name, value in os.environ.items() if name not in hidden}

    def __call__(
        self, *arguments: str, code: int | None = 0, stdin: str | None = None, **environ: str
    ) -> Ended:
        """Run a command to its end; `code` is the exit code it must have (None: any)."""
        done = subprocess.run(
            self._command(arguments),
            cwd=self.folder,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=50,
            check=False,
        )
        ended = Ended(done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in ended.err, ended.err
        assert code is None or ended.code == code, f"left with {ended.code}:\n{ended.out}\n{ended.err}"
        return ended

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        return subprocess.Popen(
            self._command(arguments),
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def hurry(self) -> None:
        """From now on pauses take no time, so that what is left ends soon."""
        (self.folder / "hurry").touch()

    def until(self, run_id: str, wanted: Any, within_s: float = 40.0) -> Any:
        """Look at a run until `wanted(document)` holds."""
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            ended = self("show", run_id, "--json", code=None)
            if ended.code == 0 and wanted(ended.json):
                return ended.json
        raise AssertionError(f"run {run_id} never came there: {ended.out}{ended.err}")

    @staticmethod
    def _command(arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "holdfast", *arguments]


def finish(process: subprocess.Popen[str], number: int | None = None, within_s: float = 30.0) -> Ended:
    """Send a signal, if any, and wait for the end."""
    if number is not None:
        process.send_signal(number)
    try:
        out, err = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"did not end:\n{out}\n{err}") from None
    return Ended(process.returncode, out, err)
