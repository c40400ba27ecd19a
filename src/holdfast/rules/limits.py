"""What one run may use at most: checked when it is written, before any process is there to be bounded."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from holdfast.errors import UsageError
from holdfast.sizes import Size, size_bytes

MIN_CPU: Final = 0.01
"""A millisecond in each tenth of a second: the kernel's least quota."""

MAX_CPU: Final = 4_096.0
"""More cores than one machine has: what is larger was meant as "no limit", which is None."""

MIN_MEMORY_BYTES: Final = 24 * 1024 * 1024
"""An interpreter with holdfast dies in 16 MiB before it has said a word, and executes a step in 20 (measured); a little
more, or the limit would be a death sentence."""

MIN_DISK_BYTES: Final = 64 * 1024
"""Less is not a workspace: one page of a database and a log do not fit."""

MAX_PROCESSES: Final = 1 << 22
"""Linux has no more process numbers than that."""

MIN_OPEN_FILES: Final = 16
"""An interpreter with an event loop has a dozen open before it does anything."""

MAX_OPEN_FILES: Final = 1 << 20
"""Linux's own limit for one process (`fs.nr_open`), unless it was raised."""


LIMITS: Final = ("cpu", "memory", "disk", "processes", "open_files")
"""What can be limited, in the order in which it is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run and every process it starts may use together; None: no limit.

    `cpu` in cores (0.5: half of one). `memory` is the working set of all its processes, `disk` what its workspace
    holds, and the length of any one file; both in bytes, or as "200MB", "1GiB", and they read as bytes afterwards.
    `processes` is at one time, threads counted where the kernel counts (it does in a control group). `open_files` is
    for each process. Raises UsageError for what cannot be meant. What enforces each one depends on the machine:
    `holdfast doctor` tells, and `docs/guide/limits-of-a-run.md`.
    """

    cpu: float | None = None
    memory: Size | None = None
    disk: Size | None = None
    processes: int | None = None
    open_files: int | None = None

    def __post_init__(self) -> None:
        if self.cpu is not None:
            _check_cpu(self.cpu)
        for name, least in (("memory", MIN_MEMORY_BYTES), ("disk", MIN_DISK_BYTES)):
            _set_size(self, name, least)
        _check_count("processes", self.processes, 1, MAX_PROCESSES)
        _check_count("open_files", self.open_files, MIN_OPEN_FILES, MAX_OPEN_FILES)

    @property
    def memory_bytes(self) -> int | None:
        """`memory` as a number."""
        return None if self.memory is None else size_bytes(self.memory)

    @property
    def disk_bytes(self) -> int | None:
        """`disk` as a number."""
        return None if self.disk is None else size_bytes(self.disk)

    @property
    def asked(self) -> tuple[str, ...]:
        """The names of the limits that are set, in their order."""
        return tuple(name for name in LIMITS if getattr(self, name) is not None)


def _check_cpu(cpu: float) -> None:
    if isinstance(cpu, bool) or not math.isfinite(cpu) or not MIN_CPU <= cpu <= MAX_CPU:
        raise UsageError(f"Limits(cpu={cpu!r}): a number of cores from {MIN_CPU} to {MAX_CPU:.0f}, or None")


def _set_size(limits: Limits, name: str, least: int) -> None:
    """Two ways to write one size are one value."""
    given: Size | None = getattr(limits, name)
    if given is None:
        return
    try:
        count_bytes = size_bytes(given)
    except UsageError as error:
        raise UsageError(f"Limits({name}={given!r}): {error}") from error
    if count_bytes < least:
        raise UsageError(f"Limits({name}={given!r}): {least} bytes at least, or None for no limit")
    object.__setattr__(limits, name, count_bytes)


def _check_count(name: str, count: int | None, least: int, most: int) -> None:
    if count is not None and (type(count) is not int or not least <= count <= most):
        raise UsageError(f"Limits({name}={count!r}): a whole number from {least} to {most}, or None")


NO_LIMITS: Final = Limits()


def limits_of(given: Mapping[str, float | int | str]) -> Limits:
    """Limits by their names, as a person types them or as they stand in an input: `{"memory": "200MB", "cpu": "0.5"}`.
    Raises UsageError, with what was meant if that can be guessed."""
    read: dict[str, Any] = {}
    for name, value in given.items():
        if name not in LIMITS:
            near = difflib.get_close_matches(name.replace("-", "_"), LIMITS, n=1)
            meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(LIMITS)}"
            raise UsageError(f"there is no limit {name!r}: {meant}")
        read[name] = _read(name, value)
    return Limits(**read)


def _read(name: str, value: float | int | str) -> float | int | str:
    if name in ("memory", "disk"):
        if isinstance(value, float):
            raise UsageError(f"the limit {name}={value!r}: write whole bytes, or a size such as '200MB'")
        return value
    if not isinstance(value, str):
        return value
    try:
        return float(value) if name == "cpu" else int(value)
    except ValueError as error:
        kind = "a number of cores, as in cpu=0.5" if name == "cpu" else "a whole number"
        raise UsageError(f"the limit {name}={value!r}: write {kind}") from error
