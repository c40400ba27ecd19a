"""A scene of real workers on a PostgreSQL database: what `tests.processes.harness` has for a file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from holdfast.client import Client
from holdfast.model import Entry, Run, RunState
from holdfast.store import open_store
from holdfast.store.protocol import Store
from tests.hosts.agents import walk
from tests.processes.harness import OUTCOMES, ROOT, Scene, lines, wait_until

T = TypeVar("T")


@dataclass
class Walk:
    """A run as it is stored, and what happened outside."""

    run: Run
    entries: list[Entry]

    @property
    def paces(self) -> list[tuple[str, str, int]]:
        """What its steps recorded: number, host, token."""
        return [
            (entry.identity.key or "", json.loads(entry.payload), entry.token)
            for entry in self.entries
            if entry.status in OUTCOMES
        ]


@dataclass
class Hosts(Scene):
    """A database, and the folder that agents write to."""

    address: str = ""

    @property
    def url(self) -> str:
        """The store."""
        return self.address

    def ask(self, what: Callable[[Store], Awaitable[T]]) -> T:
        """What the store answers."""
        return asked(self.url, what)

    def start_walks(self, count: int, steps: int, pause_s: float, *, named: str = "r") -> list[str]:
        """Queue so many runs."""

        async def starting(store: Store) -> list[str]:
            client, folder = Client(store), str(self.folder)
            return [
                (await client.start(walk, folder, steps, pause_s, id=f"{named}{n}")).id for n in range(count)
            ]

        return self.ask(starting)

    def walked(self, id: str) -> Walk:
        """One run as it is stored."""
        return self.all_walked([id])[0]

    def all_walked(self, runs: Sequence[str]) -> list[Walk]:
        """Runs as they are stored."""

        async def reading(store: Store) -> list[Walk]:
            return [Walk(await store.get_run(id), await store.read_entries(id, payloads=True)) for id in runs]

        return self.ask(reading)

    def ended(self, runs: Sequence[str]) -> bool:
        """Whether all of them are over."""

        async def reading(store: Store) -> bool:
            for id in reversed(runs):  # the newest first: whoever waits for them is told soon
                if not (await store.get_run(id)).state.final:
                    return False
            return True

        return self.ask(reading)

    def wait_for_first_ack(self, top_up: Callable[[], None]) -> None:
        """Until the first step is acknowledged."""
        top_up()
        wait_until(lambda: lines(self.folder, "acked"))

    def wait_for_acks(self, more: int, timeout_s: float = 30.0) -> None:
        """Until so many more steps are acknowledged."""
        seen = len(lines(self.folder, "acked"))
        wait_until(lambda: len(lines(self.folder, "acked")) >= seen + more, timeout_s)

    def check_walks(self, runs: Sequence[str], steps: int) -> int:
        """Every run ended once, with each step recorded once; what was acknowledged is recorded; nothing recorded was
        done again. Returns how many steps were done again: those that were cut off before they were recorded."""
        executed = [line.split() for line in lines(self.folder, "executed")]
        repeats = 0
        done_of: dict[str, list[tuple[str, int, str]]] = {id: [] for id in runs}
        for id, n, attempt, host in executed:
            if id in done_of:
                done_of[id].append((n, int(attempt), host))
        acked_of: dict[str, set[str]] = {id: set() for id in runs}
        for id, n in map(str.split, lines(self.folder, "acked")):
            if id in acked_of:
                acked_of[id].add(n)
        for one in self.all_walked(runs):
            id, done = one.run.id, done_of[one.run.id]
            assert one.run.state is RunState.SUCCEEDED, (id, one.run.reason, one.run.failure)
            assert one.run.result == str(steps).encode()
            assert [entry.position for entry in one.entries] == list(range(1, len(one.entries) + 1))
            recorded = {n: (host, token) for n, host, token in one.paces}
            assert Counter(n for n, _, _ in one.paces) == Counter(str(n) for n in range(steps))
            tokens = [token for _, _, token in one.paces]
            assert tokens == sorted(tokens), "an attempt recorded after a later one had begun to"
            assert acked_of[id] <= set(recorded), "what was acknowledged is lost"
            assert {n for n, _, _ in done} == set(recorded), (
                "an effect without an entry, or an entry without one"
            )
            self._check_nothing_again(one, done)
            repeats += len(done) - steps
        return repeats

    def _check_nothing_again(self, walk: Walk, done: list[tuple[str, int, str]]) -> None:
        """Marks are in the order of their happening: the one that was recorded is the last of its step."""
        last = {n: host for n, _, host in done}
        for n, host, _ in walk.paces:
            assert last[n] == host, (
                f"step {n} of {walk.run.id} was done on {last[n]} after {host} had recorded it"
            )


def asked(url: str, what: Callable[[Store], Awaitable[T]]) -> T:
    """What a store answers."""

    async def asking() -> T:
        async with open_store(url) as store:
            return await what(store)

    return asyncio.run(asking())


@dataclass
class Fleet:
    """Workers, none of which is left behind."""

    folder: Path
    all: list[subprocess.Popen[str]] = field(default_factory=list)
    _closing: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.all:
            if one.poll() is None:
                one.send_signal(signal.SIGCONT)
                one.kill()
        for one in self.all:
            one.wait()
        self._closing.close()

    def serve(
        self,
        url: str,
        host: str = "here",
        *,
        within: Sequence[str] = (),
        environ: dict[str, str] | None = None,
        ahead_s: int = 0,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """A worker with a lease of its own, on a host, whose clock may be ahead."""
        command = [*within, sys.executable, "-m", "tests.hosts.serve", url, json.dumps(options)]
        moved = {}
        if ahead_s:
            places = [
                str(ROOT / "tests" / "hosts" / "skewed"),
                *os.environ.get("PYTHONPATH", "").split(os.pathsep),
            ]
            moved = {
                "HOLDFAST_TEST_AHEAD_S": str(ahead_s),
                "PYTHONPATH": os.pathsep.join(filter(None, places)),
            }
        return self._start(command, host, {**moved, **(environ or {})})

    def worker(self, url: str, host: str, *words: str) -> subprocess.Popen[str]:
        """`holdfast worker`, as people start it."""
        command = [sys.executable, "-m", "holdfast", "worker", *words, "--store", url]
        return self._start(command, host, None)

    def _start(
        self, command: Sequence[str], host: str, environ: dict[str, str] | None
    ) -> subprocess.Popen[str]:
        given = {**os.environ, "HOLDFAST_TEST_HOST": host, **(environ or {})}
        said = self._closing.enter_context((self.folder / f"said-{host}").open("a"))
        started = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said, text=True, env=given)
        self.all.append(started)
        return started

    def said(self, host: str) -> str:
        """What the workers of a host said."""
        return (self.folder / f"said-{host}").read_text()
