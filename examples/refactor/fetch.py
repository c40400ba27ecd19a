"""Sets the demo up: a real codebase from the package index, in an environment of its own, every file locked by hash.

Safe to kill and to repeat: a part that is finished is marked or renamed into place, anything else is made again. When
everything is there, it takes a few milliseconds.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements")
LOCKS = {
    "bootstrap.txt": "pip and setuptools",
    "environment.txt": "ruff, libcst, pytest and the libraries of Flask's time",
}
CODEBASE = "Flask-1.0.4"
SUPPORTED = ((3, 11), (3, 12), (3, 13))  # Flask 1.0.4 uses what Python 3.14 has removed
NEWEST = "3.13"
TIME_LIMIT_S = 900

Say = Callable[[str], None]


class SetupFailed(Exception):
    """The demo cannot be set up; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the demo works on."""

    codebase: Path
    python: Path


def fetch(folder: Path, say: Say) -> Fetched:
    """Make sure that the environment and the codebase are there; say each part as it begins. Raises SetupFailed."""
    python = environment(folder / "environment", say)
    codebase = folder / "codebase" / CODEBASE
    if not codebase.exists():
        say(f"fetching {CODEBASE} by name from the package index")
        unpack(download(python, folder / "download"), codebase)
    return Fetched(codebase, python)


def environment(folder: Path, say: Say) -> Path:
    """The environment's Python. Made whole, or again: a mark with the locks' digest comes last."""
    python = folder / "bin" / "python"
    mark = folder / ".complete"
    if mark.exists() and mark.read_text() == digest_of_locks() and python.exists():
        return python
    uv, chosen = find_uv(), choose_python()
    if uv is not None:
        try:
            build(folder, uv, chosen or NEWEST, say)
        except SetupFailed:
            if chosen is None:
                raise
            say("uv could not do it; pip tries")  # its settings (mirrors, certificates) are not pip's
            uv = None
    if uv is None:
        if chosen is None:
            raise SetupFailed(no_python())
        build(folder, None, chosen, say)
    mark.write_text(digest_of_locks())
    return python


def build(folder: Path, uv: str | None, chosen: str, say: Say) -> None:
    """Make the environment and install what is locked, with uv or with pip alone."""
    shutil.rmtree(folder, ignore_errors=True)
    python = str(folder / "bin" / "python")
    say(f"making an environment with Python {version_in_words(chosen)}")
    run(
        [uv, "venv", "--quiet", "--python", chosen, str(folder)]
        if uv
        else [chosen, "-m", "venv", str(folder)]
    )
    installer = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    for lock, what in LOCKS.items():
        say(f"installing {what}, locked by hash")
        # What has no wheel is built with the locked setuptools, so that nothing comes in without a hash.
        own_builds = ["--no-build-isolation"] if lock == "environment.txt" else []
        run([*installer, "--quiet", "--require-hashes", *own_builds, "-r", str(REQUIREMENTS / lock)])


def download(python: Path, folder: Path) -> Path:
    """The source archive; pip checks its hash, and puts it there whole or not at all."""
    flags = ["--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
    lock = str(REQUIREMENTS / "codebase.txt")
    run([str(python), "-m", "pip", "download", *flags, "--dest", str(folder), "-r", lock])
    archives = list(folder.glob("*.tar.gz"))
    if len(archives) != 1:
        raise SetupFailed(
            f"expected one archive in {folder}, found {len(archives)}; remove the folder and try again"
        )
    return archives[0]


def unpack(archive: Path, target: Path) -> None:
    """Unpack beside the target and rename: the codebase is whole or not there."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(archive) as packed:
        if hasattr(tarfile, "data_filter"):  # nothing outside the folder; its hash was checked in any case
            packed.extractall(partial, filter="data")
        else:
            packed.extractall(partial)
    os.replace(partial / target.name, target)
    shutil.rmtree(partial)


def find_uv() -> str | None:
    """uv beside the Python that runs this, or on the path; pip does as well, only slower."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def choose_python() -> str | None:
    """A Python that the codebase works on: this one, else the newest on the path that starts."""
    if sys.version_info[:2] in SUPPORTED:
        return sys.executable
    names = (f"python{major}.{minor}" for major, minor in reversed(SUPPORTED))
    return next((found for name in names for found in on_path(name) if starts(found)), None)


def on_path(name: str) -> Iterator[str]:
    for folder in os.get_exec_path():
        if (found := Path(folder, name)).exists():
            yield str(found)


def starts(python: str) -> bool:
    """Version managers leave names on the path that start nothing."""
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def no_python() -> str:
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return (
        f"{CODEBASE} runs on Python 3.11 to 3.13; this is {here}, and no other was found on the path. Install one of "
        "them, or uv, which fetches one; or refactor a codebase of your own: "
        "python -m examples.refactor.demo --codebase PATH"
    )


def version_in_words(python: str) -> str:
    if python == NEWEST:
        return python
    ask = "import platform; print(platform.python_version())"
    return subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()


def digest_of_locks() -> str:
    locks = sorted(REQUIREMENTS.glob("*.txt"))
    return hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()


def run(command: list[str]) -> None:
    """Run a command of the setup; what it said is shown only when it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIME_LIMIT_S,
        )
    except subprocess.TimeoutExpired as late:
        raise SetupFailed(f"{' '.join(command)} took longer than {TIME_LIMIT_S} s; try again") from late
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise SetupFailed(f"{' '.join(command)} failed with {done.returncode}:\n{said}")
