"""Agents for processes of their own. What they do to the outside they write into files."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from holdfast import Context, FatalError, Limits, RateLimit, StepFailed, Thresholds, agent, step_context

log = logging.getLogger(__name__)


@dataclass
class Done:
    count: int = 0


def pid() -> int:
    return os.getpid()


def say(folder: str, name: str, line: object = "") -> None:
    with (Path(folder) / name).open("a") as file:
        file.write(f"{line}\n")


async def double(n: int) -> int:
    return 2 * n


def refuse(n: int) -> int:
    raise FatalError(f"{n} is refused")


def stream() -> str:
    step_context.record({"at": 1})
    step_context.emit("some text")
    return step_context.idempotency_key


def pay(folder: str) -> str:
    say(folder, "paid")
    return "receipt"


@agent(isolation="process")
async def whereabouts(ctx: Context) -> list[int]:
    """Its own process, and the parent of that."""
    return [await ctx.step(pid), os.getpid(), os.getppid()]


@agent(isolation="process")
async def grandchild(ctx: Context, n: int) -> int:
    return await ctx.step(double, n)


@agent(isolation="process")
async def everything(ctx: Context, folder: str) -> dict[str, object]:
    """Every kind of call that there is."""
    found: dict[str, object] = {"setup": await ctx.step(double, 1)}
    state = ctx.restore(Done)
    found["mapped"] = await ctx.map(double, [1, 2, 3], key=str, limit=2)

    async def quick() -> int:
        return await ctx.step(double, 5)

    async def slow() -> int:
        await ctx.sleep(60)
        return 0

    found["raced"] = (await ctx.race({"quick": quick, "slow": slow}))[0]
    async with ctx.branch("apart"):
        found["branch"] = await ctx.step(double, 6)
    found["once"] = await ctx.once("welcome", double, 7)
    found["paid"] = await ctx.step(pay, folder, effect="once")
    found["key"] = len(await ctx.step(stream)) > 0
    try:
        await ctx.step(refuse, 8)
    except StepFailed as failed:
        found["refused"] = failed.message
    found["rated"] = await ctx.step(double, 9, rate=RateLimit("tests", "1000/s"))
    found["artifact"] = (await ctx.artifact("a.txt", b"bytes" * 1000)).size_bytes
    found["child"] = await ctx.call(grandchild, 10)
    await ctx.sleep(0.01)
    found["signal"] = await ctx.wait_for("go", str)
    found["answer"] = (await ctx.approval("Go on?", ["yes", "no"])).choice
    found["times"] = ctx.now().year > 2000
    found["chance"] = 0 <= ctx.random.random() < 1
    ctx.progress(1, 2, "half")
    log.info("said in another process")
    state.count += 1
    await ctx.checkpoint(state, name="done")
    return found


@agent(isolation="process")
async def dies(ctx: Context, how: str, folder: str, good: int = 0) -> str:
    """Dies so in every attempt, but for the one with this number."""
    await ctx.step(double, 1)
    say(folder, "attempts", os.getpid())
    if len((Path(folder) / "attempts").read_text().splitlines()) == good:
        return "alive"
    HOW[how]()
    await asyncio.sleep(60)
    return "unreachable"


def _garbage() -> None:
    socket.socket(fileno=os.dup(int(sys.argv[1]))).sendall(b"GET / HTTP/1.1\r\n\r\n")


def _no_frame() -> None:
    socket.socket(fileno=os.dup(int(sys.argv[1]))).sendall(b'\0\0\0\x0f{"type":"rob"} ')


def _close() -> None:
    os.close(int(sys.argv[1]))


def _shut() -> None:
    socket.socket(fileno=os.dup(int(sys.argv[1]))).shutdown(socket.SHUT_RDWR)


HOW = {
    "real time": lambda: os.kill(os.getpid(), 40),
    "exit": lambda: os._exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "fault": lambda: ctypes.string_at(0),
    "garbage": _garbage,
    "no frame": _no_frame,
    "shut": _shut,
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


@agent(isolation="process")
async def busy(ctx: Context, folder: str) -> None:
    """Never gives the loop back, and does not listen to anything."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    say(folder, "busy", os.getpid())
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass


@agent(isolation="process")
async def breeds(ctx: Context, folder: str, stays: bool) -> str:
    """Leaves processes behind: one in its session, one that ignores SIGTERM."""
    ignoring = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    for command in (["sleep", "1000"], [sys.executable, "-c", ignoring]):
        say(folder, "bred", subprocess.Popen(command).pid)
    say(folder, "bred", os.getpid())
    if stays:
        await asyncio.sleep(1000)
    return "left them"


def hang(folder: str) -> int:
    say(folder, "hung", os.getpid())
    if len((Path(folder) / "hung").read_text().splitlines()) < 2:
        time.sleep(1000)
    return os.getpid()


@agent(isolation="process")
async def stuck(ctx: Context, folder: str) -> int:
    return await ctx.step(hang, folder, timeout=0.3)


@agent(isolation="process")
async def floods(ctx: Context, count: int) -> int:
    """Says far more than anybody can write."""
    for n in range(count):
        ctx.progress(n, count)
        log.info("line %d", n)
        if n % 1000 == 0:
            await ctx.step(double, n)
    return count


@agent(isolation="process")
async def counts(ctx: Context, folder: str, steps: int, pause_s: float) -> int:
    """Steps with a pause, each seen in a file."""
    state = ctx.restore(Done)
    while state.count < steps:
        await ctx.step(_act, folder, state.count, pause_s)
        state.count += 1
        await ctx.checkpoint(state)
    return state.count


async def _act(folder: str, n: int, pause_s: float) -> int:
    say(folder, "executed", n)
    await asyncio.sleep(pause_s)
    return n


@agent(isolation="process")
async def fails(ctx: Context) -> None:
    raise FatalError("as any code may")


ALL = [whereabouts, grandchild, everything, dies, busy, breeds, stuck, floods, counts, fails]


@agent(isolation="process")
async def verbose(ctx: Context, size: int) -> str:
    """A long answer."""
    return "x" * size


@agent(isolation="task")
async def hogs(ctx: Context, seconds: float) -> None:
    """Holds the loop of its worker again and again."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        time.sleep(0.15)
        await asyncio.sleep(0)


def start_somebody(how: str) -> str:
    """Start a program that says what reaches it."""
    code = "import signal, sys, time; print(signal.getsignal(signal.SIGINT), flush=True)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@agent(isolation="process")
async def starts(ctx: Context) -> str:
    return await ctx.step(start_somebody, "quietly")


@agent(isolation="process")
async def leaks(ctx: Context, size: int) -> str:
    """Dies with an answer that it did not take, and with somebody who holds what it inherited."""
    await ctx.once("large", enlarge, size)
    os.system("setsid sleep 30 &")
    asking = asyncio.get_running_loop().create_task(ctx.once("large", enlarge, size))
    for _ in range(5):
        await asyncio.sleep(0)  # it has asked by now
    time.sleep(0.5)
    os._exit(3)
    return await asking


def enlarge(size: int) -> str:
    return "x" * size


@agent(isolation="process")
async def collects(ctx: Context) -> int:
    """More in its inbox than passes at once in a frame of its own."""
    return sum([len(await ctx.wait_for("large", str)) for _ in range(3)])


@agent(isolation="process")
async def says_half(ctx: Context) -> str:
    return (await ctx.map(double, [1], key=lambda _: chr(0xDCFF)))[0] and "said"


# --- workspaces -------------------------------------------------------------------------------------------------


@agent(isolation="process")
async def keeps(ctx: Context, good: int) -> list[str]:
    """Writes the number of each attempt into its workspace, and dies until the one with this number."""
    (ctx.workspace / str(ctx.attempt)).touch()
    if ctx.attempt < good:
        os._exit(3)
    return [str(ctx.workspace), *sorted(one.name for one in ctx.workspace.iterdir())]


def fill(folder: str) -> str:
    """Write 10 MB a second, without end but for this test's own: 100 MB; nothing when it is told that it is enough."""
    place = Path(folder)
    if (place / "enough").exists():
        return "enough"
    for n in range(1000):
        (place / str(n)).write_bytes(bytes(100_000))
        time.sleep(0.01)
    return "filled"


@agent(isolation="process", limits=Limits(disk="20MB"))
async def fills(ctx: Context) -> str:
    """Records before each attempt's filling, as agents do that get on: crashes with an entry between are forgiven."""
    state = ctx.restore(Done)
    await ctx.step(double, state.count)
    state.count += 1
    await ctx.checkpoint(state, name=f"attempt {ctx.attempt}")
    return await ctx.step(fill, str(ctx.workspace))


@agent(isolation="process", limits=Limits(disk="10MB"))
async def nears(ctx: Context) -> str:
    """Takes nine tenths of what it may, waits until it is told, and then as long as a run that is held back."""
    for n in range(90):
        (ctx.workspace / str(n)).write_bytes(bytes(98_304))
    for _ in range(300):
        if ctx.pressure == "critical":
            await asyncio.sleep(8)
            return ctx.pressure
        await asyncio.sleep(0.1)
    return "never"


@agent(isolation="process", thresholds=Thresholds(cpu_percent=(20, 40)))
async def toils(ctx: Context, folder: str, seconds: float) -> float:
    """Computes without a rest; the share of a core that it gets in so many seconds from when somebody asks for it."""
    asked, since = Path(folder) / "measure", (0.0, 0.0)
    while not since[0] or time.monotonic() - since[0] < seconds:
        if not since[0] and asked.exists():
            since = time.monotonic(), time.process_time()
        sum(range(1000))
        await asyncio.sleep(0)
    now = time.monotonic(), time.process_time()
    return (now[1] - since[1]) / (now[0] - since[0])


@agent
async def gathers(ctx: Context, folder: str, mb: int) -> int:
    """Takes memory where its worker says."""
    return await ctx.step(hoard, folder, mb)


ALL += [keeps, fills, nears, toils, gathers]
ALL += [verbose, hogs, starts, leaks, collects, says_half]
# --- limits -----------------------------------------------------------------------------------------------------


def hoard(folder: str, mb: int) -> int:
    """Take memory, a megabyte at a time, and touch it."""
    say(folder, "hoarding", os.getpid())
    kept = []
    for _ in range(mb):
        kept.append(bytearray(os.urandom(1024) * 1024))
    return len(kept)


@agent(isolation="process", limits=Limits(memory="150MB"))
async def hoards(ctx: Context, folder: str, mb: int) -> int:
    return await ctx.step(hoard, folder, mb)


@agent(isolation="process", limits=Limits(memory="200MB"))
async def feels(ctx: Context, folder: str) -> str:
    """Takes four fifths of what it may, and waits until it is told."""
    kept = [bytearray(os.urandom(1024) * 1024) for _ in range(135)]
    for _ in range(300):
        if ctx.pressure != "ok":
            return f"{ctx.pressure} {len(kept)}"
        await asyncio.sleep(0.1)
    return "never"


def multiply(folder: str) -> int:
    """Fork as long as it is let, at most 60 times; each child lives until it is ended."""
    for n in range(60):
        try:
            child = os.fork()
        except OSError:
            return n
        if child == 0:
            time.sleep(1000)
            os._exit(0)
        say(folder, "forked", child)
    return 60


@agent(isolation="process", limits=Limits(processes=20))
async def multiplies(ctx: Context, folder: str) -> int:
    return multiply(folder)


@agent(isolation="process", limits=Limits(cpu=0.3))
async def burns(ctx: Context, folder: str) -> float:
    """The share of a core that it gets, over three seconds."""
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() - began < 3:
        pass
    return (time.process_time() - used) / (time.monotonic() - began)


@agent(isolation="process", limits=Limits(disk="1MB", open_files=40))
async def overfills(ctx: Context, folder: str) -> list[str]:
    found = []
    try:
        with (Path(folder) / "large").open("wb") as file:
            for _ in range(30):
                file.write(bytes(100_000))
                file.flush()
    except OSError as error:
        found.append(type(error).__name__)
    opened = []
    try:
        for _ in range(60):
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        found.append(type(error).__name__)
    for one in opened:
        os.close(one)
    return found


ESCAPES = {
    "child": "exec sleep 1000",
    "session": "exec setsid sleep 1000",
    "bare": "exec setsid env -i sleep 1000",
    "disowned": "(setsid sleep 1000 &) ; exit 0",
    "daemon": "(setsid sh -c '(env -i sleep 1000 &)' &) ; exit 0",
}


@agent(isolation="process")
async def escapes(ctx: Context, folder: str, stays: bool) -> str:
    """Leaves a process behind by each trick; they are known by how long they sleep."""
    seconds = (Path(folder) / "seconds").read_text()
    for command in ESCAPES.values():
        subprocess.Popen(["sh", "-c", command.replace("1000", seconds)], stdin=subprocess.DEVNULL)
    await asyncio.sleep(0.5)
    say(folder, "escaped", os.getpid())
    if stays:
        await asyncio.sleep(1000)
    return "left them"


ALL += [hoards, feels, multiplies, burns, overfills, escapes]
