"""Four agents that misbehave, each in its own way, in a process of their own and under limits.

    holdfast run examples/misbehave/agent.py:hoarder --input '{"log": "/tmp/hoarder.log"}'

None of them means harm: a cache without a bound, a tool that spins, a task dearer than thought, a model that asks the
same again and again.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

from examples.stage import executions
from holdfast import Budget, Context, Cost, Limits, agent, step_context

MEMORY: Final = "240MB"
FULL_PAGES: Final = 45  # of 4 MB: with the interpreter, some 90 % of the limit
PAGES: Final = FULL_PAGES + 80
FULL_PAGE: Final = 4 << 20
THUMBNAIL: Final = 64 << 10
CORES: Final = 0.25
SPINNERS: Final = 2
SPIN_S: Final = 12
PRICE_USD: Final = 0.40
CHAPTERS: Final = 5
BUDGET_USD: Final = 1.00

cache: dict[int, bytearray] = {}
"""The mistake: what was read once is kept for ever. A new process begins without it."""


async def scan(log: str, page: int) -> int:
    """Read one page of a book: large ones first, then thumbnails, slowly once so much is kept. Returns its bytes."""
    executions.note(Path(log), "scan", str(page))
    cache[page] = bytearray(b"p") * (FULL_PAGE if page < FULL_PAGES else THUMBNAIL)
    await asyncio.sleep(0.4 if len(cache) > FULL_PAGES else 0.1)
    return len(cache[page])


@agent(isolation="process", limits=Limits(memory=MEMORY))
async def hoarder(ctx: Context, log: str) -> int:
    """Scan a book page by page, and keep every page in memory. Returns the bytes of all pages."""
    total = 0
    for page in range(PAGES):
        total += await ctx.step(scan, log, page, key=str(page))
        ctx.progress(page + 1, PAGES, "pages")
    return total


async def spin(pids: str) -> None:
    """Start tools that compute without a rest, tell their numbers, and wait for them."""
    code = f"import time; ends = time.monotonic() + {SPIN_S}\nwhile time.monotonic() < ends: pass"
    tools = [await asyncio.create_subprocess_exec(sys.executable, "-c", code) for _ in range(SPINNERS)]
    Path(pids).write_text(" ".join(str(tool.pid) for tool in tools) + "\n")
    await asyncio.gather(*(tool.wait() for tool in tools))


@agent(isolation="process", limits=Limits(cpu=CORES, processes=16))
async def spinner(ctx: Context, pids: str) -> str:
    """Run tools that want every core there is."""
    await ctx.step(spin, pids)
    return "done"


async def write_chapter(log: str, chapter: int) -> str:
    """Ask a model for a chapter. It costs what the estimate says."""
    executions.note(Path(log), "write_chapter", str(chapter))
    await asyncio.sleep(0.3)
    step_context.used(usd=PRICE_USD)
    return f"chapter {chapter}"


@agent(budget=Budget(usd=BUDGET_USD))
async def spender(ctx: Context, log: str) -> int:
    """Write a book that costs twice its budget."""
    for chapter in range(CHAPTERS):
        await ctx.step(write_chapter, log, chapter, key=str(chapter), cost=Cost(usd=PRICE_USD))
    return CHAPTERS


async def search(log: str, what: str) -> str:
    """A search that finds nothing, whatever one hopes."""
    executions.note(Path(log), "search")
    await asyncio.sleep(0.3)
    return f"nothing found for {what!r}"


@agent
async def repeater(ctx: Context, log: str) -> str:
    """Search for the same again and again, as a model does that does not read what it is told."""
    while True:
        await ctx.step(search, log, "the lost reef", tool=True)
