"""The command that starts a command inside a group: a shell of a few lines that places itself and becomes it, or, where
there is no group to be placed in, a warden above it."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from holdfast import warden
from holdfast.rules.limits import Limits
from holdfast.throttle.group import LAUNCH_FAILED

SHELL: Final = "/bin/sh"
"""Where it is not there, no process can be placed: the ground is found to be none, and wardens need no shell."""
_BLOCK: Final = 512  # what POSIX counts file lengths in
_PLACE: Final = f"""n=$1; shift
while [ "$n" -gt 0 ]; do
  echo 0 > "$1" || exit {LAUNCH_FAILED}
  shift; n=$((n - 1))
done
"""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

DATA_FACTOR: Final = 2
"""How far RLIMIT_DATA stands above the memory limit. It counts what is reserved, stacks of threads too, and an honest
program reserves more than it touches; it is the wall against one huge allocation between two looks."""


def in_groups(
    command: Sequence[str], procs: Iterable[Path], limits: Limits, *, data_bytes: int | None = None
) -> list[str]:
    """`command`, started in the control groups with these `cgroup.procs`."""
    files = [str(file) for file in procs]
    script = _PLACE + _rlimits(limits, data_bytes) + 'exec "$@"'
    return [SHELL, "-c", script, "holdfast-launch", str(len(files)), *files, *command]


def under_warden(command: Sequence[str], limits: Limits, linger_s: float) -> list[str]:
    """`command`, started below a warden of its own, which nothing that it starts can leave."""
    memory = limits.memory_bytes
    data_bytes = None if memory is None or sys.platform != "linux" else memory * DATA_FACTOR
    wanted: dict[str, float | None] = {
        "open_files": limits.open_files,
        "disk": None if limits.disk_bytes is None else limits.disk_bytes // _BLOCK * _BLOCK,
        "data": data_bytes,
        "linger": linger_s or None,
    }
    settings = ",".join(f"{name}={value}" for name, value in wanted.items() if value is not None)
    return [sys.executable, "-I", "-S", str(Path(warden.__file__)), settings, *command]


def kept_whole(command: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """`command`, with what a shell would drop of the environment on the way: names that are none of its variables."""
    odd = [f"{name}={value}" for name, value in environ.items() if not _NAME.fullmatch(name)]
    tool = shutil.which("env") if odd and "=" not in command[0] else None
    return list(command) if tool is None else [tool, "--", *odd, *command]


def _rlimits(limits: Limits, data_bytes: int | None) -> str:
    """A limit that is above the one that holds already cannot be set, and need not be."""
    wanted = [("n", limits.open_files)]
    wanted.append(("f", None if limits.disk_bytes is None else limits.disk_bytes // _BLOCK))
    wanted.append(("d", None if data_bytes is None else data_bytes // 1024))
    return "".join(f"ulimit -{letter} {value} 2>/dev/null\n" for letter, value in wanted if value is not None)
