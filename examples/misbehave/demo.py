"""`make demo WORKLOAD=misbehave`: runs that take too much are throttled, parked and resumed, and it is proved.

One worker executes all four. This process only watches them through the shell's commands, answers for the person who
looks after them, and counts from outside what they use.
"""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

import click
import psutil
from rich.console import Console
from rich.text import Text

from examples.misbehave import agent
from examples.misbehave.meter import Meter
from examples.misbehave.proof import Witnessed, proofs
from examples.stage import executions
from examples.stage.proof import Proof, proven
from examples.stage.screen import Screen
from examples.stage.shell import ROOT, CommandFailed, Shell
from examples.stage.show import DemoFailed, leave

PLAIN_WIDTH = 140  # where nothing says how wide a line may be
FOLDER = ROOT / ".demo" / "misbehave"
AGENTS = Path(__file__).with_name("agent.py")
RUNS = ("hoarder", "spinner", "spender", "repeater")
MEANT = {
    "hoarder": f"keeps every page that it reads in memory; it may have {agent.MEMORY}",
    "spinner": f"starts {agent.SPINNERS} tools that never rest; it may have {agent.CORES} of a core",
    "spender": f"writes a book of ${agent.CHAPTERS * agent.PRICE_USD:.2f}; its budget is ${agent.BUDGET_USD:.2f}",
    "repeater": "searches for the same again and again",
}
CATCH_UP_S = 30.0
WAIT_S = 180.0  # for each act: three times what it takes on a slow machine
ANSWERS = (
    ("hoarder", "resume", "hoarder"),
    ("spender", "budget", "raise", "spender", "--usd", f"{agent.BUDGET_USD:.2f}"),
    ("repeater", "cancel", "repeater"),
)


@dataclass(slots=True)
class Stage:
    """The store, the logs of the bodies, and the events of all four runs as they come."""

    folder: Path
    screen: Screen
    events: queue.SimpleQueue[dict[str, object]] = field(default_factory=queue.SimpleQueue)
    rungs: list[str] = field(default_factory=list)
    nudged_after: list[int] = field(default_factory=list)
    parked_at: float = 0.0
    states: dict[str, str] = field(default_factory=dict)

    def shell(self, run: str) -> Shell:
        return Shell(str(self.folder / "holdfast.db"), f"{AGENTS}:{run}")

    def log(self, run: str) -> Path:
        return self.folder / f"{run}.log"

    @property
    def pids(self) -> Path:
        return self.folder / "spinner.pids"

    @property
    def worker_log(self) -> Path:
        return self.folder / "worker.log"

    def drain(self) -> None:
        """Tell of what has happened since."""
        while not self.events.empty():
            self.tell(self.events.get())

    def tell(self, event: dict[str, object]) -> None:
        run, found = str(event["run"]), event["data"]
        assert isinstance(found, dict)
        about, _, state = str(event["type"]).partition(".")
        if about == "run":
            self.states[run] = state
        match event["type"]:
            case "warning" if found.get("code") == "limits":
                self.rungs.append(found["rung"])
                self._line(run, "!", f"{found['rung']}: {found['message']}", "yellow")
            case "loop.nudged":
                self.nudged_after.append(found["turns"])
                self._line(run, "!", f"told after {found['turns']} turns: {found['message']}", "yellow")
            case "budget.soft":
                self._line(run, "!", "80 % of its budget is used", "yellow")
            case "run.waiting":
                self._line(run, "✗", f"waits: {found['reason']}", "bold red")
                if run == "hoarder":
                    self.parked_at = datetime.fromisoformat(str(event["at"])).timestamp()
            case "run.running" | "run.succeeded" | "run.failed" | "run.cancelled":
                self._line(run, "·", state, "cyan")

    def _line(self, run: str, mark: str, text: str, style: str) -> None:
        self.screen.line(mark, f"{run:<9} {text}", style)


@contextmanager
def watching(stage: Stage) -> Iterator[None]:
    """Every event of every run, from its first on, while this is open."""
    watchers = [stage.shell(run).watch(run) for run in RUNS]
    readers = [threading.Thread(target=_read, args=(one, stage), daemon=True) for one in watchers]
    for reader in readers:
        reader.start()
    try:
        yield
    finally:
        for watcher, reader in zip(watchers, readers, strict=True):
            watcher.kill()
            watcher.wait()
            reader.join()


def _read(watcher: subprocess.Popen[str], stage: Stage) -> None:
    assert watcher.stdout is not None
    with watcher.stdout:
        for line in watcher.stdout:
            stage.events.put(json.loads(line))


def set_stage(screen: Screen) -> Stage:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    stage = Stage(FOLDER, screen)
    for run in RUNS:
        name, value = ("pids", stage.pids) if run == "spinner" else ("log", stage.log(run))
        stage.shell(run).start(run, {name: str(value)})
        screen.line("·", f"{run:<9} {MEANT[run]}")
    return stage


def act(stage: Stage) -> None:
    """A worker executes whatever can be executed, and leaves."""
    worker = stage.shell(RUNS[0]).worker(stage.worker_log)
    ends_at = time.monotonic() + WAIT_S
    try:
        while worker.poll() is None:
            stage.drain()
            if time.monotonic() > ends_at:
                raise DemoFailed(f"not done within {WAIT_S:g} s; {stage.worker_log} has what the worker said")
            time.sleep(0.05)
    except BaseException:  # Ctrl-C, most of all: the demo is over, and so is its worker
        worker.terminate()
        raise
    finally:
        leave(worker)
    if worker.returncode:
        raise DemoFailed(f"the worker left with {worker.returncode}; {stage.worker_log} has what it said")
    catch_up(stage)


def catch_up(stage: Stage) -> None:
    """Read on until the watchers have told of each run what the store says of it."""
    ends_at = time.monotonic() + CATCH_UP_S
    for run in RUNS:
        stands = str(stage.shell(run).show(run)["state"])
        while stage.states.get(run) != stands:
            if time.monotonic() > ends_at:
                raise DemoFailed(f"`watch {run}` does not tell that it is {stands}")
            time.sleep(0.05)
            stage.drain()


def answer(stage: Stage) -> None:
    """What a person does about those that stand still: one command each."""
    for run, *words in ANSWERS:
        stage.shell(run).say(*words)
        stage.screen.line("↻", f"{run:<9} {stage.shell(run).words(*words)}", "cyan")


def perform(stage: Stage) -> list[Proof]:
    screen = stage.screen
    meter = Meter(stage.pids)
    measuring = meter.start()
    with watching(stage):
        screen.heading("All four at once, on one worker")
        act(stage)
        held_for = {run: str(stage.shell(run).show(run)["reason"]) for run in RUNS}
        before = len(executions.read(stage.log("spender")))
        screen.heading("A person looks after them")
        answer(stage)
        act(stage)
    meter.stop()
    measuring.join()
    scanned = executions.read(stage.log("hoarder"))
    processes = [*meter.known(), *sorted({one.pid for one in scanned})]
    seen = Witnessed(
        rungs=stage.rungs,
        held_for=held_for,
        ended={run: str(stage.shell(run).show(run)["state"]) for run in RUNS},
        scanned=scanned,
        parked_at=stage.parked_at,
        cores=meter.cores,
        measured_s=meter.measured_s,
        chapters_before=before,
        chapters=executions.read(stage.log("spender")),
        used_usd=used_usd(stage),
        nudged_after=stage.nudged_after,
        searches=executions.read(stage.log("repeater")),
        left=[pid for pid in processes if psutil.pid_exists(pid)],
    )
    return proofs(seen)


def used_usd(stage: Stage) -> float:
    budgets = json.loads(stage.shell("spender").say("budget", "show", "spender", "--json"))
    return float(next(one["used"] for one in budgets[0]["units"] if one["unit"] == "usd"))


def tell_end(stage: Stage, proved: list[Proof]) -> None:
    screen = stage.screen
    screen.heading("Proof")
    screen.console.print(proven(proved))
    screen.heading("Look around")
    for words in ("show hoarder", "watch hoarder", "budget show spender", "show repeater", "doctor"):
        line = f"  .venv/bin/{stage.shell('hoarder').words(*words.split())}"
        screen.console.print(Text(line), soft_wrap=True)
    screen.console.print()


@click.command()
@click.option(
    "--json", "as_json", is_flag=True, help="The proofs as JSON on stdout, everything else on stderr."
)
def main(as_json: bool) -> None:
    """Let four runs misbehave, and prove that each was held."""
    console = Console(stderr=as_json, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    screen = Screen(console)
    screen.heading("Four runs that misbehave")
    try:
        stage = set_stage(screen)
        proved = perform(stage)
    except (CommandFailed, DemoFailed) as failure:
        console.print(Text(f"demo: {failure}", style="bold red"), soft_wrap=True)
        sys.exit(1)
    tell_end(stage, proved)
    if as_json:
        print(json.dumps({"proofs": [asdict(one) for one in proved], "store": str(FOLDER)}, indent=2))
    sys.exit(0 if all(one.holds for one in proved) else 1)


if __name__ == "__main__":
    main()
