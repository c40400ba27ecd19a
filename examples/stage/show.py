"""The run while it goes on: workers that are killed and replaced, and a watcher that shows what it reads."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from examples.stage import executions
from examples.stage.chaos import Killed, Killer
from examples.stage.executions import Execution
from examples.stage.screen import Screen
from examples.stage.shell import Shell

RUN = "demo"
TICK_S = 0.005  # an apply takes 50 ms, and a kill has to hit it
WORKERS_LOST_ALLOWED = 3  # that were not our doing
FAREWELL_S = 10.0
FINAL = ("succeeded", "failed", "cancelled")


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


class Stage(Protocol):
    """Where one run of a demo is performed."""

    @property
    def shell(self) -> Shell:
        """The commands, on the store of this run."""
        ...

    @property
    def log(self) -> Path:
        """The log to which every step body wrote its execution."""
        ...

    @property
    def worker_log(self) -> Path:
        """What the workers said."""
        ...


@dataclass(slots=True)
class Show:
    """The run while it goes on: its workers, their killer, and what a watcher reads of it."""

    stage: Stage
    screen: Screen
    killer: Killer
    crew: int = 1  # how many workers there are at any time; one of them has the run
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    killed: list[Killed] = field(default_factory=list)
    events: queue.SimpleQueue[dict[str, object] | None] = field(default_factory=queue.SimpleQueue)
    lost: int = 0
    resuming_since: float | None = None

    def perform(self) -> None:
        """Run the agent to its end, through every kill."""
        watcher = self.stage.shell.watch(RUN)
        reader = threading.Thread(target=self.read, args=(watcher,), daemon=True)
        reader.start()
        try:
            for _ in range(self.crew):
                self.new_worker()
            with self.screen.live():
                while self.drain():
                    self.look_after()
                    time.sleep(TICK_S)
        except BaseException:  # Ctrl-C, most of all: the demo is over, and so are its workers
            for worker in self.workers:
                worker.kill()
            raise
        finally:
            watcher.kill()
            watcher.wait()
            reader.join()
            for worker in self.workers:
                leave(worker)

    def read(self, watcher: subprocess.Popen[str]) -> None:
        assert watcher.stdout is not None
        with watcher.stdout:
            for line in watcher.stdout:
                self.events.put(json.loads(line))
        self.events.put(None)

    def new_worker(self) -> None:
        self.workers.append(self.stage.shell.worker(self.stage.worker_log))
        self.screen.worker(" and ".join(str(worker.pid) for worker in self.workers))

    def look_after(self) -> None:
        """Kill a worker if it is time, and replace one that is gone."""
        self.notice_resumed()
        killed = self.killer.look(self.workers)
        if killed is not None:
            self.tell_killed(killed)
        for worker in [worker for worker in self.workers if worker.poll() is not None]:
            ours = killed is not None and worker.pid == killed.pid
            if not ours and self.stage.shell.show(RUN)["state"] in FINAL:
                continue
            self.lost += 0 if ours else 1
            if self.lost > WORKERS_LOST_ALLOWED:
                raise DemoFailed(f"workers leave by themselves; {self.stage.worker_log} has what they said")
            self.workers.remove(worker)
            self.new_worker()

    def tell_killed(self, killed: Killed) -> None:
        self.killed.append(killed)
        recorded = self.stage.shell.show(RUN)["steps"]
        where = f"{killed.after_s * 1000:.0f} ms into {self.called(killed.during, executions.read(self.stage.log))}"
        self.screen.line("✗", f"killed worker {killed.pid} with SIGKILL, {where}", "bold red")
        resumes = "a new worker resumes" if self.crew == 1 else "another worker takes it over"
        promise = f"{resumes}: {recorded} outcomes are recorded, none of them runs again"
        self.screen.line("↻", promise, "cyan")
        self.resuming_since = time.time()

    def notice_resumed(self) -> None:
        """Say which step the new worker entered first."""
        if self.resuming_since is None:
            return
        entered = executions.read(self.stage.log)
        if entered and entered[-1].at > self.resuming_since:
            first = next(one for one in entered if one.at > self.resuming_since)
            again = "again, as it was cut short" if cut_short(self.killed[-1], first) else "the next one"
            took = first.at - self.resuming_since
            at = self.called(first, entered)
            self.screen.line("↻", f"worker {first.pid} is at work after {took:.1f} s: {at}, {again}", "cyan")
            self.resuming_since = None

    def drain(self) -> bool:
        """Show every event that has come. False when the watcher has seen the end."""
        while not self.events.empty():
            event = self.events.get()
            if event is None:
                return False
            self.show(event)
        return True

    def show(self, event: dict[str, object]) -> None:
        """Show one event. A workload adds what only it can tell."""
        found = event["data"]
        assert isinstance(found, dict)
        if event["type"] == "progress":
            self.screen.progress(found["current"], found["total"], found["description"], found["phase"])
        elif event["type"] in ("warning", "checkpoint.corrupt", "step.failed"):
            self.screen.line("!", f"{event['type']}: {json.dumps(found)}", "yellow")

    def called(self, execution: Execution, entered: Sequence[Execution]) -> str:
        """An execution in words."""
        return execution.name


def cut_short(killed: Killed, first: Execution) -> bool:
    return (killed.during.step, killed.during.key) == (first.step, first.key)


def leave(worker: subprocess.Popen[bytes]) -> None:
    """The worker ends by itself when nothing is left to do; one that does not is ended."""
    try:
        worker.wait(FAREWELL_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
