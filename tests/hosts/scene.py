"""A scene of real workers on a PostgreSQL database: what `tests.processes.harness` has for a file."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from holdfast.store import open_store
from holdfast.store.protocol import Store
from tests.processes.harness import ROOT, Scene

T = TypeVar("T")


@dataclass
class Hosts(Scene):
    """A database, and the folder that agents write to."""

    address: str = ""

    @property
    def url(self) -> str:
        """The store."""
        return self.address


def asked(url: str, what: Callable[[Store], Awaitable[T]]) -> T:
    """What a store answers."""

    async def asking() -> T:
        async with open_store(url) as store:
            return await what(store)

    return asyncio.run(asking())


def worker(
    url: str,
    code: Path,
    *words: str,
    within: Sequence[str] = (),
    environ: dict[str, str] | None = None,
    log: Path | None = None,
) -> subprocess.Popen[str]:
    """`holdfast worker`, a process as people start it; `within` is what it is started by."""
    command = [*within, sys.executable, "-m", "holdfast", "worker", str(code), "--store", url, *words]
    to = subprocess.DEVNULL if log is None else log.open("a")
    try:
        return subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=to, text=True, env={**os.environ, **(environ or {})}
        )  # fmt: skip
    finally:
        if not isinstance(to, int):
            to.close()
