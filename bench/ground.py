"""What every benchmark stands on: folders on one file system, fresh processes, the peers' environment."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
CHECKOUT = BENCH.parent
HOME = CHECKOUT / ".bench"
PATIENCE_S = 600.0


class Broken(Exception):
    """A contender could not do its work: the one reason to end with another status than 0."""


@dataclass(frozen=True, slots=True)
class Ground:
    """How often, how large, with or without peers; makes folders and starts contenders."""

    repeats: int
    quick: bool
    with_peers: bool
    server: str | None = None
    """The URL of a PostgreSQL server, when that is what is measured."""

    def say(self, text: str) -> None:
        """Progress, for whoever waits."""
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder beside the checkout's files, gone afterwards."""
        HOME.mkdir(exist_ok=True)
        (HOME / ".gitignore").write_text("*\n")
        made = Path(tempfile.mkdtemp(prefix="run-", dir=HOME))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def contend(self, module: str, *arguments: str) -> dict[str, Any]:
        """Run `python -m bench.contenders.<…>` in a fresh process on an empty folder; its figures."""
        with self.folder() as folder:
            return ask(sys.executable, module, *arguments, "--folder", str(folder))

    def contend_on_server(self, module: str, *arguments: str) -> dict[str, Any]:
        """The same with `--store URL`: an empty database of the server of this run."""
        from bench import databases  # only where it is measured: the driver is an extra

        if self.server is None:
            raise Broken("no server was started")
        with self.folder() as folder, databases.fresh(self.server) as url:
            return ask(sys.executable, module, *arguments, "--store", url, "--folder", str(folder))

    def contend_peer(self, module: str, *arguments: str) -> dict[str, Any]:
        """The same for a peer, by the peers' Python."""
        with self.folder() as folder:
            return ask(str(peers_python()), module, *arguments, "--folder", str(folder))


def environment() -> dict[str, str]:
    """Children find the bench's modules, and nobody phones home. Compiled modules are kept, as everywhere: a shell that
    forbids it would have every process compile all that it imports."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **inherited,
        "PYTHONPATH": str(CHECKOUT),
        "DO_NOT_TRACK": "1",
        "LANGSMITH_TRACING": "false",
        "PYTHONWARNINGS": "ignore",
    }


def ask(python: str, module: str, *arguments: str) -> dict[str, Any]:
    """Run a module to its end; its last line of stdout is the answer. Raises `Broken`."""
    os.sync()  # what an earlier contender left to write back is not this one's to pay
    command = [python, "-m", module, *arguments]
    try:
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired as too_long:
        raise Broken(f"{module} did not end within {PATIENCE_S:.0f} s") from too_long
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise Broken(f"{module} {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def peers_python() -> Path:
    """The Python of the peers' environment `.bench/venv`, made from the locked requirements where missing."""
    locked = BENCH / "peers" / "requirements.txt"
    home = HOME / "venv"
    python = home / "bin" / "python"
    wanted = hashlib.sha256(locked.read_bytes() + sys.version.encode()).hexdigest()
    stamp = home / "made-of"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print("making the peers' environment in .bench/venv", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    HOME.mkdir(exist_ok=True)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    base = getattr(sys, "_base_executable", sys.executable)
    if uv is not None:
        _build([uv, "venv", "--quiet", "--python", base, str(home)])
        _build(
            [uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", str(locked)]
        )
    else:
        _build([base, "-m", "venv", str(home)])
        _build([str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(locked)])
    stamp.write_text(wanted)
    return python


def _build(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Broken(
            f"the peers' environment could not be made ({' '.join(command[:4])} …):\n{done.stderr[-2000:]}\n"
            "Without a package index, run with --no-peers."
        )
