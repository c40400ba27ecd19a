"""Processes for tests: start them, kill them, and check afterwards that nothing was lost and nothing done twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from holdfast.client import Client
from holdfast.model import Entry, EntryStatus, Run, RunState
from holdfast.store import open_store
from tests.processes import agents

ROOT = Path(__file__).parents[2]
OUTCOMES = (EntryStatus.OK, EntryStatus.FAILED, EntryStatus.ABANDONED)


def serve(url: str, **options: Any) -> subprocess.Popen[str]:
    """A worker process."""
    command = [sys.executable, "-m", "tests.processes.serve", url, json.dumps(options)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Poll a condition of another process."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, f"not within {timeout_s} s"
        time.sleep(0.01)


def stop(process: subprocess.Popen[str], signum: int = signal.SIGKILL) -> str:
    """Signal a process and wait for its end; returns what it wrote to stderr."""
    if process.poll() is None:
        os.kill(process.pid, signum)
    _, err = process.communicate(timeout=60)
    return err


def freeze(process: subprocess.Popen[str], store: Path) -> None:
    """Stop a process where it holds nobody up: inside a transaction it would keep the store's write lock for as long as
    it stands still, and nobody could take over what it had."""
    for _ in range(200):
        os.kill(process.pid, signal.SIGSTOP)
        with closing(apsw.Connection(str(store))) as connection:
            connection.set_busy_timeout(200)  # whoever else writes goes on meanwhile
            try:
                connection.execute("BEGIN IMMEDIATE; ROLLBACK")
            except apsw.BusyError:
                os.kill(process.pid, signal.SIGCONT)
                time.sleep(0.005)
            else:
                return
    raise AssertionError(f"process {process.pid} was in a transaction whenever it was stopped")


def ended(process: subprocess.Popen[str], timeout_s: float = 60.0) -> int:
    """Wait for a process to end by itself; returns its exit code."""
    process.communicate(timeout=timeout_s)
    return process.returncode


def killed_at(
    scene: Scene, points: Sequence[str], *, seen: Callable[[Scene], object] = lambda scene: None
) -> list[Scene]:
    """Kill a worker at each of these commits (`3-`: before the third is durable, `3+`: right after it), each on a copy
    of the scene's store in a folder of its own; look at what is left with `seen`; let other workers finish."""
    module, store = [sys.executable, "-m", "tests.processes.killed"], scene.folder / "holdfast.db"
    scenes = [Scene(scene.folder / point) for point in points]
    _done([*module, "kill", str(store), str(scene.folder), *points])
    for each in scenes:
        seen(each)
    _done([*module, "finish", str(scene.folder), *points])
    return scenes


def _done(command: Sequence[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=55)
    assert done.returncode == 0, done.stderr


def lines(folder: Path, name: str) -> list[str]:
    """What the agents wrote."""
    file = folder / name
    return file.read_text().split("\n")[:-1] if file.exists() else []


@dataclass
class Scene:
    """A store and the folder that agents write to."""

    folder: Path

    @property
    def url(self) -> str:
        """The store."""
        return f"sqlite:///{self.folder / 'holdfast.db'}"

    def start(self, agent: Any, *args: Any, id: str = "r") -> None:
        """Queue a run."""

        async def starting() -> None:
            async with open_store(self.url) as store:
                await Client(store).start(agent, *args, id=id)

        asyncio.run(starting())

    def start_tally(self, steps: int, pause_s: float = 0.0, id: str = "r") -> None:
        """Queue the run that counts."""
        self.start(agents.tally, str(self.folder), steps, pause_s, id=id)

    def run(self, id: str = "r") -> Run:
        """The run as stored."""

        async def reading() -> Run:
            async with open_store(self.url) as store:
                return await store.get_run(id)

        return asyncio.run(reading())

    def entries(self, id: str = "r") -> list[Entry]:
        """What is recorded."""

        async def reading() -> list[Entry]:
            async with open_store(self.url) as store:
                return await store.read_entries(id, payloads=True)

        return asyncio.run(reading())

    def steer(self, verb: str, id: str = "r", **options: Any) -> None:
        """Cancel, pause, resume or retry from this process."""

        async def steering() -> None:
            async with open_store(self.url) as store:
                await getattr(await Client(store).get(id), verb)(**options)

        asyncio.run(steering())

    def check_tally(self, steps: int, kills: int, id: str = "r") -> int:
        """Everything acknowledged is recorded, nothing is recorded twice, repeats are within the bound."""
        run = self.run(id)
        assert run.state is RunState.SUCCEEDED, (run.state, run.reason, run.failure)
        assert run.result == str(sum(range(steps))).encode()
        entries = [entry for entry in self.entries(id) if entry.status is not EntryStatus.RETRIED]
        assert [entry.position for entry in entries] == list(range(1, len(entries) + 1))
        recorded = Counter(entry.identity for entry in entries)
        assert not recorded or max(recorded.values()) == 1
        outcomes = Counter(entry.identity.name for entry in entries)
        refused = sum(n % 7 == 3 for n in range(steps))
        assert outcomes == Counter({"setup": 1, "act": steps, **({"refuse": refused} if refused else {})})
        tokens = [entry.token for entry in entries]
        assert tokens == sorted(tokens)
        executed = Counter(lines(self.folder, "executed"))
        assert len(executed) == 1 + steps + refused
        repeats = sum(executed.values()) - len(executed)
        assert repeats <= kills, f"{repeats} repeats after {kills} kills of one step in flight"
        return repeats

    def start_fleet(self, rounds: int, pause_s: float = 0.0, id: str = "r") -> None:
        """Queue the run of maps and races."""
        self.start(agents.fleet, str(self.folder), rounds, pause_s, id=id)

    def check_fleet(self, rounds: int, kills: int, id: str = "r") -> int:
        """Everything acknowledged is recorded once, and nothing recorded was executed by a later attempt."""
        run = self.run(id)
        assert run.state is RunState.SUCCEEDED, (run.state, run.reason, run.failure, run.mismatch)
        assert run.result == str(rounds).encode()
        entries = self.entries(id)
        assert [entry.position for entry in entries] == list(range(1, len(entries) + 1))
        outcomes = Counter(entry.identity for entry in entries if entry.status in OUTCOMES)
        assert max(outcomes.values()) == 1
        carried = [
            json.loads(entry.payload)
            for entry in entries
            if entry.identity.name == "carry" and entry.status is EntryStatus.OK
        ]
        assert max(Counter(carried).values()) == 1
        assert set(lines(self.folder, "acked")) <= set(carried)
        wanted = {f"{n}-m{k}" for n in range(rounds) for k in range(8)}
        wanted |= {f"{n}-hare{k}" for n in range(rounds) for k in (1, 2)}
        assert wanted <= set(carried)
        self._check_nothing_recorded_ran_again(entries)
        repeats = self._repeats()
        assert repeats <= 4 * kills, f"{repeats} repeats after {kills} kills of four steps in flight"
        return repeats

    def children(self, id: str = "r") -> list[Run]:
        """The children of a run, in the order in which they were started."""

        async def reading() -> list[Run]:
            async with open_store(self.url) as store:
                return [kin.run for kin in await store.list_children([id], 1_000)]

        return asyncio.run(reading())

    def check_household(self, rounds: int, kills: int, *, fails: bool = False) -> int:
        """Every child was started once, nothing recorded in it was done again, its end was told and taken once, and
        it ended with its parent as it was to."""
        run, children = self.run(), {child.id: child for child in self.children()}
        assert run.state is (RunState.FAILED if fails else RunState.SUCCEEDED), (run.reason, run.failure)
        words = [
            f"{n}-{word}" for n in range(rounds) for word in ("m0", "m1", "m2", "bad2", "quick", "started")
        ]
        assert fails or json.loads(run.result or b"") == words
        entries = self.entries()
        assert [entry.position for entry in entries] == list(range(1, len(entries) + 1))
        assert max(Counter(entry.identity for entry in entries if entry.status in OUTCOMES).values()) == 1
        starts = [json.loads(e.payload) for e in entries if e.identity.name.endswith((":start", ":call"))]
        assert sorted(starts) == sorted(children)
        ends = [entry for entry in entries if entry.identity.name in ("errand", "errand:result")]
        assert Counter(entry.status for entry in ends if entry.status in OUTCOMES) == {
            EntryStatus.OK: 5 * rounds, EntryStatus.FAILED: rounds, **self._losers(ends, rounds),
        }  # fmt: skip
        results = [json.loads(entry.payload) for entry in ends if entry.status is EntryStatus.OK]
        assert sorted([*results, *(f"{n}-bad2" for n in range(rounds))]) == sorted(words)
        assert set(lines(self.folder, "acked")) <= set(words)
        taken = [entry.signal for entry in ends if entry.signal is not None]
        assert len(taken) == len(set(taken)) == 6 * rounds
        states = Counter(child.state for child in children.values())
        assert states == {
            RunState.SUCCEEDED: 6 * rounds, RunState.FAILED: rounds, RunState.CANCELLED: 2 * rounds,
        }  # fmt: skip
        for n in range(rounds):
            assert children[f"left-{n}"].state is RunState.SUCCEEDED
            assert {children[f"{word}-{n}"].state for word in ("endless", "lost")} == {RunState.CANCELLED}
        return self._check_errands(children, 4 * kills)

    def _losers(self, ends: list[Entry], rounds: int) -> dict[EntryStatus, int]:
        """A race that went down with its worker leaves no entry of its losers; what it gave up is cancelled with the
        next entry of the run."""
        given_up = sum(entry.status is EntryStatus.ABANDONED for entry in ends)
        assert given_up <= rounds
        return {EntryStatus.ABANDONED: given_up} if given_up else {}

    def _check_errands(self, children: Iterable[str], most_repeats: int) -> int:
        """Nothing recorded in a child was executed by a later attempt of it."""
        executed = [line.split() for line in lines(self.folder, "executed")]
        recorded: dict[str, int] = {}
        for child in children:
            for entry in self.entries(child):
                if entry.identity.name == "errand_step" and entry.status in OUTCOMES:
                    word = json.loads(entry.payload)
                    word = word if isinstance(word, str) else word["message"]
                    assert word not in recorded
                    recorded[word] = entry.token
        for word, token in executed:
            assert word not in recorded or recorded[word] >= int(token), f"{word} again in attempt {token}"
        assert set(recorded) <= {word for word, _ in executed}
        repeats = len(executed) - len({word for word, _ in executed})
        assert repeats <= most_repeats, f"{repeats} repeats"
        return repeats

    def _check_nothing_recorded_ran_again(self, entries: list[Entry]) -> None:
        attempts = dict(line.split() for line in lines(self.folder, "attempts"))
        recorded = {
            json.loads(entry.payload): entry.token
            for entry in entries
            if entry.identity.name == "carry" and entry.status is EntryStatus.OK
        }
        for line in lines(self.folder, "executed"):
            word, pid = line.split()
            by = recorded.get(word)
            assert by is None or by >= int(attempts[pid]), f"{line} after attempt {by} had recorded it"

    def _repeats(self) -> int:
        executed = Counter(line.split()[0] for line in lines(self.folder, "executed"))
        return sum(executed.values()) - len(executed)
