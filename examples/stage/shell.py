"""holdfast as a person uses it: its commands, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


class CommandFailed(Exception):
    """A holdfast command left with an unexpected code; the message holds what it said."""


@dataclass(frozen=True, slots=True)
class Shell:
    """The commands on one store, for one agent, named `FILE.py:NAME`."""

    store: str  # the path of a file, or a URL
    agent: str

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "holdfast", *arguments, "--store", self.store]

    def words(self, *arguments: str) -> str:
        """The command as a person would type it."""
        path = Path(self.store)
        near = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else self.store
        return " ".join(["holdfast", *arguments, "--store", near])

    def start(self, run_id: str, arguments: dict[str, object]) -> None:
        self.say("start", self.agent, "--id", run_id, "--input", json.dumps(arguments))

    def show(self, run_id: str) -> dict[str, object]:
        shown = json.loads(self.say("show", run_id, "--json"))
        assert isinstance(shown, dict)
        return shown

    def steps(self, run_id: str) -> list[dict[str, object]]:
        listed = json.loads(self.say("steps", run_id, "--json"))
        assert isinstance(listed, list)
        return listed

    def worker(self, log: Path) -> subprocess.Popen[bytes]:
        """A worker process that leaves when nothing is left to do. What it says goes to `log`."""
        with log.open("ab") as sink:
            return subprocess.Popen(
                self.command("worker", self.agent.rpartition(":")[0], "--until-idle"),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    def watch(self, run_id: str) -> subprocess.Popen[str]:
        """Every event of the run, a JSON line each, across the deaths of its workers."""
        return subprocess.Popen(
            self.command("watch", run_id, "--json"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def say(self, *arguments: str) -> str:
        ran = subprocess.run(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if ran.returncode:
            raise CommandFailed(
                f"{self.words(*arguments[:2])} left with {ran.returncode}: {ran.stderr.strip()}"
            )
        return ran.stdout
