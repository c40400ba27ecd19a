"""The command that starts a command inside a group: a shell of a few lines that places itself and becomes it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from holdfast.rules.limits import Limits
from holdfast.throttle.group import LAUNCH_FAILED

_BLOCK: Final = 512  # what POSIX counts file lengths in
_PLACE: Final = f"""n=$1; shift
while [ "$n" -gt 0 ]; do
  echo 0 > "$1" || exit {LAUNCH_FAILED}
  shift; n=$((n - 1))
done
"""
_INIT: Final = Path(__file__).with_name("init.py")

DATA_FACTOR: Final = 2
"""How far RLIMIT_DATA stands above the memory limit. It counts what is reserved, stacks of threads too, and an honest
program reserves more than it touches; it is the wall against one huge allocation between two looks."""


def in_groups(
    command: Sequence[str], procs: Iterable[Path], limits: Limits, *, data_bytes: int | None = None
) -> list[str]:
    """`command`, started in the control groups with these `cgroup.procs`."""
    files = [str(file) for file in procs]
    script = _PLACE + _rlimits(limits, data_bytes) + 'exec "$@"'
    return ["/bin/sh", "-c", script, "holdfast-launch", str(len(files)), *files, *command]


def under_init(command: Sequence[str], limits: Limits) -> list[str]:
    """`command`, started below an init of its own, which nothing that it starts can leave."""
    memory = limits.memory_bytes
    data_bytes = None if memory is None or sys.platform != "linux" else memory * DATA_FACTOR
    inner = [sys.executable, "-I", "-S", str(_INIT), *command]
    return in_groups(inner, (), limits, data_bytes=data_bytes)


def _rlimits(limits: Limits, data_bytes: int | None) -> str:
    """A limit that is above the one that holds already cannot be set, and need not be."""
    wanted = [("n", limits.open_files)]
    wanted.append(("f", None if limits.disk_bytes is None else limits.disk_bytes // _BLOCK))
    wanted.append(("d", None if data_bytes is None else data_bytes // 1024))
    return "".join(f"ulimit -{letter} {value} 2>/dev/null\n" for letter, value in wanted if value is not None)
