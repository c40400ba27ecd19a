"""Makes .venv: the development environment, from pip alone, with every package pinned by hash.

Run by tools/setup.sh, with Python 3.11 or newer. Quick when nothing changed: the stamp in .venv holds a
digest of what the environment is made from. uv does the installing; where it cannot (no wheel of uv for
this machine, or an index that only pip knows), pip does the same from the same locks, slower.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".holdfast-setup"
LOCK = ROOT / "requirements" / "dev.txt"
UV_LOCK = ROOT / "requirements" / "uv.txt"
PROJECT = ROOT / "pyproject.toml"


def main() -> int:
    with (ROOT / ".venv.lock").open("w") as lock:  # two makes side by side build one environment
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_current():
            return 0
        try:
            build()
        except subprocess.CalledProcessError as error:
            return fail(
                f"`{' '.join(map(str, error.cmd))}` ended with {error.returncode}; its message is above"
            )
    return 0


def is_current() -> bool:
    return STAMP.exists() and works(PYTHON) and STAMP.read_text() == digest()


def works(python: Path) -> bool:
    asks = "import importlib.util, sys; sys.exit(importlib.util.find_spec('holdfast') is None)"
    return python.exists() and subprocess.run([python, "-c", asks], capture_output=True).returncode == 0


def digest() -> str:
    """What the environment is made from: the locks, the project's table, this file, and the place of it all.

    Scripts in .venv name the place. Settings of linters are no part of it: changing them installs nothing.
    """
    whole = hashlib.sha256(str(VENV).encode())
    for path in (LOCK, UV_LOCK, Path(__file__)):
        whole.update(path.read_bytes())
    tables = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    whole.update(json.dumps([tables["build-system"], tables["project"]], sort_keys=True).encode())
    return whole.hexdigest()


def build() -> None:
    if not is_usable_base():
        make_venv()
    STAMP.unlink(missing_ok=True)
    environment = uv_environment()
    if not (has_uv() and install_with_uv(environment)):
        say("uv cannot install here; pip does it, which takes longer")
        install_with_pip()
    STAMP.write_text(digest())
    say(f"ready: .venv, Python {sys.version.split()[0]}")


def is_usable_base() -> bool:
    """An environment begun by the same minor version of Python can be brought up to date in place."""
    if not PYTHON.exists():
        return False
    asked = [PYTHON, "-c", "import sys; print(sys.version_info[:2] + (sys.prefix,))"]
    answer = subprocess.run(asked, capture_output=True, text=True)
    return answer.stdout.strip() == str((*sys.version_info[:2], str(VENV)))


def make_venv() -> None:
    base = getattr(sys, "_base_executable", sys.executable)  # a venv made from inside a venv would lean on it
    say(f"making .venv with {base}")
    if VENV.exists():
        shutil.rmtree(VENV)
    with_pip = subprocess.run([base, "-m", "venv", VENV], capture_output=True, text=True)
    if with_pip.returncode:  # Debian keeps ensurepip in a package of its own; the system's pip can stand in
        shutil.rmtree(VENV, ignore_errors=True)
        run(base, "-m", "venv", "--without-pip", VENV)


def pip_command() -> list[str | Path]:
    if subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return [PYTHON, "-m", "pip"]
    base = getattr(sys, "_base_executable", sys.executable)
    return [base, "-m", "pip", "--python", PYTHON]


def pip_install(*arguments: str | Path) -> None:
    run(*pip_command(), "install", "--quiet", "--disable-pip-version-check", "--no-input", *arguments)


def has_uv() -> bool:
    say("installing uv into .venv")
    try:
        pip_install("--require-hashes", "--only-binary", ":all:", "-r", UV_LOCK)
    except subprocess.CalledProcessError:
        return False
    return True


def uv_environment() -> dict[str, str]:
    """uv's surroundings: the machine's certificates, pip's index where one is set, a cache it can write."""
    environment = dict(os.environ)
    environment["VIRTUAL_ENV"] = str(VENV)
    environment.setdefault("UV_SYSTEM_CERTS", "1")
    environment.setdefault("UV_PYTHON_DOWNLOADS", "never")
    index = environment.get("PIP_INDEX_URL") or pip_setting("global.index-url")
    if index:
        environment.setdefault("UV_DEFAULT_INDEX", index)
    if not cache_is_writable(environment):
        environment["UV_CACHE_DIR"] = str(VENV / ".uv-cache")
    return environment


def pip_setting(name: str) -> str:
    answer = subprocess.run([*pip_command(), "config", "get", name], capture_output=True, text=True)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def cache_is_writable(environment: dict[str, str]) -> bool:
    home = environment.get("HOME")
    caches = environment.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else "/nowhere")
    cache = Path(environment.get("UV_CACHE_DIR") or f"{caches}/uv")
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(cache, os.W_OK)


def install_with_uv(environment: dict[str, str]) -> bool:
    say("installing the locked packages (340 MB on disk)")
    uv = (VENV / "bin" / "uv", "pip", "install", "--quiet", "--python", PYTHON)
    try:
        run(*uv, "--require-hashes", "--only-binary", ":all:", "-r", LOCK, env=environment)
        run(*uv, "--no-deps", "--no-build-isolation", "--editable", ROOT, env=environment)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def install_with_pip() -> None:
    pip_install("--require-hashes", "--only-binary", ":all:", "-r", LOCK)
    os.environ["PATH"] = (
        f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"  # the build backend's
    )
    pip_install("--no-deps", "--no-build-isolation", "--editable", ROOT)


def run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    subprocess.run(command, check=True, env=env, stdout=sys.stderr)


def say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> int:
    say(text)
    return 1


if __name__ == "__main__":
    sys.exit(main())
