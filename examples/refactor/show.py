"""The run while it goes on: a worker that is killed and replaced, and a watcher that shows what it reads."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from examples.refactor import executions
from examples.refactor.chaos import Killed, Killer, choose_kills
from examples.refactor.executions import Execution
from examples.refactor.screen import Screen
from examples.refactor.shell import Shell

RUN = "demo"
TICK_S = 0.005  # an apply takes 50 ms, and a kill has to hit it
WORKERS_LOST_ALLOWED = 3  # that were not our doing
FAREWELL_S = 10.0
FINAL = ("succeeded", "failed", "cancelled")


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What is refactored, with what, and where everything of this run is kept."""

    repo: Path
    python: Path
    tools: Path
    shell: Shell
    workspace: Path
    limit: int | None = None

    @property
    def log(self) -> Path:
        return self.workspace / "executions.jsonl"

    @property
    def worker_log(self) -> Path:
        return self.workspace.parent / "workers.log"


@dataclass(slots=True)
class Show:
    """The run while it goes on: its worker, its killer, and what a watcher reads of it."""

    stage: Stage
    screen: Screen
    kills_wanted: int
    seed: int
    killer: Killer
    killed: list[Killed] = field(default_factory=list)
    events: queue.SimpleQueue[dict[str, object] | None] = field(default_factory=queue.SimpleQueue)
    lost: int = 0
    planned: bool = False
    resuming_since: float | None = None

    def perform(self) -> None:
        """Run the agent to its end, through every kill."""
        watcher = self.stage.shell.watch(RUN)
        threading.Thread(target=self.read, args=(watcher,), daemon=True).start()
        worker = self.new_worker()
        try:
            with self.screen.live():
                while self.drain():
                    worker = self.replaced(worker)
                    time.sleep(TICK_S)
        except BaseException:  # Ctrl-C, most of all: the demo is over, and so is its worker
            worker.kill()
            raise
        finally:
            watcher.kill()
            watcher.wait()
            leave(worker)

    def read(self, watcher: subprocess.Popen[str]) -> None:
        assert watcher.stdout is not None
        for line in watcher.stdout:
            self.events.put(json.loads(line))
        self.events.put(None)

    def new_worker(self) -> subprocess.Popen[bytes]:
        worker = self.stage.shell.worker(self.stage.worker_log)
        self.screen.worker(str(worker.pid))
        return worker

    def replaced(self, worker: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """The worker, or a new one if it was time to kill it, or if it died by itself."""
        self.notice_resumed()
        killed = self.killer.look(worker)
        if killed is not None:
            self.tell_killed(killed)
            return self.new_worker()
        if worker.poll() is not None and self.stage.shell.show(RUN)["state"] not in FINAL:
            self.lost += 1
            if self.lost > WORKERS_LOST_ALLOWED:
                raise DemoFailed(f"workers leave by themselves; {self.stage.worker_log} has what they said")
            return self.new_worker()
        return worker

    def tell_killed(self, killed: Killed) -> None:
        self.killed.append(killed)
        recorded = self.stage.shell.show(RUN)["steps"]
        where = (
            f"{killed.after_s * 1000:.0f} ms into {numbered(killed.during, executions.read(self.stage.log))}"
        )
        self.screen.line("✗", f"killed worker {killed.pid} with SIGKILL, {where}", "bold red")
        promise = f"a new worker resumes: {recorded} outcomes are recorded, none of them runs again"
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
            at = numbered(first, entered)
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
        found = event["data"]
        assert isinstance(found, dict)
        if event["type"] == "progress":
            self.screen.progress(found["current"], found["total"], found["description"], found["phase"])
            self.plan_kills(found["total"])
        elif event["type"] == "log":
            self.screen.judged(found["message"])
        elif event["type"] == "step.finished" and found["name"] in ("prepare", "index", "baseline", "plan"):
            self.screen.line("·", f"{found['name']} recorded")
        elif event["type"] in ("warning", "checkpoint.corrupt", "step.failed"):
            self.screen.line("!", f"{event['type']}: {json.dumps(found)}", "yellow")

    def plan_kills(self, total: float | None) -> None:
        """The plan is known with the first total: now there is something to spread the kills over."""
        if total and not self.planned:
            self.planned = True
            began = {one.step: one.at for one in executions.read(self.stage.log)}
            tests_s = began["plan"] - began["baseline"]
            self.killer.kills = choose_kills(int(total), self.kills_wanted, tests_s=tests_s, seed=self.seed)


def cut_short(killed: Killed, first: Execution) -> bool:
    return (killed.during.step, killed.during.key) == (first.step, first.key)


def numbered(execution: Execution, entered: Sequence[Execution]) -> str:
    """`verify #31 (UP · flask/app.py)`: changes are tried in their order, so the log numbers them."""
    if execution.key is None:
        return execution.step
    keys = list(dict.fromkeys(one.key for one in entered if one.key is not None))
    rule, _, path = execution.key.partition(":")
    return f"{execution.step} #{keys.index(execution.key) + 1} ({rule} · {path})"


def leave(worker: subprocess.Popen[bytes]) -> None:
    """The worker ends by itself when nothing is left to do; one that does not is ended."""
    try:
        worker.wait(FAREWELL_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
